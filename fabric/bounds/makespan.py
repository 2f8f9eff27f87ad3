"""A lower bound on the makespan of any schedule of a set of jobs, preemptive and migrating ones included.

Every row is a necessary condition; release dates are rounded down to the interval that they fall in, so the bound never
exceeds what some schedule reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fabric.scheduler.lp import INFINITY, Floats, solve
from fabric.scheduler.makespan_model import Indices, Rows, Ways, need_s, ways_of
from fabric.scheduler.problem import PlanJob, Problem

MAX_COLUMNS = 20_000
MAX_INTERVALS = 12


def makespan_bound(jobs: Sequence[PlanJob], capacity: Mapping[str, float], now_s: float = 0.0) -> float | None:
    """No schedule can end all of `jobs` before this time (absolute seconds); None where a job fits no flavor at all.

    `submitted_s` are release dates; work is what is left at `now_s`. Every job is charged one start (`restart_s`) where it
    does not run already. Source: the allocation program of Lawler and Labetoulle (1978), exact for single-unit jobs
    without release dates and charges, with rows for gangs (see `gang_rows`) and one set of rows per release interval.
    """
    if not jobs:
        return now_s
    ways = ways_of(Problem(now_s, "makespan", [replace(job, is_movable=True) for job in jobs], capacity))
    if len(ways.jobs) < len(jobs):
        return None
    release_s = np.array([max(now_s, job.submitted_s) for job in ways.jobs])
    quickest_s = np.full(len(ways.jobs), np.inf)
    np.minimum.at(quickest_s, ways.job, need_s(ways))
    alone_s = float((release_s + quickest_s).max())
    starts_s = _interval_starts(release_s, len(ways.job))
    ends_s = _program_bound(ways, release_s, starts_s)
    return max(alone_s, ends_s)


def _interval_starts(release_s: Floats, num_ways: int) -> Floats:
    """Some of the release dates, the first and the last among them; as many as the size of the program allows."""
    dates = np.unique(release_s)
    most = int(np.clip(MAX_COLUMNS // max(num_ways, 1), 1, MAX_INTERVALS))
    if len(dates) > most:
        dates = dates[np.unique(np.linspace(0, len(dates) - 1, most).astype(np.int64))] if most > 1 else dates[:1]
    return dates


def _program_bound(ways: Ways, release_s: Floats, starts_s: Floats) -> float:
    """Least end over shares of each interval; the last interval has no end but the bound itself."""
    num, jobs, last = len(ways.job), len(ways.jobs), len(starts_s) - 1
    first = np.searchsorted(starts_s, release_s, side="right") - 1
    end = num * len(starts_s)
    rows = Rows()
    cover = [(ways.job, np.arange(num) + num * k, np.where(first[ways.job] <= k, 1.0 / need_s(ways), 0.0)) for k in range(last + 1)]
    rows.add(jobs, cover, 1.0, INFINITY)
    for k in range(last + 1):
        length_s = float(starts_s[k + 1] - starts_s[k]) if k < last else None
        columns = np.arange(num) + num * k
        _add_row_set(rows, ways.job, columns, np.ones(num), np.ones(jobs), length_s, end)
        _add_row_set(rows, ways.flavor, columns, ways.units, ways.capacity, length_s, end)
        for where, counts, blocks in gang_rows(ways):
            _add_row_set(rows, np.zeros(len(where), dtype=np.int64), columns[where], counts, np.array([blocks]), length_s, end)
    cost = np.zeros(end + 1)
    cost[end] = 1.0
    found = solve(rows.program(cost, np.zeros(end + 1), np.full(end + 1, INFINITY), None))
    return float(starts_s[last]) + (found.objective if found is not None else 0.0)


def _add_row_set(rows: Rows, index: Indices, columns: Indices, values: Floats, room: Floats, length_s: float | None, end: int) -> None:
    """`sum of values * seconds <= room * length` per row; without a length, `room * T`."""
    size = len(room)
    if length_s is not None:
        rows.add(size, [(index, columns, values)], -INFINITY, room * length_s)
        return
    ends = (np.arange(size), np.full(size, end), -room)
    rows.add(size, [(index, columns, values), ends], -INFINITY, 0.0)


def gang_rows(ways: Ways) -> list[tuple[Indices, Floats, float]]:
    """(ways, blocks that each takes, blocks that fit at once): gangs of u units or more cannot use the rest of `N / u`.

    Source: superadditive (Chvatal-Gomory) rounding of the capacity row by each gang size u.
    """
    found: list[tuple[Indices, Floats, float]] = []
    for flavor, room in enumerate(ways.capacity):
        here = np.flatnonzero(ways.flavor == flavor)
        for block in np.unique(ways.units[here]):
            gangs = here[ways.units[here] >= block]
            found.append((gangs, np.floor(ways.units[gangs] / block + 1e-9), float(np.floor(room / block + 1e-9))))
    return found
