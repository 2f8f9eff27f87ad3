"""What a simulated fabric believes of its jobs' speeds: predictions at first, then what each job's progress shows.

Steps are known and so is where a job can run; rates are not. The first progress report of a job on a flavor gives its rate there, as
measured; it corrects its like on that flavor and moves the forecasts for the others. One job of a type at a time, its scout, is planned
hopefully where it has not run, the others by the median: one of them is enough to learn from. All rates that are told are off by 0.1 % at
random: a plan turns on such trifles, so a figure is the mean of several seeds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from fabric.job import JobEstimate, JobId
from fabric.job_events import JobEstimated
from fabric.sim.engine import SimJob
from fabric.types import Flavor
from profiler.tables import gavel_row
from profiler.transfer import Forecast, Row, Transfer

LEAST_LOG_CHANGE = 0.02
"""Smaller changes of a rate are not told: each makes the scheduler plan anew."""
JITTER_LOG_SD = 0.001
HOPE_DEVIATIONS = 0.5
Way = tuple[int, str]
Prior = Callable[[str], tuple[str, Transfer]]
"""Job type -> the name of what is known of it, and the fit to that: types with one name share it."""


def hopeful(forecast: Forecast) -> float:
    """Seconds to plan with for a way that has not been measured: half a deviation under the median.

    What is planned by medians is never tried where the median is a little too high, and so never learnt; what is tried and found slower is
    left again (optimism in the face of uncertainty; on Gavel's traces it halves the regret of both cost and makespan).
    """
    return math.exp(forecast.mean_log - HOPE_DEVIATIONS * forecast.log_sd)


class Jitter:
    """A fixed random factor for every (task, flavor)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, row: Row) -> float:
        return math.exp(random.Random(f"{self._seed}/{row.task}/{row.flavor}").gauss(0.0, JITTER_LOG_SD))


class Known:
    """The true rates."""

    report_s = 60.0

    def __init__(self, seed: int) -> None:
        self._jitter = Jitter(seed)

    def first(self, job: SimJob) -> JobEstimate:
        return JobEstimate(job.work, {way: rate * self._jitter(row_of(job, way[1])) for way, rate in job.true_rates.items()})

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        return []

    def ended(self, job: SimJob) -> list[JobEstimated]:
        return []


class Predicted:
    """Rates that are predicted; single use. `is_corrected` False: measured progress is ignored. A job that can run on one flavor only is a
    probe, and its end tells the rate there."""

    report_s = 60.0

    def __init__(self, catalogue: Mapping[str, Flavor], prior: Prior, seed: int, *, is_corrected: bool, is_probing: bool) -> None:
        self._catalogue, self._prior, self._is_corrected, self.is_probing = catalogue, prior, is_corrected, is_probing
        self._jitter = Jitter(seed)
        self._fits: dict[str, Transfer] = {}
        self._measured: dict[tuple[str, str], float] = {}
        self._told: dict[JobId, Mapping[Way, float]] = {}
        self._active: dict[JobId, SimJob] = {}
        self._scouts: dict[str, JobId] = {}
        self.log_errors: list[float] = []
        """Of the median of every rate before anything has run."""

    def first(self, job: SimJob) -> JobEstimate:
        self._active[job.spec.job_id] = job
        for way, rate in job.true_rates.items():
            self.log_errors.append(self.forecast(row_of(job, way[1])).mean_log + math.log(rate))
        return self._estimate(job)

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        return self._learn(job, row_of(job, flavor))

    def _learn(self, job: SimJob, row: Row) -> list[JobEstimated]:
        if not self._is_corrected or (row.task, row.flavor) in self._measured:
            return []
        self._measured[row.task, row.flavor] = math.exp(-row.log_s)
        name, before = self._fit(job.spec.family)
        self._fits[name] = Transfer(self._catalogue, [*before.rows, row], spread=before.spread)
        alike = [other for other in self._active.values() if self._prior(other.spec.family)[0] == name]
        return [news for other in alike for news in self._news(other)]

    def ended(self, job: SimJob) -> list[JobEstimated]:
        del self._active[job.spec.job_id]
        self._scouts = {task: scout for task, scout in self._scouts.items() if scout != job.spec.job_id}
        if len(job.true_rates) > 1:
            return []
        return [news for _, flavor in job.true_rates for news in self._learn(job, row_of(job, flavor))]

    def _news(self, job: SimJob) -> list[JobEstimated]:
        told = self._told[job.spec.job_id]
        estimate = self._estimate(job)
        if all(abs(math.log(rate / told[way])) < LEAST_LOG_CHANGE for way, rate in estimate.rates.items()):
            self._told[job.spec.job_id] = told
            return []
        return [JobEstimated(job.spec.job_id, estimate)]

    def _estimate(self, job: SimJob) -> JobEstimate:
        rates = {way: self._rate(job, row_of(job, way[1])) for way in job.true_rates}
        self._told[job.spec.job_id] = rates
        fastest = row_of(job, max(rates, key=lambda way: rates[way])[1])
        log_sd = 0.0 if (fastest.task, fastest.flavor) in self._measured else self.forecast(fastest).log_sd
        return JobEstimate(job.work, rates, log_sd)

    def _rate(self, job: SimJob, row: Row) -> float:
        """Steps per second to plan with: what was measured, else a forecast, hopeful for the scout."""
        rate = self._measured.get((row.task, row.flavor))
        if rate is None:
            forecast = self.forecast(row)
            is_scout = self._scouts.setdefault(row.task, job.spec.job_id) == job.spec.job_id
            rate = 1.0 / hopeful(forecast) if is_scout else math.exp(-forecast.mean_log)
        return self._jitter(row) * rate

    def forecast(self, row: Row) -> Forecast:
        """Of what the row stands for; its own time is not looked at."""
        job_type = row.task.partition(" x")[0]
        return self._fit(job_type)[1].predict(row.task, row.family, row.flavor, log_size=row.log_size, dtype=row.dtype)

    def _fit(self, job_type: str) -> tuple[str, Transfer]:
        name, prior = self._prior(job_type)
        return name, self._fits.setdefault(name, prior)


def row_of(job: SimJob, flavor: str) -> Row:
    """The true row of the job there: what its steps show once it runs."""
    return gavel_row(job.spec.family, flavor, job.true_rates[0, flavor], gpus=job.spec.shapes[0].num_bundles)
