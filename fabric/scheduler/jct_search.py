"""Searches for the list with the least mean completion time: a family of index rules, then changes of the best one.

The index of a job is the least, over its ways, of time x (weight + price x units): with prices of nothing that is
shortest remaining time first, with high ones the least use of dear capacity first (Smith's rule for machines that
differ). The number of futures tried depends on the size of the problem alone, and the changes on a seed, which is the time: the
same problem gives the same answer, and the next one tries other changes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fabric.scheduler.jct_model import Model, Way
from fabric.scheduler.jct_roll import Rolled, first_deal, roll
from fabric.scheduler.problem import Listed, WarmStart

LEVELS = (0.1, 0.5, 1.5)
LEANS = (1.0, 3.0)
PRICE_STEPS = (2.0, 1.4)
SHARE_SWAP, SHARE_SHIFT = 0.2, 0.5
# A future of J jobs, R of them running at a time, each in up to three ways, costs about J x R of these.
BUDGET = 1_000_000
LEAST_TRIES, MOST_TRIES = 40, 1_500
# So many changes in a row that together gain less than this part end a search: the next one goes on.
STALLED, GAIN = 150, 0.0005
SAMPLE = 120
EPS_S = 1e-9
HOISTS = (1, 2, 4, 8, 16, 32)


@dataclass(slots=True)
class Found:
    """A list with its ways, the future that it leads to (its first step alone where the problem is large), and the figures
    (prices, then leans, of each flavor) of the rule that it comes from."""

    order: list[int]
    prefs: list[list[Way]]
    rolled: Rolled
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


def indexed(m: Model, figures: list[float]) -> tuple[list[int], list[list[Way]]]:
    """The list under prices, and each job's ways, best first, under leans: per flavor, of a unit, in jobs that wait."""
    prices, leans = halves(figures)
    prefs: list[list[Way]] = []
    keys: list[float] = []
    for n, ways in enumerate(m.ways):
        seconds = [m.seconds(n, way) for way in ways]
        ranked = sorted(ways, key=lambda way: (seconds[way.nth] * (m.weight[n] + leans[way.flavor] * way.units), way.nth))
        prefs.append(ranked)
        keys.append(min(_key(m, n, way, prices[way.flavor]) for way in ways))
    pinned = set(m.pinned)
    order = sorted(range(len(keys)), key=lambda n: (n not in pinned, keys[n], m.jobs[n].submitted_s, m.jobs[n].job_id))
    return order, prefs


def _key(m: Model, n: int, way: Way, price: float) -> float:
    """Taking a lease away costs its holder a restart, so that much counts for the holder."""
    seconds = m.seconds(n, way)
    if m.held[n] is not None:
        seconds -= m.restart_s[n] + m.lost[n] / way.rate
    return seconds * (1.0 + price * way.units / m.weight[n])


def tries(m: Model) -> int:
    """How many futures this problem may look at."""
    num = max(len(m.work), 1)
    running = min(num, sum(m.capacity))
    ways = sum(map(len, m.ways)) / num
    return min(MOST_TRIES, int(BUDGET / (num * (running + 5) * max(1.0, ways / 3))))


def search(m: Model, budget: int, warm: WarmStart | None = None, seed: float = 0.0) -> Found:
    """The best list found within `budget` futures; with too few of them, an index rule with the prices of a sample.

    `warm`: what the last search found. Most of it still holds, so that what one search finds the next one can build on.
    """
    rng, figures = random.Random(seed), _known(m, warm)
    if budget < LEAST_TRIES:
        return _ruled(m, figures, rng)
    best, spent = _priced(m) if figures is None else _retuned(m, figures, range(len(figures)))
    best, spent = _hoisted(m, best, spent)
    if warm is not None:
        best, spent = min(best, _continued(m, best, warm.listed), key=_cost), spent + 1
    last, goal = spent, best.rolled.cost
    while spent < min(budget, last + STALLED) and len(m.pinned) < len(m.work):
        order, prefs = _changed(m, best, rng)
        rolled = roll(m, order, prefs, best.rolled.cost)
        spent += 1
        if rolled.cost < best.rolled.cost:
            best = Found(order, prefs, rolled, best.figures)
            if rolled.cost < (1 - GAIN) * goal:
                last, goal = spent, rolled.cost
    return best


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
        figures = _priced(_sampled(m))[0].figures
    else:
        figures = _retuned(_sampled(m), figures, [rng.randrange(len(figures))])[0].figures
    order, prefs = indexed(m, figures)
    return Found(order, prefs, Rolled(first=first_deal(m, order, prefs)), figures)


def _continued(m: Model, best: Found, last: Listed) -> Found:
    """The last list without those that have ended; a new job comes behind the one that it follows in `best`."""
    row = {job.job_id: n for n, job in enumerate(m.jobs)}
    pinned = set(m.pinned)
    known = [(row[job_id], ways) for job_id, ways in last if job_id in row and row[job_id] not in pinned]
    order, prefs = [*m.pinned, *(n for n, _ in known)], list(best.prefs)
    for n, ways in known:
        named = {option[:3]: way for option, way in zip(m.options[n], m.ways[n], strict=True)}
        prefs[n] = [named[option[:3]] for option in ways if option[:3] in named] or prefs[n]
    follows: int | None = None
    is_known = {n for n, _ in known}
    for n in best.order[len(m.pinned) :]:
        if n not in is_known:
            order.insert(len(m.pinned) if follows is None else order.index(follows) + 1, n)
        follows = n
    return Found(order, prefs, roll(m, order, prefs, best.rolled.cost), best.figures)


def _cost(found: Found) -> float:
    return found.rolled.cost


def _priced(m: Model) -> tuple[Found, int]:
    """The best of the index rules, and how many were tried: some at all flavors' speed, then each figure by itself."""
    speed = speeds(m)
    starts = [[level * s for s in speed] + [level * lean * s for s in speed] for level in LEVELS for lean in LEANS]
    best, spent = min((_tried(m, figures) for figures in starts), key=_cost), len(starts)
    for step in PRICE_STEPS:
        best, more = _stepped(m, best, range(len(best.figures)), step)
        spent += more
    return best, spent


def _retuned(m: Model, figures: list[float], which: Iterable[int]) -> tuple[Found, int]:
    """The same near `figures`, of which those in `which` may change."""
    best, spent = _stepped(m, _tried(m, figures), which, PRICE_STEPS[-1])
    return best, spent + 1


def _stepped(m: Model, best: Found, which: Iterable[int], step: float) -> tuple[Found, int]:
    """Each of these figures up and down by itself."""
    spent = 0
    for figure in which:
        for factor in (step, 1 / step):
            figures = list(best.figures)
            figures[figure] *= factor
            found, spent = _tried(m, figures), spent + 1
            if found.rolled.cost < best.rolled.cost:
                best = found
                break
    return best, spent


def _tried(m: Model, figures: list[float]) -> Found:
    order, prefs = indexed(m, figures)
    return Found(order, prefs, roll(m, order, prefs), figures)


def _hoisted(m: Model, best: Found, spent: int) -> tuple[Found, int]:
    """Where the last completion counts, also tries the best list with its longest jobs first."""
    if not m.tail:
        return best, spent
    base = best
    low = len(m.pinned)
    longest = sorted(base.order[low:], key=lambda n: -min(m.seconds(n, way) for way in m.ways[n]))
    for num in HOISTS:
        if num < len(longest):
            hoisted = set(longest[:num])
            order = base.order[:low] + longest[:num] + [n for n in base.order[low:] if n not in hoisted]
            rolled, spent = roll(m, order, base.prefs), spent + 1
            if rolled.cost < best.rolled.cost:
                best = Found(order, base.prefs, rolled, base.figures)
    return best, spent


def _sampled(m: Model) -> Model:
    """A small problem like this one: every k-th job by size, and a k-th of the capacity (but room for its widest job)."""
    by_size = sorted(range(len(m.work)), key=lambda n: min(m.seconds(n, way) for way in m.ways[n]))
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


def _changed(m: Model, found: Found, rng: random.Random) -> tuple[list[int], list[list[Way]]]:
    """One change: a job shifted in the list, two jobs swapped, or another choice and order of one job's ways. Jobs that may
    not move stay in front."""
    order, prefs, low, num = list(found.order), found.prefs, len(m.pinned), len(found.order)
    kind = rng.random()
    if kind < SHARE_SHIFT:
        at = rng.randrange(low, num)
        to = at + int(rng.gauss(0, max(2.0, num / 4)))
        order.insert(max(low, min(num - 1, to)), order.pop(at))
    elif kind < SHARE_SHIFT + SHARE_SWAP:
        a, b = rng.randrange(low, num), rng.randrange(low, num)
        order[a], order[b] = order[b], order[a]
    else:
        n = order[rng.randrange(low, num)]
        prefs = list(prefs)
        prefs[n] = rng.sample(m.ways[n], rng.randint(1, len(m.ways[n])))
    return order, prefs
