"""What the core may know of a job's work: all of it, an estimate, or nothing but the history of its family.

Times are compared as logarithms of seconds on a job's fastest flavor, so that jobs of one family and different sizes teach
each other. Rates are the measured ones in every mode.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from fabric.job import JobEstimate, JobId
from fabric.job_events import JobEstimated
from fabric.sim.engine import Beliefs, SimJob
from profiler.correction import outlived

Steps = Literal["known", "estimated", "unknown"]
STEPS: tuple[Steps, ...] = ("known", "estimated", "unknown")

ESTIMATE_LOG_SD = 0.5
REPORT_S = 60.0
PRIOR_S = 3600.0
PRIOR_LOG_SD = 1.5
PRIOR_WEIGHT = 3.0
"""So many finished jobs weigh as much as what was believed before."""
LEAST_LOG_CHANGE = 0.2


def beliefs_of(steps: Steps, seed: int) -> Beliefs | None:
    """None for `known`: every job then carries its own estimate."""
    if steps == "estimated":
        return Estimated(seed)
    return Unknown() if steps == "unknown" else None


class Estimated:
    """The total is told with a log-normal error; the job's first progress report carries the true one."""

    report_s = REPORT_S

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._reported: set[JobId] = set()

    def first(self, job: SimJob) -> JobEstimate:
        noise = random.Random(f"{self._seed}/{job.spec.job_id}").gauss(0.0, ESTIMATE_LOG_SD)
        return JobEstimate(job.work * math.exp(noise), job.true_rates, ESTIMATE_LOG_SD)

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        if job.spec.job_id in self._reported:
            return []
        self._reported.add(job.spec.job_id)
        return [JobEstimated(job.spec.job_id, JobEstimate(job.work, job.true_rates))]

    def ended(self, job: SimJob) -> list[JobEstimated]:
        return []


@dataclass(slots=True)
class _History:
    """Log seconds of finished jobs."""

    num: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, log_s: float) -> None:
        self.num += 1
        self.total += log_s
        self.squares += log_s * log_s

    def posterior(self, mean: float, var: float) -> tuple[float, float]:
        """Mean and variance after these, having believed `mean` and `var` before."""
        weight = PRIOR_WEIGHT + self.num
        after = (PRIOR_WEIGHT * mean + self.total) / weight
        spread = PRIOR_WEIGHT * (var + mean * mean) + self.squares
        return after, max(spread / weight - after * after, 0.01)


@dataclass(slots=True)
class _Belief:
    """Of one job: `mean` and `log_sd` of its log seconds when it was last thought about, and what the core was told."""

    job: SimJob
    mean: float
    log_sd: float
    told: float


@dataclass(slots=True)
class Unknown:
    """No total at all: the history of the job's family over that of all jobs, over a prior of an hour, a factor of 4.5 either way.
    A job that has outlived its estimate is expected to take the median of what is still possible."""

    report_s: float = REPORT_S
    _families: dict[str, _History] = field(default_factory=lambda: defaultdict(_History))
    _all: _History = field(default_factory=_History)
    _beliefs: dict[JobId, _Belief] = field(default_factory=dict)

    def first(self, job: SimJob) -> JobEstimate:
        mean, log_sd = self._expected(job)
        self._beliefs[job.spec.job_id] = _Belief(job, mean, log_sd, mean)
        return _estimate(job, mean, log_sd)

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        belief = self._beliefs[job.spec.job_id]
        median, log_sd = outlived(belief.mean, belief.log_sd, math.log(max(done / _fastest(job), 1e-9)))
        if abs(median - belief.told) < LEAST_LOG_CHANGE:
            return []
        belief.told = median
        return [JobEstimated(job.spec.job_id, _estimate(job, median, log_sd))]

    def ended(self, job: SimJob) -> list[JobEstimated]:
        log_s = math.log(job.work / _fastest(job))
        self._families[job.spec.family].add(log_s)
        self._all.add(log_s)
        del self._beliefs[job.spec.job_id]
        # The family has learnt much from one job; all others little, so they are thought about again ever more rarely.
        is_pool_news = self._all.num & (self._all.num - 1) == 0
        return list(self._news(b for b in self._beliefs.values() if is_pool_news or b.job.spec.family == job.spec.family))

    def _news(self, beliefs: Iterable[_Belief]) -> Iterable[JobEstimated]:
        for belief in beliefs:
            if belief.job.num_starts:
                continue
            belief.mean, belief.log_sd = self._expected(belief.job)
            if abs(belief.mean - belief.told) >= LEAST_LOG_CHANGE:
                belief.told = belief.mean
                yield JobEstimated(belief.job.spec.job_id, _estimate(belief.job, belief.mean, belief.log_sd))

    def _expected(self, job: SimJob) -> tuple[float, float]:
        mean, var = self._all.posterior(math.log(PRIOR_S), PRIOR_LOG_SD**2)
        family = self._families[job.spec.family]
        mean, var = family.posterior(mean, var)
        return mean, math.sqrt(var * (1.0 + 1.0 / (PRIOR_WEIGHT + family.num)))


def _fastest(job: SimJob) -> float:
    return max(job.true_rates.values())


def _estimate(job: SimJob, log_s: float, log_sd: float) -> JobEstimate:
    return JobEstimate(math.exp(log_s) * _fastest(job), job.true_rates, log_sd)
