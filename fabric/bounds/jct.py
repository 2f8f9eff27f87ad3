"""A lower bound on mean job completion time: what no schedule can beat, even one that sees the future and moves jobs for free.

The fluid relaxation: in every interval of time each job may be spread over flavors, at most its full time in all, within
the capacity. It completes no earlier than its own fastest run allows, and no earlier than the mean time at which its work
is done plus half of that run. Restart charges are left out. Invariant: a coarser grid gives a lower bound, never a higher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fabric.scheduler.lp import Floats, Ints, LinearProgram, solve
from fabric.scheduler.problem import PlanJob, Problem

MOST_INTERVALS, LEAST_INTERVALS, COLUMNS = 100, 20, 30_000
COARSE = 8


@dataclass(slots=True)
class _Columns:
    """Seconds that job `job` spends in option `option` during interval `at`; `share` of its work is done per second."""

    job: Ints
    flavor: Ints
    at: Ints
    units: Floats
    share: Floats


def mean_jct_bound(problem: Problem, num_intervals: int | None = None) -> float | None:
    """Weighted mean of (completion - submission) in seconds that nothing can beat; jobs may be submitted later than `now_s`.

    None where a job cannot run at all. `work` is taken as known. By default as many intervals as a program of some seconds
    allows: 100 for 100 jobs.
    """
    jobs = [job for job in problem.jobs if job.work > 0]
    flavors = sorted(problem.capacity)
    usable = [[o for o in job.options if o.rate > 0 and o.units <= problem.capacity.get(o.flavor, 0.0)] for job in jobs]
    if not jobs or not all(usable):
        return 0.0 if not jobs else None
    fastest = np.array([job.work / max(o.rate for o in options) for job, options in zip(jobs, usable, strict=True)])
    release = np.array([max(job.submitted_s - problem.now_s, 0.0) for job in jobs])
    weight = np.array([job.weight for job in jobs])
    num = num_intervals or max(LEAST_INTERVALS, min(MOST_INTERVALS, COLUMNS // sum(map(len, usable))))
    edges = _edges(jobs, fastest, release, num, sum(problem.capacity.values()))
    columns = _columns(problem, jobs, flavors, edges, release)
    program = _program(columns, edges, fastest, release, weight, np.array([problem.capacity[f] for f in flavors], dtype=np.float64))
    found = solve(program)
    if found is None:
        return None
    waited = np.array([problem.now_s - job.submitted_s for job in jobs])
    return float((found.objective + float(weight @ waited)) / weight.sum())


def _edges(jobs: list[PlanJob], fastest: Floats, release: Floats, num: int, units: float) -> Floats:
    """Edges of the intervals, in seconds from now: even while jobs are many, then ever longer; the end leaves room for all work."""
    slowest = np.array([job.work / min(o.rate for o in job.options if o.rate > 0) for job in jobs])
    end = float(release.max() + slowest.max() + fastest.sum())
    busy = float(max(release.max(), 1.0) + 4.0 * max(fastest.max(), fastest.sum() / max(units, 1.0)))
    even = np.linspace(0.0, busy, num - COARSE)
    grown = np.geomspace(busy, max(end, 2 * busy), COARSE + 1)[1:]
    return np.unique(np.concatenate((even, grown)))


def _columns(problem: Problem, jobs: list[PlanJob], flavors: list[str], edges: Floats, release: Floats) -> _Columns:
    number = {flavor: n for n, flavor in enumerate(flavors)}
    rows = [
        (n, number[o.flavor], at, o.units, o.rate / job.work)
        for n, job in enumerate(jobs)
        for o in job.options
        if o.rate > 0 and o.units <= problem.capacity.get(o.flavor, 0.0)
        for at in range(len(edges) - 1)
        if edges[at + 1] > release[n]
    ]
    table = np.array(rows, dtype=np.float64)
    whole = table[:, :3].astype(np.int32)
    return _Columns(whole[:, 0], whole[:, 1], whole[:, 2], table[:, 3], table[:, 4])


def _program(columns: _Columns, edges: Floats, fastest: Floats, release: Floats, weight: Floats, capacity: Floats) -> LinearProgram:
    """Columns: the seconds, then a completion time per job. Rows: a job's time per interval, capacity per interval, all work
    done, completion after the mean time of the work plus half the fastest run."""
    num_jobs, num_at, num_x = len(fastest), len(edges) - 1, len(columns.job)
    x, begin = np.arange(num_x), np.maximum(edges[columns.at], release[columns.job])
    room = np.maximum(edges[columns.at + 1] - begin, 0.0)
    slots = columns.job.astype(np.int64) * num_at + columns.at
    slot_ids, slot_of = np.unique(slots, return_inverse=True)
    slot_room = np.zeros(len(slot_ids))
    slot_room[slot_of] = room
    at_capacity = len(slot_ids) + columns.flavor * num_at + columns.at
    at_work = len(slot_ids) + len(capacity) * num_at + columns.job
    at_end, each = at_work + num_jobs, np.arange(num_jobs)
    ends = len(slot_ids) + len(capacity) * num_at + num_jobs + each
    infinite = np.full(num_jobs, np.inf)
    return LinearProgram(
        cost=np.concatenate((np.zeros(num_x), weight)),
        col_lower=np.concatenate((np.zeros(num_x), release + fastest)),
        col_upper=np.full(num_x + num_jobs, np.inf),
        rows=np.concatenate((slot_of, at_capacity, at_work, at_end, ends)),
        cols=np.concatenate((x, x, x, x, num_x + each)),
        values=np.concatenate((np.ones(num_x), columns.units, columns.share, -begin * columns.share, np.ones(num_jobs))),
        row_lower=np.concatenate((np.full(len(slot_ids) + len(capacity) * num_at, -np.inf), np.ones(num_jobs), fastest / 2)),
        row_upper=np.concatenate(
            (slot_room, np.repeat(capacity, num_at) * np.tile(np.diff(edges), len(capacity)), np.ones(num_jobs), infinite)
        ),
    )
