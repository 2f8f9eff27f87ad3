"""The planning model for the makespan: which ways to run now for one step, so that the least possible end of all work, as a
linear program sees it after the step, comes soonest.

Columns: `later` (seconds that a way still runs after the step), `now` (1: the way is held during the step), the end `T` and
the load `A`, both seconds from the end of the step. Every row is a necessary condition of a feasible schedule, so the
optimum is a lower bound but for what the step itself decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fabric.job import Option
from fabric.scheduler.lp import INFINITY, Floats, LinearProgram
from fabric.scheduler.problem import PlanJob, Problem

Indices = npt.NDArray[np.int64]

LOAD_WEIGHT = 0.05
"""A second of mean load, in seconds of the end: where one long job sets the end, the rest should be done early all the same."""
RUN_WEIGHT = 1e-4
"""Reward, in seconds of the end per second of the whole cluster in use: room is filled even where that gains nothing."""
KEEP_WEIGHT = 1.5
"""What a kept lease is worth, in charges saved: above one, since every move also makes the plan after it less sure."""
MAX_BLOCKS = 3
"""A gang that fits at most so often beside others gets rows of its own against each long job that would stand in its way."""


@dataclass(slots=True)
class Ways:
    """All ways of the jobs that have any, as arrays of one length sorted by job; `job` and `flavor` are positions.

    `full_s`: seconds of running that the rest of the work needs, with work lost by a move where the way is not held. `warm_s`:
    seconds before work would begin, now. `charge_s`: what a later start costs. `must`: cannot be given up.
    """

    jobs: list[PlanJob]
    options: list[Option]
    job: Indices
    flavor: Indices
    units: Floats
    full_s: Floats
    warm_s: Floats
    charge_s: Floats
    is_held: npt.NDArray[np.bool_]
    must: npt.NDArray[np.bool_]
    flavors: tuple[str, ...]
    capacity: Floats


def ways_of(problem: Problem) -> Ways:
    """Arrays of every way that fits the cluster; a held way stands for itself even where it is no longer offered."""
    flavors = tuple(sorted(name for name, units in problem.capacity.items() if units > 0))
    place = {name: n for n, name in enumerate(flavors)}
    jobs: list[PlanJob] = []
    options: list[Option] = []
    figures: list[tuple[float, ...]] = []
    for job in problem.jobs:
        before = len(options)
        for option, is_held in _offers(job):
            where = place.get(option.flavor)
            if where is None or option.rate <= 0 or option.units > problem.capacity[option.flavor] + 1e-9:
                continue
            lost_s = job.lost_work / option.rate
            full_s = max(job.work, 1e-12) / option.rate + (0.0 if is_held else lost_s)
            warm_s = job.warmup_left_s if is_held else job.restart_s
            must = is_held and not job.is_movable
            options.append(job.held if is_held and job.held is not None else option)
            figures.append((len(jobs), where, option.units, full_s, warm_s, job.restart_s + lost_s, is_held, must))
        if len(options) > before:
            jobs.append(job)
    table = np.array(figures, dtype=np.float64).reshape(len(figures), 8)
    return Ways(
        jobs,
        options,
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        units=table[:, 2],
        full_s=table[:, 3],
        warm_s=table[:, 4],
        charge_s=table[:, 5],
        is_held=table[:, 6] > 0,
        must=table[:, 7] > 0,
        flavors=flavors,
        capacity=np.array([problem.capacity[name] for name in flavors], dtype=np.float64),
    )


def _offers(job: PlanJob) -> list[tuple[Option, bool]]:
    """Its ways, and whether it holds them; of a job that cannot move only the one that it holds."""
    held = job.held
    if held is None:
        return [(option, False) for option in job.options]
    offers = [(option, option[:3] == held[:3]) for option in job.options if job.is_movable or option[:3] == held[:3]]
    if not any(is_held for _, is_held in offers):
        offers.append((held, True))
    return offers


@dataclass(slots=True)
class Rows:
    """Rows gathered block by block."""

    index: list[Indices] = field(default_factory=list)
    cols: list[Indices] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    lower: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)
    count: int = 0

    def add(self, num_rows: int, parts: list[tuple[Indices, Indices, Floats]], lower: float, upper: float | Floats) -> None:
        """`parts`: (row within the block, column, value) of every nonzero."""
        for index, cols, values in parts:
            self.index.append(index + self.count)
            self.cols.append(cols)
            self.values.append(values)
        self.lower.append(np.full(num_rows, lower))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), (num_rows,)))
        self.count += num_rows

    def program(self, cost: Floats, col_lower: Floats, col_upper: Floats, integer: npt.NDArray[np.bool_] | None) -> LinearProgram:
        join = np.concatenate
        return LinearProgram(
            cost, col_lower, col_upper, join(self.index), join(self.cols), join(self.values), join(self.lower), join(self.upper), integer
        )


def need_s(ways: Ways) -> Floats:
    """Seconds that each way asks of its flavor, start or rest of the warm-up included."""
    return ways.full_s + np.where(ways.is_held, ways.warm_s, ways.charge_s)


def step_program(ways: Ways, step_s: float, can_run: npt.NDArray[np.bool_], end_s: float) -> LinearProgram:
    """The model above for a step of `step_s` seconds; `can_run[k]`: way k may be held during the step; `end_s` is the scale of
    the least end. Columns: later (n), now (n), T, A. With `step_s` 0 it is the bound alone, without whole columns."""
    num, is_step = len(ways.job), step_s > 0
    ran_s = np.minimum(step_s, ways.warm_s + ways.full_s)
    done_frac = ran_s / (ways.warm_s + ways.full_s)
    rows = _rows(ways, need_s(ways), done_frac, step_s - ran_s)
    if is_step:
        _add_gang_rows(rows, ways, need_s(ways), step_s - ran_s, end_s)
    cost = np.zeros(2 * num + 2)
    cost[2 * num], cost[2 * num + 1] = 1.0, LOAD_WEIGHT
    share = ways.units / ways.capacity.sum()
    cost[num : 2 * num] = -share * (np.where(ways.is_held, KEEP_WEIGHT * ways.charge_s, 0.0) + step_s * RUN_WEIGHT)
    upper = np.full(2 * num + 2, INFINITY)
    upper[num : 2 * num] = can_run
    lower = np.zeros(2 * num + 2)
    lower[num : 2 * num] = ways.must & can_run
    integer = None
    if is_step:
        integer = np.zeros(2 * num + 2, dtype=np.bool_)
        integer[num : 2 * num] = can_run
    return rows.program(cost, lower, upper, integer)


def _rows(ways: Ways, whole_s: Floats, done_frac: Floats, unused_s: Floats) -> Rows:
    num, jobs, flavors = len(ways.job), len(ways.jobs), len(ways.flavors)
    later, now = np.arange(num), np.arange(num, 2 * num)
    one, end, load = np.ones(num), 2 * num, 2 * num + 1
    rows = Rows()
    rows.add(jobs, [(ways.job, later, 1.0 / whole_s), (ways.job, now, done_frac)], 1.0, INFINITY)
    rows.add(jobs, [(ways.job, later, one), (np.arange(jobs), np.full(jobs, end), -np.ones(jobs))], -INFINITY, 0.0)
    rows.add(jobs, [(ways.job, now, one)], -INFINITY, 1.0)
    for column in (end, load):
        parts = [(ways.flavor, later, ways.units), (ways.flavor, now, -ways.units * unused_s)]
        rows.add(flavors, [*parts, (np.arange(flavors), np.full(flavors, column), -ways.capacity)], -INFINITY, 0.0)
    rows.add(flavors, [(ways.flavor, now, ways.units)], -INFINITY, ways.capacity)
    return rows


def _add_gang_rows(rows: Rows, ways: Ways, whole_s: Floats, unused_s: Floats, end_s: float) -> None:
    """What whole gangs ask beyond their area: blocks of u units fit `floor(N / u)` times, and less often beside another job.

    Source: the superadditive (Chvatal-Gomory) rounding of the capacity row; beside job j it is the same row on N - s_j.
    """
    for flavor, room in enumerate(ways.capacity):
        here = np.flatnonzero(ways.flavor == flavor)
        for block in np.unique(ways.units[here]):
            gangs = here[ways.units[here] >= block]
            blocks = float(np.floor(room / block + 1e-9))
            counts = np.floor(ways.units[gangs] / block + 1e-9)
            is_area = blocks * block == room and len(gangs) == len(here) and bool(np.all(counts * block == ways.units[gangs]))
            if block * len(here) <= room or is_area:
                continue
            num, end = len(ways.job), 2 * len(ways.job)
            zero = np.zeros(len(gangs), dtype=np.int64)
            ends_early = (zero, gangs + num, -counts * unused_s[gangs])
            rows.add(1, [(zero, gangs, counts), ends_early, (zero[:1], np.array([end]), np.array([-blocks]))], -INFINITY, 0.0)
            if blocks > MAX_BLOCKS:
                continue
            fewer = blocks - np.floor((room - ways.units[here]) / block + 1e-9)
            beside = (ways.units[here] < block) & (fewer > 0) & (whole_s[here] > 0.05 * end_s)
            others, index = here[beside], np.arange(beside.sum())
            parts = [
                (np.repeat(index, len(gangs)), np.tile(gangs, len(index)), np.tile(counts, len(index))),
                (index, others, fewer[beside]),
                (index, np.full(len(index), end), np.full(len(index), -blocks)),
            ]
            rows.add(len(index), parts, -INFINITY, 0.0)
