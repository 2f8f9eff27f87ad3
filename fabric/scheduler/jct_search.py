"""Searches for the list with the least mean completion time: a family of index rules, then changes of the best one.

The index of a job is the least, over its ways, of time x (1 + price x units): with prices of nothing that is shortest
remaining time first, with high ones the least use of dear capacity first (Smith's rule for machines that differ). The
number of futures tried depends on the size of the problem alone, and the changes on a seed: the same problem gives the
same answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from fabric.scheduler.jct_model import Model, Way
from fabric.scheduler.jct_roll import Rolled, roll

LEVELS = (0.0, 0.3, 1.0, 3.0)
PRICE_STEP = 1.8
SHARE_SWAP, SHARE_SHIFT = 0.1, 0.7
# One future of J jobs, R of them running at a time, takes about J x R of these; 100 jobs get about a thousand futures.
BUDGET = 3_000_000
MOST_TRIES, LEAST_TRIES = 3_000, 8

Score = Callable[[Rolled], float]


@dataclass(slots=True)
class Found:
    """A list with its ways, the future that it leads to, and what that is worth (less is better)."""

    order: list[int]
    prefs: list[list[Way]]
    rolled: Rolled
    score: float


def speeds(m: Model) -> list[float]:
    """How fast a unit of each flavor is beside the best one, on average over the jobs that can use it: 0 to 1."""
    total, count = [0.0] * len(m.flavors), [0] * len(m.flavors)
    for ways in m.ways:
        best = max(way.rate / way.units for way in ways)
        for way in ways:
            total[way.flavor] += way.rate / way.units / best
            count[way.flavor] += 1
    return [t / c if c else 0.0 for t, c in zip(total, count, strict=True)]


def indexed(m: Model, prices: list[float]) -> tuple[list[int], list[list[Way]]]:
    """The list and the ways, best first, under these prices of a unit per flavor (counted in jobs that wait)."""
    prefs: list[list[Way]] = []
    keys: list[float] = []
    for n, ways in enumerate(m.ways):
        ranked = sorted((m.seconds(n, way) * (m.weight[n] + prices[way.flavor] * way.units), way.index, way) for way in ways)
        prefs.append([way for _, _, way in ranked])
        keys.append(ranked[0][0] / m.weight[n])
    pinned = set(m.pinned)
    order = sorted(range(len(keys)), key=lambda n: (n not in pinned, keys[n], m.jobs[n].submitted_s, m.jobs[n].job_id))
    return order, prefs


def tries(m: Model) -> int:
    """How many futures this problem may look at."""
    num = max(len(m.work), 1)
    running = min(num, sum(m.capacity))
    return max(LEAST_TRIES, min(MOST_TRIES, int(BUDGET / (num * (running + 5)))))


def search(m: Model, budget: int, seed: int = 0, score: Callable[[Rolled], float] | None = None) -> Found:
    """The best list found within `budget` futures."""
    best, spent = _priced(m)
    rng = random.Random(seed)
    while spent < budget:
        order, prefs = _changed(m, best, rng)
        rolled = roll(m, order, prefs, best.score)
        spent += 1
        if rolled.cost <= best.score:
            best = Found(order, prefs, rolled, rolled.cost)
    return best


def _tried(m: Model, prices: list[float]) -> Found:
    order, prefs = indexed(m, prices)
    rolled = roll(m, order, prefs)
    return Found(order, prefs, rolled, rolled.cost)


def _priced(m: Model) -> tuple[Found, int]:
    """The best of the index rules: prices in proportion to speed at several levels, then flavor by flavor."""
    speed, spent = speeds(m), 0
    best, at = None, list(speed)
    for level in LEVELS:
        prices = [level * s for s in speed]
        found, spent = _tried(m, prices), spent + 1
        if best is None or found.score < best.score:
            best, at = found, prices
    assert best is not None
    for _ in range(2):
        for flavor in range(len(speed)):
            for factor in (PRICE_STEP, 1 / PRICE_STEP):
                prices = list(at)
                prices[flavor] *= factor
                found, spent = _tried(m, prices), spent + 1
                if found.score < best.score:
                    best, at = found, prices
    return best, spent


def _changed(m: Model, found: Found, rng: random.Random) -> tuple[list[int], list[list[Way]]]:
    """One change: a job shifted in the list, two jobs swapped, or another choice and order of one job's ways."""
    order, prefs, num = list(found.order), found.prefs, len(found.order)
    kind = rng.random()
    if kind < SHARE_SHIFT:
        at = rng.randrange(num)
        to = at + int(rng.gauss(0, max(2.0, num / 4)))
        order.insert(max(0, min(num - 1, to)), order.pop(at))
    elif kind < SHARE_SHIFT + SHARE_SWAP:
        a, b = rng.randrange(num), rng.randrange(num)
        order[a], order[b] = order[b], order[a]
    else:
        n = rng.randrange(num)
        ways = rng.sample(m.ways[n], rng.randint(1, len(m.ways[n])))
        prefs = list(prefs)
        prefs[n] = ways
    return order, prefs
