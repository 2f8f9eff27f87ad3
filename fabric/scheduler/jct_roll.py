"""What a priority list leads to: the exact future of the jobs that are known, if nothing else comes.

At every completion the capacity is dealt out anew, in the order of the list; each job takes the first of its ways that
fits, but keeps the one it has where that finishes it sooner. Starts, moves and lost work are charged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fabric.scheduler.jct_model import EPS, Model, Way

Dealt = list[tuple[int, Way, float]]


@dataclass(slots=True)
class Rolled:
    """`cost`: weighted sum of the completion times (s from now), and the last one times `tail`; infinite where it was cut
    short. `first`: who holds what now."""

    cost: float = 0.0
    first: Dealt = field(default_factory=list)
    finish_s: dict[int, float] = field(default_factory=dict)


class _Future:
    """The state of one future. `stamp[n]` is the deal in which job n last held something; `owed` what its first move loses."""

    __slots__ = ("deals", "holds", "left", "m", "order", "owed", "prefs", "setup", "stamp")

    def __init__(self, m: Model, order: list[int], prefs: list[list[Way]]) -> None:
        self.m, self.prefs, self.order = m, prefs, list(order)
        self.left, self.setup, self.owed = list(m.work), list(m.warmup_s), list(m.lost)
        self.holds = list(m.held)
        self.stamp, self.deals = [0] * len(m.work), 0

    def deal(self) -> tuple[Dealt, float]:
        """Who holds what until the next completion, each with the seconds to its own; and the least of these."""
        prefs, holds, left, setup, stamp, deals = self.prefs, self.holds, self.left, self.setup, self.stamp, self.deals
        free = list(self.m.capacity)
        room, soonest = sum(free) - EPS, math.inf
        dealt: Dealt = []
        for n in self.order:
            for way in prefs[n]:
                if free[way[0]] + EPS >= way[1]:
                    break
            else:
                continue
            if way is not holds[n] or stamp[n] != deals:
                way = self._start(n, way, free)
            stamp[n] = deals + 1
            free[way[0]] -= way[1]
            room -= way[1]
            seconds = setup[n] + left[n] / way[2]
            dealt.append((n, way, seconds))
            if seconds < soonest:
                soonest = seconds
            if room <= 0:
                break
        self.deals = deals + 1
        return dealt, soonest

    def _start(self, n: int, way: Way, free: list[float]) -> Way:
        """Starts or moves job n, unless what it has ends sooner and is still free."""
        had, restart_s, owed = self.holds[n], self.m.restart_s[n], self.owed[n]
        if had is not None and self.stamp[n] == self.deals and free[had[0]] + EPS >= had[1]:
            stay_s, move_s = self.setup[n] + self.left[n] / had[2], restart_s + (self.left[n] + owed) / way[2]
            if stay_s <= move_s:
                return had
        self.left[n] += owed
        self.owed[n] = 0.0
        self.setup[n] = restart_s
        self.holds[n] = way
        return way

    def advance(self, dealt: Dealt, until: float) -> list[tuple[int, float]]:
        """Lets `until` seconds pass; returns who completed in them, and when."""
        left, setup = self.left, self.setup
        ended: list[tuple[int, float]] = []
        for n, way, seconds in dealt:
            if seconds <= until:
                ended.append((n, seconds))
                self.order.remove(n)
            elif setup[n] <= until:
                left[n] = (seconds - until) * way[2]
                setup[n] = 0.0
            else:
                setup[n] -= until
        return ended


def roll(m: Model, order: list[int], prefs: list[list[Way]], stop_at: float = math.inf) -> Rolled:
    """The future of `order`, each job with the ways `prefs[n]`, best first. Given up as soon as its cost passes `stop_at`."""
    future = _Future(m, order, prefs)
    out, now_s, cost = Rolled(), 0.0, 0.0
    waiting = m.tail + sum(m.weight[n] for n in order)
    while future.order:
        dealt, soonest = future.deal()
        if not dealt:
            break
        if not out.first:
            out.first = dealt
        for n, seconds in future.advance(dealt, soonest):
            out.finish_s[n] = now_s + seconds
            cost += m.weight[n] * (now_s + seconds)
            waiting -= m.weight[n]
        now_s += soonest
        if cost + waiting * now_s > stop_at:
            out.cost = math.inf
            return out
    out.cost = cost + m.tail * now_s
    return out


def first_deal(m: Model, order: list[int], prefs: list[list[Way]]) -> Dealt:
    """Who holds what now under this list: the first step of its future alone."""
    return _Future(m, order, prefs).deal()[0]
