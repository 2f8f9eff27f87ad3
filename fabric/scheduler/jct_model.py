"""What the completion-time planners compute with: the problem as plain lists, one row per job that could run at all.

Invariants: every way of a job fits the capacity by itself; the way that a job holds is one of its ways; a job that may
not move has only that way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fabric.job import Option
from fabric.scheduler.jct_future import Table
from fabric.scheduler.problem import PlanJob, Problem

# A move that gains less than this is noise in the rates, so even a free restart counts as this long.
LEAST_RESTART_S = 1.0
# The next plan may undo a move, so giving up a lease counts for this many restarts more than it costs.
RELUCTANCE = 3.0
LEAST_LOG_SD = 0.05
STREAM_POWER = 0.9
# A job whose last moment to start is now weighs so many times more; it aims to end earlier by this part of its run time.
MOST_URGENT, DEADLINE_MARGIN = 10.0, 0.05
EPS = 1e-9
LEAST_RATE = 1e-100


class Way(NamedTuple):
    """One option of one job: index of its flavor, units held, work per second, and its place among the job's ways."""

    flavor: int
    units: float
    rate: float
    nth: int


@dataclass(slots=True)
class Model:
    """Row n of every list is one job. `held[n]` is the way that it holds; `work` is what is left, in the job's own unit,
    less where it is in doubt; `pinned` are the rows that may not move; `tail` is what the last completion weighs."""

    jobs: list[PlanJob]
    flavors: list[str]
    capacity: list[float]
    ways: list[list[Way]]
    options: list[list[Option]]
    work: list[float]
    weight: list[float]
    restart_s: list[float]
    held: list[Way | None]
    warmup_s: list[float]
    lost: list[float]
    pinned: list[int]
    tail: float = 0.0
    power: float = 1.0
    _table: Table | None = field(default=None, init=False)

    @property
    def table(self) -> Table:
        """The same as arrays, once nothing changes any more. Padded where a job has fewer ways than others."""
        if self._table is None:
            self._table = _table(self)
        return self._table


def _table(m: Model) -> Table:
    num, most = len(m.work), max(map(len, m.ways), default=1)
    flavor, units, rate = np.zeros((num, most), np.int64), np.zeros((num, most)), np.ones((num, most))
    for n, ways in enumerate(m.ways):
        for way in ways:
            flavor[n, way.nth], units[n, way.nth], rate[n, way.nth] = way.flavor, way.units, way.rate
    # A hair less: what ends exactly then must not be counted twice.
    least_s = (1 - EPS) * np.array([min(m.work[n] / way.rate for way in ways) for n, ways in enumerate(m.ways)])
    weight, by_time = np.array(m.weight), np.argsort(least_s, kind="stable")
    num_ways = np.array([len(ways) for ways in m.ways], np.int64)
    held = np.array([-1 if way is None else way.nth for way in m.held], np.int64)
    work, restart_s, warmup_s, lost = (np.array(values) for values in (m.work, m.restart_s, m.warmup_s, m.lost))
    nth = np.arange(most)
    is_held = nth == held[:, None]
    seconds = np.where(is_held, warmup_s[:, None] + work[:, None] / rate, restart_s[:, None] + (work + lost)[:, None] / rate)
    seconds[nth >= num_ways[:, None]] = np.inf
    return Table(
        np.array(m.capacity),
        num_ways,
        flavor,
        units,
        rate,
        seconds,
        work,
        weight,
        restart_s,
        held,
        warmup_s,
        lost,
        least_s[by_time],
        weight[by_time],
        (weight * least_s**m.power)[by_time],
        m.power,
        m.tail,
    )


def model(problem: Problem) -> Model:
    """Rows for the jobs that can run; a job without a way that fits the capacity has none."""
    flavors = sorted(problem.capacity)
    number = {flavor: n for n, flavor in enumerate(flavors)}
    out = Model([], flavors, [problem.capacity[f] + EPS for f in flavors], [], [], [], [], [], [], [], [], [])
    for job in problem.jobs:
        _add(out, job, number)
    _add_urgency(out, problem.now_s)
    _add_reluctance(out)
    if len({job.submitted_s for job in problem.jobs}) > 1:
        out.power = STREAM_POWER
    return out


def _add_urgency(m: Model, now_s: float) -> None:
    """A job with a deadline weighs more the nearer the last moment to start it is, on the scale of the time that all known work takes;
    one that cannot be in time any more weighs as if it had none.

    Source: the apparent tardiness cost rule (Vepsalainen and Morton 1987).
    """
    if not any(job.deadline_s is not None for job in m.jobs):
        return
    least_s = [min(m.work[n] / way.rate for way in ways) for n, ways in enumerate(m.ways)]
    demand = sum(min(m.work[n] / way.rate * way.units for way in ways) for n, ways in enumerate(m.ways))
    horizon_s = demand / max(sum(m.capacity), EPS)
    for n, job in enumerate(m.jobs):
        if job.deadline_s is not None:
            margin_s = least_s[n] * (DEADLINE_MARGIN + job.log_sd) + (m.restart_s[n] if m.held[n] is None else 0.0)
            slack_s = job.deadline_s - now_s - least_s[n] - margin_s
            if slack_s + margin_s >= 0:
                m.weight[n] *= 1.0 + MOST_URGENT * math.exp(-max(slack_s, 0.0) / max(horizon_s, least_s[n], EPS))


def _add_reluctance(m: Model) -> None:
    for n, way in enumerate(m.held):
        if way is not None:
            m.lost[n] += RELUCTANCE * m.restart_s[n] * way.rate


def doubt(log_sd: float) -> float:
    """What a lognormal size counts for beside its mean: the least time spent per completion, when one may give up on it.

    Source: the Gittins index of a job that has not run; giving up before half the median is not considered.
    """
    if log_sd <= LEAST_LOG_SD:
        return 1.0
    mean, best = math.exp(log_sd**2 / 2), math.inf
    for step in range(-1, 6):
        give_up = 2.0 ** (step * max(log_sd, 1.0) / 2)
        z = math.log(give_up) / log_sd
        done = _normal(z)
        best = min(best, (mean * _normal(z - log_sd) + give_up * (1 - done)) / done)
    return min(1.0, best / mean)


def _normal(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def _add(out: Model, job: PlanJob, number: dict[str, int]) -> None:
    options, held_at = _options(job, number, out.capacity)
    if not options:
        return
    ways = [Way(number[o.flavor], o.units, rate, n) for n, (o, rate) in enumerate(options)]
    if held_at is not None and not job.is_movable:
        ways, held_at = [ways[held_at]], 0
        options = [options[ways[0].nth]]
        ways = [ways[0]._replace(nth=0)]
        out.pinned.append(len(out.jobs))
    out.jobs.append(job)
    out.ways.append(ways)
    out.options.append([o for o, _ in options])
    out.work.append(max(job.work, 0.0) * doubt(job.log_sd))
    out.weight.append(max(job.weight, EPS))
    out.restart_s.append(max(job.restart_s, LEAST_RESTART_S))
    out.held.append(None if held_at is None else ways[held_at])
    out.warmup_s.append(job.warmup_left_s if held_at is not None else 0.0)
    out.lost.append(max(job.lost_work, 0.0) if held_at is not None else 0.0)


def _options(job: PlanJob, number: dict[str, int], capacity: list[float]) -> tuple[list[tuple[Option, float]], int | None]:
    """The ways that fit, each with its rate, and which of them is held. The lease's own object stands for the held one."""
    found: list[tuple[Option, float]] = []
    held_at: int | None = None
    for option in job.options:
        if not _fits(option, number, capacity):
            continue
        if job.held is not None and option[:3] == job.held[:3] and held_at is None:
            held_at = len(found)
            found.append((job.held, option.rate))
        else:
            found.append((option, option.rate))
    if job.held is not None and held_at is None and _fits(job.held, number, capacity):
        held_at = len(found)
        found.append((job.held, job.held.rate))
    return found, held_at


def _fits(option: Option, number: dict[str, int], capacity: list[float]) -> bool:
    at = number.get(option.flavor)
    return at is not None and option.units <= capacity[at] and option.rate > LEAST_RATE and math.isfinite(option.rate)
