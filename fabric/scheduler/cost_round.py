"""From shares of time to whole accelerators: who runs what now, until when that is right, and who comes next.

The first slot is served as a preemptive open shop (Lawler and Labetoulle 1978): jobs that must run throughout it go first, then those with
the largest share; the plan asks to be made again as soon as a job that waits has to run or one that runs has had its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fabric.job import JobId, Option
from fabric.scheduler.cost_program import Fluid
from fabric.scheduler.lp import Floats, Ints, LinearProgram, solve

Places = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
LEAST_SHARE = 1e-4
WHOLE = 1e-3
SOONEST_S = 60.0
"""No plan asks to be made again sooner."""
KEEP_WEIGHT = 0.5


@dataclass(slots=True)
class Rounded:
    """`run`: jobs to options from now; `review_s`: seconds from now after which to plan again."""

    run: dict[JobId, Option]
    review_s: float


def serve(fluid: Fluid, room: Mapping[str, float], least_s: float) -> Rounded:
    """Choose for the first slot; `least_s`: how long a job that runs keeps its turn at least, unless another must run."""
    now = np.flatnonzero((fluid.slot_of == 0) & (fluid.share > LEAST_SHARE))
    first_s = float(fluid.edges[1])
    if not len(now):
        return Rounded({}, first_s)
    flavors = {flavor: row for row, flavor in enumerate(room)}
    need_of, share = fluid.need_of[now], fluid.share[now]
    options = [fluid.needs[need].options[option] for need, option in zip(need_of, fluid.option_of[now], strict=True)]
    units = np.array([option.units for option in options])
    flavor_of = np.array([flavors[option.flavor] for option in options], dtype=np.int32)
    total = np.bincount(need_of, weights=share, minlength=len(fluid.needs)).astype(np.float64)
    keep = KEEP_WEIGHT * (fluid.option_of[now] == np.array([need.held for need in fluid.needs])[need_of])
    weight = units * (100.0 * (total[need_of] > 1 - WHOLE) + 10 * total[need_of] ** 2 + share + keep)
    chosen = _match(need_of, flavor_of, units, weight, np.array([room[flavor] for flavor in flavors]))
    run = {}
    for place in np.flatnonzero(chosen):
        need, option = fluid.needs[need_of[place]], int(fluid.option_of[now[place]])
        held = need.job.held
        run[need.job.job_id] = held if option == need.held and held is not None else options[place]
    load = np.bincount(flavor_of, weights=units * share, minlength=len(flavors))
    is_full = load > np.array([room[flavor] for flavor in flavors]) - WHOLE
    right_s = _right_s(fluid, now, chosen, total, is_full[flavor_of], least_s)
    if right_s >= first_s - 1e-6:
        return Rounded(run, _unchanged_s(fluid))
    return Rounded(run, right_s)


def _match(need_of: Ints, flavor_of: Ints, units: Floats, weight: Floats, room: Floats) -> Mask:
    """One option per need within the room, heaviest in sum. With one unit each the program's corners are whole; with gangs
    they need not be: then the better of two greedy packings."""
    count, needs = len(need_of), int(need_of.max()) + 1
    found = solve(
        LinearProgram(
            cost=weight,
            col_lower=np.zeros(count),
            col_upper=np.ones(count),
            rows=np.concatenate([need_of, needs + flavor_of]),
            cols=np.tile(np.arange(count), 2),
            values=np.concatenate([np.ones(count), units]),
            row_lower=np.full(needs + len(room), -np.inf),
            row_upper=np.concatenate([np.ones(needs), room]),
            is_maximise=True,
        ),
        max_iterations=100 * count + 1000,
    )
    wanted = np.zeros(count) if found is None else found.x
    whole_first = sorted(range(count), key=lambda place: (wanted[place] < 1 - 1e-6, -weight[place], place))
    heaviest_first = sorted(range(count), key=lambda place: (-weight[place], place))
    packed = [_pack(order, need_of, flavor_of, units, room) for order in (whole_first, heaviest_first)]
    return max(packed, key=lambda chosen: float(weight[chosen].sum()))


def _pack(order: Sequence[int], need_of: Ints, flavor_of: Ints, units: Floats, room: Floats) -> Mask:
    left, taken, chosen = room.copy(), set(), np.zeros(len(order), dtype=bool)
    for place in order:
        if need_of[place] not in taken and units[place] <= left[flavor_of[place]] + 1e-9:
            left[flavor_of[place]] -= units[place]
            taken.add(need_of[place])
            chosen[place] = True
    return chosen


def _right_s(fluid: Fluid, now: Places, chosen: Mask, total: Floats, is_full: Mask, least_s: float) -> float:
    """How long the choice serves the shares: until a waiting job must run, or a running one has had its share of a full flavor."""
    first_s = float(fluid.edges[1])
    need_of, share = fluid.need_of[now], fluid.share[now]
    seconds = np.array([fluid.needs[need].seconds[option] for need, option in zip(need_of, fluid.option_of[now], strict=True)])
    runs = np.zeros(len(total), dtype=bool)
    runs[need_of[chosen]] = True
    waits = (total > WHOLE) & ~runs
    ends = share * first_s >= seconds * 0.9999
    has_more = (total[need_of] > share + WHOLE) | is_full
    is_cut = chosen & (share < 1 - WHOLE) & ~ends & has_more
    must_run_s = float((first_s * (1 - total[waits])).min(initial=first_s))
    had_share_s = float((first_s * share[is_cut]).min(initial=first_s))
    return min(max(must_run_s, SOONEST_S), max(had_share_s, least_s))


def _unchanged_s(fluid: Fluid) -> float:
    """End of the last slot through which the shares stay those of the first, all whole."""
    used = np.flatnonzero(fluid.share > WHOLE)
    by_slot: dict[int, dict[tuple[int, int], float]] = {}
    for place in used:
        row = by_slot.setdefault(int(fluid.slot_of[place]), {})
        row[int(fluid.need_of[place]), int(fluid.option_of[place])] = float(fluid.share[place])
    first = by_slot.get(0, {})
    slot = 1
    while slot < len(fluid.edges) - 1:
        row = by_slot.get(slot, {})
        if len(row) != len(first) or any(abs(row.get(key, 0.0) - 1) > WHOLE for key in first):
            break
        slot += 1
    return float(fluid.edges[slot])
