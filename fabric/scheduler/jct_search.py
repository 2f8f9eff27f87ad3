"""Searches for the priority list with the least cost (`jct_future`), the jobs' ways included.

It begins with index rules: a job comes early if it needs little time and few units, at a price per unit and flavor, found
by looking at the futures that the prices lead to. A climb by random changes goes on from there, and from what the last search
found. The seed is the problem's own time: the same problem gives the same answer, and the next one tries other changes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fabric.scheduler.jct_future import Array, Ran, climb, first, run
from fabric.scheduler.jct_model import Model
from fabric.scheduler.problem import Listed, WarmStart

LEVELS = (0.1, 0.5, 1.5)
LEANS = (1.0, 3.0)
PRICE_STEPS = (2.0, 1.4)
# A future of J jobs, R of them running at a time, each in up to three ways, costs about J x R of these.
BUDGET = 8_000_000
LEAST_TRIES, MOST_TRIES, SMALL = 40, 5_000, 100
# A search ends early once this part of its budget has in a row gained less than this part of the cost: the next one goes on.
STALLED_SHARE, GAIN = 0.4, 0.0002
SAMPLE = 120
HOISTS = (1, 2, 4, 8, 16, 32)


@dataclass(slots=True)
class Found:
    """A list with its ways (int64[jobs] and int64[jobs, ways], see `jct_future`), the future that it leads to (its first step alone
    where the problem is large), and the figures (prices, then leans, of each flavor) of the rule that it comes from."""

    order: Array
    prefs: Array
    ran: Ran
    figures: list[float]


def speeds(m: Model) -> list[float]:
    """How fast a unit of each flavor is beside the best one, on average over the jobs that can use it: 0 to 1."""
    total, count = [0.0] * len(m.flavors), [0] * len(m.flavors)
    for ways in m.ways:
        best = max(way.rate / way.units for way in ways)
        for way in ways:
            total[way.flavor] += way.rate / way.units / best
            count[way.flavor] += 1
    return [t / c if c else 0.0 for t, c in zip(total, count, strict=True)]


def halves(figures: list[float]) -> tuple[list[float], list[float]]:
    """Prices and leans, one of each per flavor."""
    middle = len(figures) // 2
    return figures[:middle], figures[middle:]


def indexed(m: Model, figures: list[float]) -> tuple[Array, Array]:
    """The list under prices, and each job's ways, best first, under leans: per flavor, of a unit, in jobs that wait."""
    t = m.table
    prices, leans = (np.array(half) for half in halves(figures))
    weight = t.weight[:, None]
    prefs = np.argsort(t.seconds * (weight + leans[t.flavor] * t.units), axis=1, kind="stable")
    # Taking a lease away costs its holder a restart, so that much counts for the holder.
    own_s = t.seconds - np.where(t.held[:, None] >= 0, t.restart_s[:, None] + t.lost[:, None] / t.rate, 0.0)
    keys = (own_s * (1.0 + prices[t.flavor] * t.units / weight)).min(axis=1)
    pinned = set(m.pinned)
    order = sorted(range(len(keys)), key=lambda n: (n not in pinned, keys[n], m.jobs[n].submitted_s, m.jobs[n].job_id))
    return np.array(order, np.int64), np.where(np.arange(prefs.shape[1]) < t.num_ways[:, None], prefs, -1)


def tries(m: Model) -> int:
    """How many futures this problem may look at. A large one changes little from one time to the next, and more often: each time a
    smaller part of the search is enough."""
    num = max(len(m.work), 1)
    running = min(num, sum(m.capacity))
    ways = sum(map(len, m.ways)) / num
    return min(MOST_TRIES, int(BUDGET * min(1.0, SMALL / num) / (num * (running + 5) * max(1.0, ways / 3))))


def search(m: Model, budget: int, warm: WarmStart | None = None, seed: float = 0.0) -> Found:
    """The best list found within `budget` futures; with too few of them, an index rule with the prices of a sample.

    `warm`: what the last search found. Most of it still holds, so that what one search finds the next one can build on.
    """
    figures = _known(m, warm)
    if budget < LEAST_TRIES:
        return _ruled(m, figures, random.Random(seed))
    best = _hoisted(m, _priced(m) if figures is None else _retuned(m, figures, range(len(figures))))
    if warm is not None and warm.listed:
        best = min(best, _continued(m, best, warm.listed), key=_cost)
    low = len(m.pinned)
    if low == len(m.work):
        return best
    order, prefs = climb(m.table, best.order, best.prefs, low, budget, int(STALLED_SHARE * budget), GAIN, int(seed) % 2**32)
    return _found(m, order, prefs, best.figures)


def _found(m: Model, order: Array, prefs: Array, figures: list[float]) -> Found:
    return Found(order, prefs, run(m.table, order, prefs, np.inf), figures)


def _cost(found: Found) -> float:
    return found.ran.cost


def _known(m: Model, warm: WarmStart | None) -> list[float] | None:
    """The last figures, where they say something of every flavor."""
    if warm is None or not all(flavor in warm.prices for flavor in m.flavors):
        return None
    return [warm.prices[flavor][which] for which in (0, 1) for flavor in m.flavors]


def _ruled(m: Model, figures: list[float] | None, rng: random.Random) -> Found:
    """An index rule, its figures found on a sample; where there are some already, only one of them is looked at again, so that
    they change slowly and few leases with them."""
    if len(m.work) <= SAMPLE:
        figures = speeds(m) * 2
    elif figures is None:
        figures = _priced(_sampled(m)).figures
    else:
        figures = _retuned(_sampled(m), figures, [rng.randrange(len(figures))]).figures
    order, prefs = indexed(m, figures)
    return Found(order, prefs, first(m.table, order, prefs), figures)


def _continued(m: Model, best: Found, last: Listed) -> Found:
    """The last list without those that have ended; a new job comes behind the one that it follows in `best`."""
    row = {job.job_id: n for n, job in enumerate(m.jobs)}
    pinned = set(m.pinned)
    known = [(row[job_id], ways) for job_id, ways in last if job_id in row and row[job_id] not in pinned]
    prefs = best.prefs.copy()
    for n, ways in known:
        nth = {option[:3]: nth for nth, option in enumerate(m.options[n])}
        if kept := [nth[option[:3]] for option in ways if option[:3] in nth]:
            prefs[n] = -1
            prefs[n, : len(kept)] = kept
    listed = [n for n, _ in known]
    is_known = set(listed)
    behind: dict[int | None, list[int]] = {}
    before: int | None = None
    for n in best.order[len(m.pinned) :].tolist():
        if n not in is_known:
            behind.setdefault(before, []).append(n)
        else:
            before = n
    order = [*m.pinned, *behind.get(None, ()), *(one for n in listed for one in (n, *behind.get(n, ())))]
    return _found(m, np.array(order, np.int64), prefs, best.figures)


def _priced(m: Model) -> Found:
    """The best of the index rules: some at all flavors' speed, then each figure by itself."""
    speed = speeds(m)
    starts = [[level * s for s in speed] + [level * lean * s for s in speed] for level in LEVELS for lean in LEANS]
    best = min((_tried(m, figures) for figures in starts), key=_cost)
    for step in PRICE_STEPS:
        best = _stepped(m, best, range(len(best.figures)), step)
    return best


def _retuned(m: Model, figures: list[float], which: Iterable[int]) -> Found:
    """The best near `figures`, of which those in `which` may change."""
    return _stepped(m, _tried(m, figures), which, PRICE_STEPS[-1])


def _stepped(m: Model, best: Found, which: Iterable[int], step: float) -> Found:
    """Each of these figures up and down by itself."""
    for figure in which:
        for factor in (step, 1 / step):
            figures = list(best.figures)
            figures[figure] *= factor
            found = _tried(m, figures)
            if found.ran.cost < best.ran.cost:
                best = found
                break
    return best


def _tried(m: Model, figures: list[float]) -> Found:
    return _found(m, *indexed(m, figures), figures)


def _hoisted(m: Model, best: Found) -> Found:
    """Where the last completion counts, also tries the best list with its longest jobs first."""
    if not m.tail:
        return best
    base = best
    pinned, rest = np.split(base.order, [len(m.pinned)])
    longest = rest[np.argsort(-m.table.seconds.min(axis=1)[rest], kind="stable")]
    for num in HOISTS:
        if num < len(longest):
            order = np.concatenate((pinned, longest[:num], rest[~np.isin(rest, longest[:num])]))
            best = min(best, _found(m, order, base.prefs, base.figures), key=_cost)
    return best


def _sampled(m: Model) -> Model:
    """A small problem like this one: every k-th job by size, and a k-th of the capacity (but room for its widest job)."""
    by_size = np.argsort(m.table.seconds.min(axis=1), kind="stable").tolist()
    step = max(1, len(by_size) // SAMPLE)
    kept = by_size[step // 2 :: step]
    widest = [max((way.units for n in kept for way in m.ways[n] if way.flavor == f), default=0.0) for f in range(len(m.flavors))]
    share = len(kept) / max(len(by_size), 1)

    return replace(
        m,
        jobs=[m.jobs[n] for n in kept],
        capacity=[max(c * share, w) for c, w in zip(m.capacity, widest, strict=True)],
        ways=[m.ways[n] for n in kept],
        options=[m.options[n] for n in kept],
        work=[m.work[n] for n in kept],
        weight=[m.weight[n] for n in kept],
        restart_s=[m.restart_s[n] for n in kept],
        held=[None] * len(kept),
        warmup_s=[0.0] * len(kept),
        lost=[0.0] * len(kept),
        pinned=[],
    )
