"""What the cost planner knows of each job: how long and how dear each way is from now on, and by when it should be done.

Times are seconds from now. A deadline is aimed at a little early (rounding and re-planning eat slack), with doubtful work taken one
standard deviation longer. A job without a deadline, or that can no longer meet it, has a time by which it should be done all the same:
waiting for a cheap flavor is not for ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fabric.job import JobId, Option
from fabric.scheduler.cost_prices import missed_usd, usable, usd_per_s
from fabric.scheduler.problem import PlanJob, Problem

NEARLY_DONE_S = 120.0
"""A running job this close to its end is left alone: stopping it saves nothing."""
MARGIN_S = 300.0
MARGIN_FRAC = 0.01
MARGIN_RESTARTS = 5.0
PATIENCE = 10.0
"""A job without a deadline may wait for its cheapest flavor until this many times its fastest run after it was submitted."""
LEAST_WAIT_S = 3600.0
KEEP_S = 5.0
"""Even a free move counts as this much time of what is held: a plan that gains nothing changes nothing."""
SOONEST_FACTOR = 1.05
LATE_FACTOR = 3.0
"""Leaving a job undone when it is due counts as this many of its dearest runs."""
LEAST_RUN_S = 10.0
"""Shorter runs are planned as this long: a share of a slot must not vanish."""
FAR_S = 1e10


@dataclass(slots=True)
class Need:
    """`options[i]` takes `seconds[i]` (restart and lost work included) and costs `usd[i]` if all the rest is done with it.
    `held` indexes the option it runs with, -1: none. `due_s`: when it should be done. `is_due`: a deadline that can still be met.
    `late_usd`: what leaving all of it undone at `due_s` costs the plan.
    `keep_usd`: what stopping it now would lose.
    `pressure`: 1, growing for a job without a deadline, or past it, with the time that it has waited: nothing starves."""

    job: PlanJob
    options: tuple[Option, ...]
    seconds: tuple[float, ...]
    usd: tuple[float, ...]
    held: int
    due_s: float
    is_due: bool
    late_usd: float
    keep_usd: float
    pressure: float

    @property
    def fastest_s(self) -> float:
        return min(self.seconds)

    @property
    def urgency(self) -> float:
        """Share of the time until `due_s` that its fastest way takes, times `pressure`: 1 and more must run at once."""
        return self.pressure * self.fastest_s / max(self.due_s, 1e-3)


@dataclass(slots=True)
class Situation:
    """`fixed`: running jobs that stay as they are, with `fixed_s` how long; `free`: capacity beside them now. `needs`: all others."""

    fixed: dict[JobId, Option]
    fixed_s: dict[JobId, float]
    free: dict[str, float]
    needs: list[Need]
    price: dict[str, float]


def assess(problem: Problem) -> Situation:
    """Jobs that nothing in the pool could ever hold are left out."""
    price = usd_per_s(problem.usd_per_h, problem.capacity)
    found = Situation({}, {}, dict(problem.capacity), [], price)
    for job in [job for job in problem.jobs if not _stays(job, found)]:
        need = _need(job, problem.now_s, problem.capacity, price)
        if need is not None:
            found.needs.append(need)
    return found


def _stays(job: PlanJob, found: Situation) -> bool:
    """Take what a job that cannot or should not be moved holds out of the free capacity."""
    held = job.held
    if held is None:
        return False
    left_s = job.warmup_left_s + job.work / held.rate if held.rate > 0 else math.inf
    if job.is_movable and left_s > NEARLY_DONE_S:
        return False
    if found.free.get(held.flavor, 0.0) + 1e-9 < held.units:
        return False
    found.free[held.flavor] -= held.units
    found.fixed[job.job_id] = held
    found.fixed_s[job.job_id] = left_s
    return True


def _need(job: PlanJob, now_s: float, capacity: Mapping[str, float], price: Mapping[str, float]) -> Need | None:
    if job.held is not None and not job.is_movable:
        return None
    options, held = _ways(job, capacity)
    if not options:
        return None
    work = max(job.work, 1e-9)
    planned = work
    if job.deadline_s is not None and job.log_sd > 0:
        most = max(job.deadline_s - now_s, 0.0) * max(option.rate for option in options) * 0.95
        planned = max(work, min(work * math.exp(job.log_sd), most))
    lost = job.lost_work if held >= 0 else 0.0
    seconds, usd = [], []
    for number, option in enumerate(options):
        start_s = job.warmup_left_s if number == held else job.restart_s + lost / option.rate
        run_s = min(max(start_s + planned / option.rate, LEAST_RUN_S), FAR_S)
        seconds.append(run_s)
        usd.append(price[option.flavor] * option.units * run_s)
    keep_s = KEEP_S + job.restart_s + lost / options[held].rate
    keep_usd = price[options[held].flavor] * options[held].units * min(keep_s, FAR_S) if held >= 0 else 0.0
    due_s, is_due = _due(job, now_s, min(seconds), seconds[held] if held >= 0 else 0.0)
    pressure = _pressure(job, now_s, min(seconds))
    late_usd = min(LATE_FACTOR * job.weight * pressure * max(*usd, missed_usd(planned, options, price)), FAR_S)
    return Need(job, options, tuple(seconds), tuple(usd), held, min(due_s, FAR_S), is_due, max(late_usd, 1e-6), keep_usd, pressure)


def _ways(job: PlanJob, capacity: Mapping[str, float]) -> tuple[tuple[Option, ...], int]:
    """Usable options, those beaten by another on the same flavor (no slower, no larger) left out, and which one is held.

    The held one appears as it was granted (a plan that names it keeps the lease) unless its rate has been measured anew.
    """
    options = usable(job, capacity)
    held = job.held
    kept = []
    for option in options:
        if held is not None and option[:4] == held[:4]:
            continue
        if not any(_beats(other, option) for other in options):
            kept.append(option)
    if held is None or held.units > capacity.get(held.flavor, 0.0) + 1e-9:
        return tuple(kept), -1
    rate = next((option.rate for option in options if option[:4] == held[:4]), held.rate)
    if rate <= 0:
        return tuple(kept), -1
    return (held._replace(rate=rate), *kept), 0


def _beats(one: Option, other: Option) -> bool:
    if one.flavor != other.flavor or one.rate < other.rate or one.units > other.units:
        return False
    return (one.rate, -one.units, -one.shape, -one.num_bundles) > (other.rate, -other.units, -other.shape, -other.num_bundles)


def _due(job: PlanJob, now_s: float, fastest_s: float, held_s: float) -> tuple[float, bool]:
    """When it should be done, and whether that is a deadline that can be met. `held_s`: if it goes on as it runs (0: it does not run).

    Once patience is over it is due as soon as it can be; a due time that moves on would let it wait for ever.
    """
    soonest_s = fastest_s * SOONEST_FACTOR
    if job.deadline_s is None:
        patience_s = max(LEAST_WAIT_S, PATIENCE * fastest_s) / max(job.weight, 1e-3)
        return max(job.submitted_s + patience_s - now_s, soonest_s, held_s * SOONEST_FACTOR), False
    left_s = job.deadline_s - now_s
    if fastest_s > left_s + 1e-6:
        return soonest_s, False
    early_s = left_s - max(MARGIN_S, MARGIN_FRAC * left_s, MARGIN_RESTARTS * job.restart_s)
    return max(min(fastest_s, left_s), early_s), True


def _pressure(job: PlanJob, now_s: float, fastest_s: float) -> float:
    since_s = job.submitted_s if job.deadline_s is None else job.deadline_s
    return 1.0 + max(0.0, now_s - since_s) / (LEAST_WAIT_S + PATIENCE * fastest_s)
