"""Which flavor each job is meant for, who comes next, and a greedy plan by that order for problems too large to search.

Invariants: the greedy plan never takes more than the capacity, and gives up no running job that fits.
"""

from __future__ import annotations

import numpy as np

from fabric.scheduler.lp import Floats, solve
from fabric.scheduler.makespan_model import LOAD_WEIGHT, Indices, Ways, need_s, step_program

MAX_WAYS = 4_000
"""Above this many ways, jobs that are alike are planned as one."""
_ALIKE = 0.1
_MEANT = 1e-6
_WORTH_MOVING = 0.7


def relax(ways: Ways) -> tuple[Floats, float, float]:
    """(share of each job's work meant for each way, least end, a lower bound of the end): seconds from now."""
    num = len(ways.job)
    relaxed = solve(step_program(ways, 0.0, np.zeros(num, dtype=np.bool_), 1.0))
    if relaxed is None:  # cannot be: every job has a way, and the end is free
        return np.zeros(num), float(need_s(ways).max(initial=0.0)), 0.0
    return relaxed.x[:num] / need_s(ways), float(relaxed.x[2 * num]), relaxed.objective / (1.0 + LOAD_WEIGHT)


def relax_classes(ways: Ways) -> tuple[Floats, float, float]:
    """The same with jobs of like length and like ratios between their ways taken as one; members are dealt to the ways in turn."""
    classes, member_ways = _classes(ways)
    whole_s = need_s(ways)
    picks = np.array([ways_of_class[0] for ways_of_class in member_ways])
    counts = np.array([len(ways_of_class) for ways_of_class in member_ways], dtype=np.float64)
    mean_s = np.array([whole_s[ways_of_class].mean() for ways_of_class in member_ways])
    merged = Ways(
        ways.jobs[: len(classes)],
        [],
        np.array([n for n, members in enumerate(classes) for _ in range(members)], dtype=np.int64),
        ways.flavor[picks],
        ways.units[picks] * counts,
        mean_s,
        np.zeros(len(picks)),
        np.zeros(len(picks)),
        np.zeros(len(picks), dtype=np.bool_),
        np.zeros(len(picks), dtype=np.bool_),
        ways.flavors,
        ways.capacity,
    )
    class_shares, end_s, bound_s = relax(merged)
    shares = np.zeros(len(ways.job))
    for group in np.split(np.arange(len(picks)), np.cumsum(classes)[:-1]):
        _deal(shares, [member_ways[way] for way in group], class_shares[group])
    return shares, end_s, bound_s


def _classes(ways: Ways) -> tuple[list[int], list[Indices]]:
    """(ways per class, positions of the members' ways for each class way); members by falling length."""
    whole_s = need_s(ways)
    starts = np.flatnonzero(np.concatenate(([True], ways.job[1:] != ways.job[:-1])))
    ends = np.append(starts[1:], len(ways.job))
    least_s = np.minimum.reduceat(whole_s, starts)
    ratio = np.round(np.log(whole_s / least_s[ways.job]) / _ALIKE).astype(np.int64).tolist()
    length = np.round(2 * np.log2(least_s)).astype(np.int64).tolist()
    flavor, units = ways.flavor.tolist(), ways.units.tolist()
    members: dict[object, list[int]] = {}
    for job in np.argsort(-least_s, kind="stable").tolist():
        first, last = int(starts[job]), int(ends[job])
        key = (length[job], *zip(flavor[first:last], units[first:last], ratio[first:last], strict=True))
        members.setdefault(key, []).append(first)
    sizes: list[int] = []
    positions: list[Indices] = []
    for firsts in members.values():
        size = int(ends[ways.job[firsts[0]]]) - firsts[0]
        sizes.append(size)
        positions.extend(np.array(firsts) + offset for offset in range(size))
    return sizes, positions


def _deal(shares: Floats, member_ways: list[Indices], class_shares: Floats) -> None:
    """Give each member whole to one way, so that the parts come near the class's shares at every length."""
    got = np.zeros(len(member_ways))
    total = max(float(class_shares.sum()), 1e-12)
    for member in range(len(member_ways[0])):
        way = int(np.argmax(class_shares / total * (member + 1) - got))
        got[way] += 1
        shares[member_ways[way][member]] = 1.0


def queue(ways: Ways, shares: Floats, end_s: float) -> list[tuple[int, list[int]]]:
    """Every job (its position) with the ways it should take: longest first; ways it is meant for, then those in which it still
    ends by `end_s`, quickest first; failing all, its quickest."""
    whole_s = need_s(ways)
    is_meant = shares > _MEANT
    is_good = is_meant | (whole_s <= end_s)
    best_s = np.full(len(ways.jobs), np.inf)
    np.minimum.at(best_s, ways.job, whole_s)
    is_good |= whole_s <= best_s[ways.job]
    length_s = np.zeros(len(ways.jobs))
    np.maximum.at(length_s, ways.job, np.where(is_meant, whole_s, 0.0))
    rank = np.lexsort((whole_s, -np.round(shares, 6), ways.job))
    good: list[list[int]] = [[] for _ in ways.jobs]
    owner = ways.job.tolist()
    for way in rank[is_good[rank]].tolist():
        good[owner[way]].append(way)
    return [(job, good[job]) for job in np.argsort(-np.maximum(length_s, best_s), kind="stable").tolist()]


def fill(ways: Ways, waiting: list[tuple[int, list[int]]], end_s: float) -> list[int]:
    """All that is held and fits, but what would end late moves where there is room for it; then by the queue: first the way that
    each is meant for, then any good one."""
    room = ways.capacity.copy()
    run: list[int] = []
    placed: set[int] = set()
    flavor, units, owner = ways.flavor.tolist(), ways.units.tolist(), ways.job.tolist()

    def take(way: int) -> None:
        if owner[way] not in placed and units[way] <= room[flavor[way]] + 1e-9:
            room[flavor[way]] -= units[way]
            placed.add(owner[way])
            run.append(way)

    held = np.flatnonzero(ways.is_held)
    for way in held[np.argsort(~ways.must[held], kind="stable")].tolist():
        take(way)
    has_place = set(run)
    for way, better in _late(ways, waiting, end_s).items():
        freed = units[way] if flavor[better] == flavor[way] else 0.0
        if way in has_place and units[better] <= room[flavor[better]] + freed + 1e-9:
            run.remove(way)
            room[flavor[way]] += units[way]
            placed.discard(owner[way])
            take(better)
    for _, good in waiting:
        take(good[0])
    if room.max(initial=0.0) > 0:
        for _, good in waiting:
            for way in good[1:]:
                take(way)
    return run


def _late(ways: Ways, waiting: list[tuple[int, list[int]]], end_s: float) -> dict[int, int]:
    """Held ways that would end well after `end_s` (longest first), and the way that the job is meant for instead."""
    whole_s = need_s(ways)
    meant = {job: good[0] for job, good in waiting}
    late = np.flatnonzero(ways.is_held & ~ways.must & (whole_s > end_s))
    late = late[np.argsort(-whole_s[late], kind="stable")]
    pairs = ((int(way), meant[int(ways.job[way])]) for way in late)
    return {way: better for way, better in pairs if whole_s[better] < _WORTH_MOVING * whole_s[way]}
