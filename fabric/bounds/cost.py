"""The least that a set of jobs can cost on a pool when every deadline is met: no schedule, not even one that knows the future,
is cheaper.

A linear program over the intervals between arrivals and deadlines: the time of each job on each option, one option of a job at a
time, capacity kept, the work done by the deadline. Jobs may share and move freely in it. A job without a deadline costs its
cheapest option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fabric.job import Option
from fabric.scheduler.cost_prices import missed_usd, usable, usd_per_s
from fabric.scheduler.lp import Floats, LinearProgram, solve
from fabric.scheduler.problem import PlanJob

_LATE_WEIGHT = 100.0
_MANY_COLUMNS = 20_000
_MAX_COLUMNS = 150_000
"""Beyond (about 300 jobs with deadlines) the program takes minutes: capacity is left out and each job is bounded alone."""


@dataclass(frozen=True, slots=True)
class CostBound:
    """`usd`: the bound. `late_frac`: 0 when all deadlines can be met; otherwise the least sum over jobs of the fraction of their
    work that must be late, and `usd` prices that fraction as a missed job (fastest completion on the dearest flavor)."""

    usd: float
    late_frac: float


def cost_bound(jobs: Sequence[PlanJob], capacity: Mapping[str, float], usd_per_h: Mapping[str, float]) -> CostBound:
    """Bound for jobs that arrive at `submitted_s`; each also pays its `restart_s` once, on its cheapest option.

    When the deadlines cannot all be met the program is made soft: lateness is weighed a hundred times the cost of running
    everything on the dearest flavor, so first the least of it, then the cheapest. Jobs that fit nowhere are left out.
    Source: the time-indexed relaxation; 20,000 to 50,000 columns and seconds for 100 to 150 jobs. Above 150,000 columns the bound
    is weaker: capacity is left out of it.
    """
    prices = usd_per_s(usd_per_h, capacity)
    jobs = [job for job in jobs if usable(job, capacity)]
    usd, timed = 0.0, []
    for job in jobs:
        options = usable(job, capacity)
        usd += job.restart_s * min(prices[one.flavor] * one.units for one in options)
        if job.deadline_s is None:
            usd += job.work * min(prices[one.flavor] * one.units / one.rate for one in options)
        else:
            timed.append(job)
    if not timed:
        return CostBound(usd, 0.0)
    if _num_columns(timed) > _MAX_COLUMNS:
        return CostBound(usd + sum(_alone_usd(job, usable(job, capacity), prices) for job in timed), 0.0)
    late_usd = np.array([missed_usd(job.work, usable(job, capacity), prices) for job in timed])
    program, num_time = _program(timed, capacity, prices, late_usd)
    found = solve(program, method="crossover" if num_time > _MANY_COLUMNS else "simplex")
    assert found is not None, "late work is always allowed"
    late = found.x[num_time:]
    usd += float(program.cost[:num_time] @ found.x[:num_time]) + float(late @ late_usd)
    return CostBound(usd, float(late.sum()) if late.sum() > 1e-7 else 0.0)


def _num_columns(jobs: Sequence[PlanJob]) -> int:
    edges = np.unique([at_s for job in jobs for at_s in (job.submitted_s, job.deadline_s or 0.0)])
    spans = np.searchsorted(edges, [job.deadline_s or 0.0 for job in jobs]) - np.searchsorted(edges, [job.submitted_s for job in jobs])
    return int(np.maximum(spans, 0) @ np.array([len(job.options) for job in jobs]))


def _alone_usd(job: PlanJob, options: Sequence[Option], prices: Mapping[str, float]) -> float:
    """The cheapest mix of two options that does the work by the deadline with the pool to itself; where none can, the missed charge."""
    window_s = (job.deadline_s or 0.0) - job.submitted_s
    best = missed_usd(job.work, options, prices)
    for slow in options:
        for fast in options:
            slow_s = job.work / slow.rate
            if slow_s > window_s:
                if fast.rate * window_s < job.work or fast.rate <= slow.rate:
                    continue
                slow_s = (fast.rate * window_s - job.work) / (fast.rate - slow.rate)
            fast_s = max(0.0, job.work - slow.rate * slow_s) / fast.rate
            best = min(best, prices[slow.flavor] * slow.units * slow_s + prices[fast.flavor] * fast.units * fast_s)
    return best


def _program(
    jobs: Sequence[PlanJob], capacity: Mapping[str, float], prices: Mapping[str, float], late_usd: Floats
) -> tuple[LinearProgram, int]:
    """Columns: time in each (job, option, interval), as a fraction of the interval; then the late fraction of each job."""
    edges = np.unique([at_s for job in jobs for at_s in (job.submitted_s, max(job.deadline_s or 0.0, job.submitted_s))])
    lengths = np.diff(edges)
    flavors = {flavor: row for row, flavor in enumerate(capacity)}
    num_slots, num_flavors = len(lengths), len(flavors)
    job_of, slot_of, flavor_of, units, rates = _columns(jobs, capacity, edges, flavors)
    num_time, num_jobs = len(job_of), len(jobs)
    price = np.array([prices[flavor] for flavor in capacity])
    work = np.array([max(job.work, 1e-12) for job in jobs])
    room = np.repeat([[capacity[flavor] for flavor in capacity]], max(num_slots, 1), axis=0).ravel()
    once, once_row = np.unique(job_of * max(num_slots, 1) + slot_of, return_inverse=True)
    first_room = num_jobs + len(once)
    cols = np.arange(num_time)
    late_cols = num_time + np.arange(num_jobs)
    program = LinearProgram(
        cost=np.concatenate([price[flavor_of] * units * lengths[slot_of], late_usd + _LATE_WEIGHT * late_usd.sum()]),
        col_lower=np.zeros(num_time + num_jobs),
        col_upper=np.ones(num_time + num_jobs),
        rows=np.concatenate([job_of, np.arange(num_jobs), num_jobs + once_row, first_room + slot_of * num_flavors + flavor_of]),
        cols=np.concatenate([cols, late_cols, cols, cols]),
        values=np.concatenate([rates * lengths[slot_of] / work[job_of], np.ones(num_jobs), np.ones(num_time), units]),
        row_lower=np.concatenate([np.ones(num_jobs), np.full(len(once) + len(room), -np.inf)]),
        row_upper=np.concatenate([np.full(num_jobs, np.inf), np.ones(len(once)), room]),
    )
    return program, num_time


def _columns(
    jobs: Sequence[PlanJob], capacity: Mapping[str, float], edges: Floats, flavors: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Floats, Floats]:
    """Job, interval, flavor, units and rate of every column, job by job."""
    parts: list[tuple[np.ndarray, ...]] = [tuple(np.zeros(0, dtype=kind) for kind in (int, int, int, float, float))]
    for number, job in enumerate(jobs):
        first, last = np.searchsorted(edges, [job.submitted_s, job.deadline_s or 0.0])
        slots = np.arange(first, last)
        for option in usable(job, capacity):
            full = np.ones(len(slots))
            row = flavors[option.flavor]
            parts.append((np.full(len(slots), number), slots, np.full(len(slots), row), full * option.units, full * option.rate))
    job_of, slot_of, flavor_of, units, rates = (np.concatenate(column) for column in zip(*parts, strict=True))
    return job_of, slot_of, flavor_of, units, rates
