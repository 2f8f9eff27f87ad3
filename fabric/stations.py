"""Pure: which services run on how many units of which flavors, so that their latencies are low.

The objective is the geometric mean over services of p95 over the latency of a request alone on the fastest flavor: every
service counts alike, whatever its scale. Units go one after another (or a few at a time) to where they lower it most; then
single units are moved and exchanged while that helps; services share units where that is better than having some each.

Invariants: never more units of a flavor than there are; a service only runs where it has a figure; the same input gives the same
answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from fabric.batching import RATIO_GRID, Curve, Offered, ServiceTime
from fabric.types import Domain

LEAST_GAIN = 0.004
"""A unit that lowers the objective's sum of logarithms by less stays free for other work."""
_STEPS = (1, 2, 3, 4)
_MAX_MOVES = 60
_MAX_ROUNDS = 4
_OVERLOAD = 20.0
_NOBODY = (-1, "")
_LOG_RATIOS = np.log(RATIO_GRID)


@dataclass(frozen=True, slots=True)
class Service:
    """A model that answers requests: `rate_per_s` of them, and what a batch takes per flavor (only where it is known)."""

    name: str
    rate_per_s: float
    times: Mapping[str, ServiceTime]
    domain: Domain = "other"


@dataclass(frozen=True, slots=True)
class Station:
    """`units` of a flavor with one queue, which serve `share` of the requests of each of `services`, the oldest request first, in
    batches of at most so many items, as soon as a batch is full or its oldest request has waited `max_wait_s`."""

    flavor: str
    units: int
    share: float
    max_batch: Mapping[str, int]
    max_wait_s: float = 0.0

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(self.max_batch)


Group = tuple[int, ...]
"""Services, by their place in the list, that share units."""
Units = dict[str, int]


@dataclass(slots=True)
class Search:
    """One problem: `supply` is flavor -> units. Curves are worked out once."""

    services: Sequence[Service]
    supply: Mapping[str, int]
    least_gain: float = LEAST_GAIN
    _curves: dict[tuple[Group, str, int], Curve] = field(default_factory=dict)
    _values: dict[tuple[Group, tuple[tuple[str, int], ...]], float] = field(default_factory=dict)

    def run(self) -> list[Station]:
        """Stations of all services; services that cannot keep up even so are given what there is."""
        groups: list[Group] = [(number,) for number in range(len(self.services))]
        best, chosen = self._dealt(groups)
        while len(groups) > 1:
            merged = [self._merged(groups, pair) for pair in combinations(range(len(groups)), 2)]
            tried = [(*self._dealt(some), some) for some in merged]
            total, units, some = min(tried, key=lambda one: one[0])
            if total >= best - 1e-6:
                break
            best, chosen, groups = total, units, some
        return self._finished(groups, chosen)[1]

    def arranged(self, groups: Sequence[Group]) -> tuple[float, list[Station]]:
        """The best found for groups that are given: the sum of the services' logarithms of latency ratios, and the stations."""
        return self._finished(groups, self._dealt(groups)[1])

    def _finished(self, groups: Sequence[Group], chosen: list[Units]) -> tuple[float, list[Station]]:
        best, chosen = self._improved(groups, chosen)
        for _ in range(_MAX_ROUNDS):
            tried = [self._improved(groups, self._dealt(groups, *start)[1]) for start in self._starts(groups, chosen)]
            total, units = min(tried, key=lambda one: one[0], default=(best, chosen))
            if total > best - 1e-3:
                break
            best, chosen = total, units
        stations = [station for group, units in zip(groups, chosen, strict=True) for station in self._stations(group, units)]
        return best, stations

    def _starts(self, groups: Sequence[Group], chosen: Sequence[Units]) -> list[tuple[list[Units], tuple[int, str]]]:
        """What to deal again from: a group without one of its flavors (which is then barred to it), or with all of one and no other."""
        starts: list[tuple[list[Units], tuple[int, str]]] = []
        for number, group in enumerate(groups):
            for name in self.flavors(group):
                rest = [{other: count for other, count in units.items() if other != name} for units in chosen]
                if chosen[number].get(name, 0):
                    kept = [units if at != number else rest[at] for at, units in enumerate(chosen)]
                    starts.append(([dict(units) for units in kept], (number, name)))
                if chosen[number].get(name, 0) < self.supply[name]:
                    rest[number] = {name: self.supply[name]}
                    starts.append((rest, _NOBODY))
        return starts

    def flavors(self, group: Group) -> list[str]:
        """Where all of the group have a figure, and there are units."""
        return [name for name, units in self.supply.items() if units > 0 and all(name in self.services[one].times for one in group)]

    def value(self, group: Group, units: Units) -> float:
        """Sum over the group's services of the logarithm of their latency ratio; beyond the grid what cannot be served."""
        held = tuple(sorted((name, count) for name, count in units.items() if count))
        found = self._values.get((group, held))
        if found is None:
            found = self._values[group, held] = len(group) * self._log_ratio(group, held)
        return found

    def _log_ratio(self, group: Group, held: tuple[tuple[str, int], ...]) -> float:
        shares = sum((self._curve(group, name, count).share for name, count in held), np.zeros(len(RATIO_GRID)))
        most = float(shares[-1])
        if most < 1.0:
            return float(_LOG_RATIOS[-1]) + _OVERLOAD * (1.0 - most)
        at = int(np.searchsorted(shares, 1.0))
        if at == 0:
            return float(_LOG_RATIOS[0])
        rise = (1.0 - shares[at - 1]) / max(shares[at] - shares[at - 1], 1e-12)
        return float(_LOG_RATIOS[at - 1] + rise * (_LOG_RATIOS[at] - _LOG_RATIOS[at - 1]))

    def _curve(self, group: Group, flavor: str, units: int) -> Curve:
        found = self._curves.get((group, flavor, units))
        if found is None:
            found = self._curves[group, flavor, units] = Curve([self._offered(one, flavor) for one in group], units)
        return found

    def _offered(self, number: int, flavor: str) -> Offered:
        service = self.services[number]
        return Offered(service.rate_per_s, service.times[flavor], min(time.single_s for time in service.times.values()))

    def _dealt(self, groups: Sequence[Group], start: Sequence[Units] = (), barred: tuple[int, str] = _NOBODY) -> tuple[float, list[Units]]:
        """Deals the free units out, each few to where each of them lowers the objective most; `barred`: a group that gets none of
        a flavor."""
        chosen: list[Units] = [dict(units) for units in start] or [{} for _ in groups]
        free = {name: count - sum(units.get(name, 0) for units in chosen) for name, count in self.supply.items()}
        open_to = [[name for name in self.flavors(group) if (number, name) != barred] for number, group in enumerate(groups)]
        gains: dict[tuple[int, str], tuple[float, int]] = {}
        stale = set(range(len(groups)))
        while True:
            for number in range(len(groups)):
                for name in open_to[number]:
                    if number in stale or gains[number, name][1] > free[name]:
                        gains[number, name] = self._gain(groups[number], chosen[number], name, free[name])
            if not gains:
                break
            (number, name), (gain, count) = max(gains.items(), key=lambda item: item[1][0])
            if count == 0 or gain < self.least_gain:
                break
            chosen[number][name] = chosen[number].get(name, 0) + count
            free[name] -= count
            stale = {number}
        return sum(self.value(group, units) for group, units in zip(groups, chosen, strict=True)), chosen

    def _gain(self, group: Group, units: Units, flavor: str, free: int) -> tuple[float, int]:
        """What each of a few more units of the flavor is worth here, and of how many."""
        before = self.value(group, units)
        best = (0.0, 0)
        # A large pool is dealt out in larger pieces, so that the work does not grow with it.
        piece = max(1, self.supply[flavor] // 32)
        for step in _STEPS:
            count = step * piece
            if count <= free:
                gain = (before - self.value(group, _plus(units, flavor, count))) / count
                best = max(best, (gain, count))
        return best

    def _improved(self, groups: Sequence[Group], chosen: Sequence[Units]) -> tuple[float, list[Units]]:
        """Moves a unit to another group, or exchanges two, while that lowers the objective; the best first."""
        chosen = list(chosen)
        for _ in range(_MAX_MOVES):
            found = min(self._moves(groups, chosen), key=lambda move: move[0], default=None)
            if found is None or found[0] > -1e-3:
                break
            _, one, other, gives, takes = found
            chosen[one] = _plus(_plus(chosen[one], gives, -1), takes, 1)
            chosen[other] = _plus(_plus(chosen[other], gives, 1), takes, -1)
        return sum(self.value(group, units) for group, units in zip(groups, chosen, strict=True)), chosen

    def _moves(self, groups: Sequence[Group], chosen: Sequence[Units]) -> list[tuple[float, int, int, str, str]]:
        """(change of the objective, who gives, who takes, the flavor given, the flavor taken for it or "")."""
        moves = []
        for one, other in ((a, b) for a in range(len(groups)) for b in range(len(groups)) if a != b):
            before = self.value(groups[one], chosen[one]) + self.value(groups[other], chosen[other])
            mine, theirs = self.flavors(groups[one]), self.flavors(groups[other])
            for gives in (name for name in theirs if chosen[one].get(name, 0)):
                for takes in ("", *(name for name in mine if chosen[other].get(name, 0) and name != gives)):
                    after = self.value(groups[one], _plus(_plus(chosen[one], gives, -1), takes, 1))
                    after += self.value(groups[other], _plus(_plus(chosen[other], gives, 1), takes, -1))
                    moves.append((after - before, one, other, gives, takes))
        return moves

    def _merged(self, groups: Sequence[Group], pair: tuple[int, int]) -> list[Group]:
        rest = [group for number, group in enumerate(groups) if number not in pair]
        return [*rest, tuple(sorted(groups[pair[0]] + groups[pair[1]]))]

    def _stations(self, group: Group, units: Units) -> list[Station]:
        ratio = math.exp(min(self.value(group, units) / len(group), float(_LOG_RATIOS[-1])))
        curves = {name: self._curve(group, name, count) for name, count in units.items() if count}
        shares = {name: float(np.interp(ratio, RATIO_GRID, curve.share)) for name, curve in curves.items()}
        total = sum(shares.values())
        stations = []
        for name, curve in curves.items():
            if shares[name] <= 0:
                continue
            share = shares[name] / total
            largest, max_wait_s = curve.batching(share)
            batches = {self.services[one].name: batch for one, batch in zip(group, largest, strict=True)}
            stations.append(Station(name, units[name], share, batches, max_wait_s))
        return stations


def _plus(units: Units, flavor: str, count: int) -> Units:
    return units if not flavor else {**units, flavor: units.get(flavor, 0) + count}
