"""The linear program of the cost planner: the cheapest way to do all known work by the time it is due, jobs sharing accelerators in time.

Time is cut at the due times (merged where close, exact for jobs with little slack) and in between ever more coarsely. Running a job
later costs a little more than now: equal plans do the dear work first, which leaves room for urgent jobs that have not come yet.
Work that cannot be done in time is charged far above any run, so the plan meets every deadline that can be met; where not all can, the
job that lacks most is given up as due, one after another, so that few miss by much and not many by a little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fabric.scheduler.cost_needs import LEAST_WAIT_S, Need
from fabric.scheduler.lp import Floats, Ints, LinearProgram, solve

FIRST_SLOT_S = 900.0
GROWTH = 1.35
MERGE_FRAC = 0.06
TIGHT = 0.75
LATER_FRAC = 0.05
"""Running far in the future counts as this much dearer than now; `LATER_S` is how fast the difference sets in."""
LATER_S = 36_000.0
EARLY_PER_S = 1e-4 / 3600
MISS_WEIGHT = 10.0
LEAST_LACK = 1e-4
MAX_COLUMNS = 12_000
MAX_ITERATIONS = 40_000
MAX_GIVEN_UP = 3


@dataclass(frozen=True, slots=True)
class Fluid:
    """`share[c]`: part of slot `slot_of[c]` in which need `need_of[c]` runs with its option `option_of[c]`; `edges`: of the slots,
    seconds from now. `needs`: as planned (given-up ones are no longer due)."""

    needs: list[Need]
    edges: Floats
    need_of: Ints
    option_of: Ints
    slot_of: Ints
    share: Floats

    @property
    def lengths(self) -> Floats:
        return np.diff(self.edges)


def plan_fluid(needs: Sequence[Need], room: Mapping[str, float], busy: Sequence[tuple[str, float, float]], first_s: float) -> Fluid | None:
    """Solve for `needs` on `room` (flavor -> units free now); `busy` (flavor, units, until_s) comes back later. None when the solver's
    budget ran out."""
    needs = list(needs)
    for _ in range(MAX_GIVEN_UP + 1):
        edges = _edges(needs, first_s)
        fluid, lack = _solve(needs, edges, room, busy)
        if fluid is None:
            return None
        missing = [number for number, need in enumerate(needs) if need.is_due and lack[number] > LEAST_LACK]
        if not missing:
            break
        worst = max(missing, key=lambda number: lack[number])
        needs[worst] = _given_up(needs[worst])
    return fluid


def _given_up(need: Need) -> Need:
    """It will miss its deadline: done soon after, at no other's cost."""
    return replace(need, due_s=max(LEAST_WAIT_S, 2 * need.fastest_s, need.due_s), is_due=False)


def _edges(needs: Sequence[Need], first_s: float) -> Floats:
    num_options = sum(len(need.options) for need in needs)
    merge, growth = MERGE_FRAC, GROWTH
    while True:
        edges = _grid(needs, first_s, merge, growth)
        if len(edges) <= 4 or (len(edges) - 1) * num_options <= MAX_COLUMNS:
            return edges
        merge, growth = merge * 1.7, growth * 1.3


def _grid(needs: Sequence[Need], first_s: float, merge: float, growth: float) -> Floats:
    tight = {round(need.due_s, 3) for need in needs if need.is_due and need.urgency > TIGHT}
    due = sorted({round(max(need.due_s, 1.0), 3) for need in needs})
    kept, last_s = [], 0.0
    for at_s in due:
        if at_s > last_s * (1 + merge) + 60 or (at_s in tight and at_s > last_s * (1 + merge / 5) + 20):
            kept.append(at_s)
            last_s = at_s
    if not kept or kept[-1] < due[-1]:
        kept.append(due[-1])
    edges = [0.0]
    for at_s in kept:
        while (next_s := edges[-1] * growth + first_s) * 1.1 < at_s:
            edges.append(next_s)
        edges.append(at_s)
    return np.array(edges)


def _last_slot(need: Need, edges: Floats) -> tuple[int, float]:
    """How many slots it may use, and how much of the last one. A due time between edges is rounded down unless slack is too small."""
    below = min(int(np.searchsorted(edges, need.due_s + 1e-3)) - 1, len(edges) - 1)
    if edges[below] >= need.due_s - 1e-2 or (below >= 1 and need.fastest_s < 0.95 * edges[below]):
        return max(below, 1), 1.0
    return below + 1, float((need.due_s - edges[below]) / (edges[below + 1] - edges[below]))


def _solve(
    needs: Sequence[Need], edges: Floats, room: Mapping[str, float], busy: Sequence[tuple[str, float, float]]
) -> tuple[Fluid | None, Floats]:
    """The program over the given slots, and the part of each need's work that stays undone in it."""
    flavors = {flavor: row for row, flavor in enumerate(room)}
    lengths, num_slots = np.diff(edges), len(edges) - 1
    need_of, option_of, slot_of, flavor_of, most, units, seconds, usd_per_s = _columns(needs, edges, flavors)
    num_time, num_needs = len(need_of), len(needs)
    middle = (edges[:-1] + edges[1:]) / 2
    later = 1 + EARLY_PER_S * middle + LATER_FRAC * (1 - np.exp(-middle / LATER_S))
    dearest = max((need.late_usd for need in needs if need.is_due), default=0.0)
    late_usd = np.array([MISS_WEIGHT * (need.late_usd + dearest) if need.is_due else need.late_usd for need in needs])
    run_usd = usd_per_s * lengths[slot_of] * later[slot_of]
    held, keep_usd = np.array([need.held for need in needs]), np.array([need.keep_usd for need in needs])
    run_usd -= np.where((slot_of == 0) & (option_of == held[need_of]), keep_usd[need_of], 0.0)
    once, once_row = np.unique(need_of * num_slots + slot_of, return_inverse=True)
    once_most = np.zeros(len(once))
    np.maximum.at(once_most, once_row, most)
    first_room = num_needs + len(once)
    cols = np.arange(num_time)
    found = solve(
        LinearProgram(
            cost=np.concatenate([run_usd, late_usd]),
            col_lower=np.zeros(num_time + num_needs),
            col_upper=np.concatenate([most, np.ones(num_needs)]),
            rows=np.concatenate([need_of, np.arange(num_needs), num_needs + once_row, first_room + slot_of * len(flavors) + flavor_of]),
            cols=np.concatenate([cols, num_time + np.arange(num_needs), cols, cols]),
            values=np.concatenate([lengths[slot_of] / seconds, np.ones(num_needs), np.ones(num_time), units]),
            row_lower=np.concatenate([np.ones(num_needs), np.full(len(once) + num_slots * len(flavors), -np.inf)]),
            row_upper=np.concatenate([np.full(num_needs, np.inf), once_most, _room(edges, flavors, room, busy)]),
        ),
        max_iterations=MAX_ITERATIONS,
    )
    if found is None:
        return None, np.zeros(0)
    return Fluid(list(needs), edges, need_of, option_of, slot_of, found.x[:num_time]), found.x[num_time:]


def _columns(
    needs: Sequence[Need], edges: Floats, flavors: Mapping[str, int]
) -> tuple[Ints, Ints, Ints, Ints, Floats, Floats, Floats, Floats]:
    """Need, option, slot, flavor, upper bound, units, seconds and dollars per second of every column, need by need."""
    counts, most, rows = [], [], []
    for number, need in enumerate(needs):
        last, part = _last_slot(need, edges)
        bounds = np.ones(last)
        bounds[-1] = max(part, 1e-6)
        for choice, option in enumerate(need.options):
            counts.append(last)
            most.append(bounds)
            seconds = need.seconds[choice]
            rows.append((number, choice, flavors[option.flavor], option.units, seconds, need.usd[choice] / seconds))
    table = np.repeat(np.array(rows, dtype=np.float64), counts, axis=0)
    slot_of = np.concatenate([np.arange(count) for count in counts])
    need_of, option_of, flavor_of = (table[:, column].astype(np.int32) for column in range(3))
    return need_of, option_of, slot_of.astype(np.int32), flavor_of, np.concatenate(most), table[:, 3], table[:, 4], table[:, 5]


def _room(edges: Floats, flavors: Mapping[str, int], room: Mapping[str, float], busy: Sequence[tuple[str, float, float]]) -> Floats:
    """Units of each flavor in each slot, slot by slot: free now, and what fixed jobs give back when they end."""
    lengths = np.diff(edges)
    units = np.repeat([[room[flavor] for flavor in flavors]], len(lengths), axis=0).astype(np.float64)
    for flavor, held, until_s in busy:
        units[:, flavors[flavor]] += held * np.clip((edges[1:] - until_s) / lengths, 0.0, 1.0)
    return units.ravel()
