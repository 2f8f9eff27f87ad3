"""What a priority list leads to: the exact future of the jobs that are known, if nothing else comes.

At every completion the capacity is dealt out anew, in the order of the list; each job takes the first of its ways that
fits, but keeps the one it has where that finishes it sooner. Starts, moves and lost work are charged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fabric.scheduler.jct_model import Model, Way

ROOM = 1e-6
LATE_POWER, FAR_S = 8.0, 1e12
Dealt = list[tuple[int, Way, float]]


@dataclass(slots=True)
class Rolled:
    """`cost`: weighted sum of the completion times (s from now, to the model's power), and the last ones (a high norm, for the
    very last alone gives a search no slope) times `tail`; infinite where it was cut short. `first`: who holds what now."""

    cost: float = 0.0
    first: Dealt = field(default_factory=list)
    finish_s: dict[int, float] = field(default_factory=dict)


class _Future:
    """The state of one future. `ends` are the jobs that run and when (s from now) each ends if left alone; `left[n]` is the
    work of job n when it last started; `owed[n]` what its first move loses."""

    __slots__ = ("ends", "holds", "left", "m", "now_s", "order", "owed", "prefs")

    def __init__(self, m: Model, order: list[int], prefs: list[list[Way]]) -> None:
        self.m, self.prefs, self.order, self.now_s = m, prefs, list(order), 0.0
        self.left, self.owed, self.holds = list(m.work), list(m.lost), list(m.held)
        self.ends = {n: m.warmup_s[n] + m.work[n] / way.rate for n, way in enumerate(m.held) if way is not None}

    def deal(self) -> None:
        """Deals the capacity out anew. Only what changes costs more than a look."""
        prefs, holds, ends = self.prefs, self.holds, self.ends
        free = list(self.m.capacity)
        room, unseen = sum(free), len(ends)
        for n in self.order:
            for way in prefs[n]:
                if free[way[0]] >= way[1]:
                    break
            else:
                if holds[n] is not None:
                    self._stop(n)
                    unseen -= 1
                continue
            had = holds[n]
            if had is not None:
                unseen -= 1
            if way is not had:
                way = self._start(n, way, had, free)
            free[way[0]] -= way[1]
            room -= way[1]
            if room <= ROOM and not unseen:
                break

    def _start(self, n: int, way: Way, had: Way | None, free: list[float]) -> Way:
        """Starts or moves job n, unless what it has ends sooner and is still free."""
        left, restart_s = self.left[n], self.m.restart_s[n]
        if had is not None:
            left = self._left(n, had)
            if free[had[0]] >= had[1] and self.ends[n] <= self.now_s + restart_s + (left + self.owed[n]) / way[2]:
                return had
        left += self.owed[n]
        self.owed[n] = 0.0
        self.left[n], self.holds[n] = left, way
        self.ends[n] = self.now_s + restart_s + left / way[2]
        return way

    def _stop(self, n: int) -> None:
        had = self.holds[n]
        assert had is not None
        self.left[n], self.holds[n] = self._left(n, had), None
        del self.ends[n]

    def _left(self, n: int, had: Way) -> float:
        return min(self.left[n], (self.ends[n] - self.now_s) * had[2])

    def step(self) -> list[int]:
        """Goes to the next completion and returns who completes."""
        ends = self.ends
        now_s = self.now_s = min(ends.values())
        done = [n for n, end in ends.items() if end <= now_s]
        for n in done:
            del ends[n]
            self.order.remove(n)
        return done

    def dealt(self) -> Dealt:
        return [(n, way, self.ends[n] - self.now_s) for n in self.order if (way := self.holds[n]) is not None]


def roll(m: Model, order: list[int], prefs: list[list[Way]], stop_at: float = math.inf) -> Rolled:
    """The future of `order`, each job with the ways `prefs[n]`, best first. Given up as soon as its cost must pass `stop_at`: no job
    ends before now, nor before its fastest way lets it."""
    future, out, cost, late = _Future(m, order, prefs), Rolled(), 0.0, 0.0
    weight, finish_s, power = m.weight, out.finish_s, m.power
    soonest = m.soonest if stop_at < math.inf else ()
    num_past, overdue, to_come = 0, 0.0, sum(counted for _, _, counted in soonest)
    future.deal()
    out.first = future.dealt()
    while future.ends:
        done = future.step()
        counted = future.now_s**power
        late += len(done) * min(future.now_s, FAR_S) ** LATE_POWER
        for n in done:
            finish_s[n] = future.now_s
            cost += weight[n] * counted
            overdue -= weight[n]
        while num_past < len(soonest) and soonest[num_past][0] <= future.now_s:
            overdue += soonest[num_past][1]
            to_come -= soonest[num_past][2]
            num_past += 1
        if cost + to_come + (overdue + m.tail) * counted > stop_at:
            out.cost = math.inf
            return out
        future.deal()
    out.cost = cost + m.tail * late ** (power / LATE_POWER)
    return out


def first_deal(m: Model, order: list[int], prefs: list[list[Way]]) -> Dealt:
    """Who holds what now under this list: the first step of its future alone."""
    future = _Future(m, order, prefs)
    future.deal()
    return future.dealt()
