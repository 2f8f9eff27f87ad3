"""The future that a priority list leads to, compiled: plain loops over arrays, which numba makes about forty times as fast.

`deal`: the capacity is dealt out in the order of the list; each job takes the first of its ways that fits, but keeps the one it
has where that ends sooner. `run`: deal, go to the next completion, deal anew, until nobody is left. Starts, moves and lost work are
charged. `climb`: a search for a better list, by small random changes.

Shapes, for J jobs with at most W ways: `order` int64[J]; `prefs` int64[J, W], best first, -1 where there is none; `flavor` int64[J, W],
`units`, `rate`, `seconds` float64[J, W]; `held` int64[J], -1 for none; all else float64[J]. Times are seconds from now. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

ROOM = 1e-6
LATE_POWER, FAR_S = 8.0, 1e12
SHARE_SWAP, SHARE_SHIFT = 0.2, 0.5
Array = np.ndarray[Any, Any]


class Table(NamedTuple):
    """A `Model` as arrays. `capacity`: of each flavor. `seconds`: until a job has finished if it has this way from now on; infinite
    for a way that it does not have. `soonest_…`: of each job, soonest first, the least time that it takes, its weight, and what it
    would cost to end then. `power`: a completion time counts as this power of it; `tail`: see `Model`."""

    capacity: Array
    num_ways: Array
    flavor: Array
    units: Array
    rate: Array
    seconds: Array
    work: Array
    weight: Array
    restart_s: Array
    held: Array
    warmup_s: Array
    lost: Array
    soonest_s: Array
    soonest_weight: Array
    soonest_cost: Array
    power: float
    tail: float


class Ran(NamedTuple):
    """`cost`: the weighted sum of the completion times (to the table's power), and the last ones (a high norm, for the very last alone
    gives a search no slope) times `tail`; infinite where it was cut short. `finish_s`: when each job ends, infinite for never.
    `first`: what each holds now, `first_ends_s`: when that would end."""

    cost: float
    finish_s: Array
    first: Array
    first_ends_s: Array


class State(NamedTuple):
    """Where one future stands. `left[n]`: work of job n when it last started; `owed[n]`: what its first move loses; `holds[n]`: its
    way, or -1; `ends_s[n]`: when it ends if left alone."""

    left: Array
    owed: Array
    holds: Array
    ends_s: Array


def _begin(t: Table) -> State:
    state = State(t.work.copy(), t.lost.copy(), t.held.copy(), np.full(t.work.size, np.inf))
    for n in range(t.work.size):
        if t.held[n] >= 0:
            state.ends_s[n] = t.warmup_s[n] + t.work[n] / t.rate[n, t.held[n]]
    return state


def _deal(t: Table, state: State, order: Array, num: int, prefs: Array, now_s: float, num_held: int) -> tuple[int, int]:
    """Deals to the first `num` of `order`: how many hold something then, and how far down the list the last of them is. Ends once there
    is no room and all who held something were seen."""
    # Local names: each look into the tuples would count a reference.
    lefts, owed, holds, ends = state.left, state.owed, state.holds, state.ends_s
    flavor, units, rate, restart_s = t.flavor, t.units, t.rate, t.restart_s
    free, most = t.capacity.copy(), prefs.shape[1]
    room, unseen, place = free.sum(), num_held, 0
    while place < num and (room > ROOM or unseen > 0):
        n = order[place]
        place += 1
        had, way = holds[n], -1
        unseen -= had >= 0
        for nth in range(most):
            one = prefs[n, nth]
            if one < 0:
                break
            if free[flavor[n, one]] >= units[n, one]:
                way = one
                break
        if way != had:
            left = lefts[n] if had < 0 else min(lefts[n], (ends[n] - now_s) * rate[n, had])
            if way < 0:
                lefts[n], holds[n], ends[n] = left, -1, np.inf
                num_held -= 1
                continue
            ends_s = now_s + restart_s[n] + (left + owed[n]) / rate[n, way]
            if had >= 0 and free[flavor[n, had]] >= units[n, had] and ends[n] <= ends_s:
                way = had
            else:
                num_held += had < 0
                lefts[n], owed[n], holds[n], ends[n] = left + owed[n], 0.0, way, ends_s
        if way >= 0:
            free[flavor[n, way]] -= units[n, way]
            room -= units[n, way]
    return num_held, place


def _run(t: Table, order: Array, prefs: Array, stop_at: float) -> Ran:
    """The future of a list. Given up as soon as its cost must pass `stop_at`: no job ends before now, nor before its fastest way
    lets it."""
    state, order = begin(t), order.copy()
    ends, weight, soonest_s = state.ends_s, t.weight, t.soonest_s
    num, now_s, cost, late = order.size, 0.0, 0.0, 0.0
    past, overdue, to_come = 0, 0.0, t.soonest_cost.sum()
    num_held, reach = deal(t, state, order, num, prefs, now_s, (t.held >= 0).sum())
    first, first_ends_s, finish_s = state.holds.copy(), state.ends_s.copy(), np.full(num, np.inf)
    while num_held > 0:
        now_s = np.inf
        for place in range(reach):
            now_s = min(now_s, ends[order[place]])
        counted, kept = now_s**t.power, 0
        for place in range(reach):
            n = order[place]
            if ends[n] <= now_s:
                finish_s[n] = now_s
                cost += weight[n] * counted
                late += min(now_s, FAR_S) ** LATE_POWER
                overdue -= weight[n]
                num_held -= 1
            else:
                order[kept] = n
                kept += 1
        order[kept : kept + num - reach] = order[reach:num]
        num -= reach - kept
        while past < soonest_s.size and soonest_s[past] <= now_s:
            overdue += t.soonest_weight[past]
            to_come -= t.soonest_cost[past]
            past += 1
        if cost + to_come + (overdue + t.tail) * counted > stop_at:
            return Ran(np.inf, finish_s, first, first_ends_s)
        num_held, reach = deal(t, state, order, num, prefs, now_s, num_held)
    return Ran(cost + t.tail * late ** (t.power / LATE_POWER), finish_s, first, first_ends_s)


def _first(t: Table, order: Array, prefs: Array) -> Ran:
    """One deal alone, of no cost."""
    state = begin(t)
    deal(t, state, order, order.size, prefs, 0.0, (t.held >= 0).sum())
    return Ran(0.0, np.full(order.size, np.inf), state.holds, state.ends_s)


def _climb(t: Table, order: Array, prefs: Array, low: int, budget: int, stalled: int, gain: float, seed: int) -> tuple[Array, Array]:
    """A list and its ways after up to `budget` random changes, of which those are kept that lower the cost; or `stalled` in a row that
    together gain less than the part `gain`. The first `low` of the list stay in front."""
    np.random.seed(seed)
    order, prefs, num = order.copy(), prefs.copy(), order.size
    best = run(t, order, prefs, np.inf).cost
    spent, last, goal = 0, 0, best
    while spent < min(budget, last + stalled):
        spent += 1
        tried, row, kind = order.copy(), -1, np.random.random()
        at = np.random.randint(low, num)
        if kind < SHARE_SHIFT:
            shift(tried, at, max(low, min(num - 1, at + int(np.random.normal(0.0, max(2.0, num / 4))))))
        elif kind < SHARE_SHIFT + SHARE_SWAP:
            other = np.random.randint(low, num)
            tried[at], tried[other] = tried[other], tried[at]
        else:
            row = tried[at]
            before = prefs[row].copy()
            draw(prefs[row], t.num_ways[row])
        cost = run(t, tried, prefs, best).cost
        if cost < best:
            order, best = tried, cost
            if cost < (1 - gain) * goal:
                last, goal = spent, cost
        elif row >= 0:
            prefs[row] = before
    return order, prefs


def _shift(order: Array, at: int, to: int) -> None:
    moved = order[at]
    for place in range(at, to):
        order[place] = order[place + 1]
    for place in range(at, to, -1):
        order[place] = order[place - 1]
    order[to] = moved


def _draw(ways: Array, num: int) -> None:
    """Another choice of the job's `num` ways, in another order."""
    ways[:] = -1
    for nth in range(num):
        place = np.random.randint(0, nth + 1)
        ways[nth] = ways[place]
        ways[place] = nth
    ways[np.random.randint(1, num + 1) :] = -1


def compiled(function: Callable[..., Any]) -> Any:
    """Kept on disk, so that only the first process of a machine compiles it."""
    return numba.njit(cache=True)(function)


begin, deal, shift, draw = (compiled(function) for function in (_begin, _deal, _shift, _draw))
run, first, climb = (compiled(function) for function in (_run, _first, _climb))
