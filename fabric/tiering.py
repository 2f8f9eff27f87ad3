"""Pure: the tier rule. Which flavors serve which class of work, for services (inference) and training loads together.

Training goes to where its work costs least and still gets done; services get the units on which they answer soonest under
their load. Measured figures decide. Where nothing is measured of a class, its domain does: CV on tensor cores, NLP on
accelerators with FP16 (the router's own preference), one unit, so that it is measured next.

The order: training chooses first (it wants what is cheapest, and that is seldom what answers soonest), services take of the rest
what lowers their latency, and what is then free jobs may use. Where services cannot keep up with what training leaves, they
choose first and training makes do: cheap steps may cost latency, never a service that falls behind.

Invariants: no flavor is given out beyond its units; a flavor without a figure for a class is not used for it; the same
facts give the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fabric.capacity import FlavorCapacity
from fabric.errors import BugError
from fabric.routing import preferred_flavors
from fabric.scheduler.lp import LinearProgram, solve
from fabric.stations import Search, Service, Station
from fabric.types import Domain, Flavor

_SHORT_FACTOR = 1e3
"""Work that is left undone is priced far above the dearest way to do it: first as much as possible, then cheaply."""


@dataclass(frozen=True, slots=True)
class Supply:
    """`units` of one flavor that are free to be given out, and what an hour of one costs (None: not known)."""

    flavor: Flavor
    units: int
    usd_per_h: float | None


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """A class of training work: `work_per_s` has to be done, a unit of a flavor does `rates[flavor]` per second (only where it
    is known)."""

    name: str
    work_per_s: float
    rates: Mapping[str, float]
    domain: Domain = "other"


@dataclass(frozen=True, slots=True)
class TierPlan:
    """`stations`: where services run. `training`: load -> flavor -> units it is expected to keep busy. `short`: load -> part of
    its work (0..1) that there is no room for. `for_jobs`: flavor -> units that no station holds; the job plane's planners may
    use all of them. `overloaded`: services whose stations, if any, cannot keep up. `by_prior`: services and loads that were placed by
    their domain alone."""

    stations: tuple[Station, ...]
    training: Mapping[str, Mapping[str, float]]
    short: Mapping[str, float]
    for_jobs: Mapping[str, int]
    overloaded: tuple[str, ...] = ()
    by_prior: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Dealt:
    training: dict[str, dict[str, float]]
    short: dict[str, float] = field(default_factory=dict)


def plan_tiers(services: Sequence[Service], loads: Sequence[TrainingLoad], supply: Sequence[Supply]) -> TierPlan:
    """Services of no load get no station. Raises: BugError where a flavor or a name is given twice, or a figure is not above 0."""
    _check(services, loads, supply)
    by_prior = tuple(one.name for one in services if not one.times) + tuple(load.name for load in loads if not load.rates)
    units = {one.flavor.name: one.units for one in supply}
    known_loads = [load if load.rates else _load_by_prior(load, supply) for load in loads]
    unknown, left = _stations_by_prior([one for one in services if not one.times and one.rate_per_s > 0], supply)
    busy = [one for one in services if one.times and one.rate_per_s > 0]
    dealt = _train(known_loads, supply, left)
    stations = Search(busy, _less(left, dealt)).run()
    if overloaded(busy, stations):
        stations = Search(busy, left).run()
        dealt = _train(known_loads, supply, _without(left, stations))
    late = overloaded(busy, stations)
    stations = [*unknown, *stations]
    return TierPlan(tuple(stations), dealt.training, dealt.short, _without(units, stations), late, by_prior)


def overloaded(services: Sequence[Service], stations: Sequence[Station]) -> tuple[str, ...]:
    """Services that have no station, or one that is given more than it can do."""
    known = {one.name: one for one in services}
    kept_up: set[str] = set()
    late: set[str] = set()
    for station in stations:
        served = [known[name] for name in station.services]
        demand = station.share * sum(one.rate_per_s * one.times[station.flavor].per_item_s for one in served)
        (kept_up if demand < station.units else late).update(station.services)
    return tuple(name for name in known if name not in kept_up - late)


def prior_flavors(domain: Domain, flavors: Sequence[Flavor]) -> list[str]:
    """Where work of the domain goes while nothing is measured: its preferred flavors, all of them where none is."""
    preferred = preferred_flavors(domain, [FlavorCapacity(flavor, (), {}, {}) for flavor in flavors])
    return [flavor.name for flavor in flavors if flavor.name in preferred] or [flavor.name for flavor in flavors]


def _load_by_prior(load: TrainingLoad, supply: Sequence[Supply]) -> TrainingLoad:
    """One unit's worth of work, on any flavor of the prior: the cheapest will be taken."""
    names = prior_flavors(load.domain, [one.flavor for one in supply if one.units > 0])
    return replace(load, work_per_s=1.0, rates=dict.fromkeys(names, 1.0))


def _stations_by_prior(services: Sequence[Service], supply: Sequence[Supply]) -> tuple[list[Station], dict[str, int]]:
    """One unit for each, of the cheapest flavor of its prior that has one; what is left of all flavors."""
    left = {one.flavor.name: one.units for one in supply}
    price = _prices(supply)
    stations = []
    for service in services:
        open_to = prior_flavors(service.domain, [one.flavor for one in supply if left[one.flavor.name] > 0])
        if open_to:
            flavor = min(open_to, key=lambda name: (price[name], name))
            left[flavor] -= 1
            stations.append(Station(flavor, 1, 1.0, {service.name: 1}))
    return stations, left


def _train(loads: Sequence[TrainingLoad], supply: Sequence[Supply], units: Mapping[str, int]) -> _Dealt:
    """Busy units of each load on each flavor: the cheapest way to do all of the work, or as much as there is room for."""
    price = _prices(supply)
    ways = [(number, name) for number, load in enumerate(loads) for name in load.rates if units.get(name, 0) > 0]
    names = [name for name, count in units.items() if count > 0]
    dearest = _SHORT_FACTOR * (max(price.values(), default=1.0) + 1.0)
    num = len(ways)
    # Columns: busy units per way as a part of the load's work, then the undone part per load.
    per_work = np.array([loads[number].work_per_s / loads[number].rates[name] for number, name in ways])
    whole = [max((load.work_per_s / rate for rate in load.rates.values()), default=1.0) for load in loads]
    cost = np.concatenate([per_work * [price[name] for _, name in ways], dearest * np.array(whole)])
    rows = [number for number, _ in ways] + list(range(len(loads))) + [len(loads) + names.index(name) for _, name in ways]
    cols = list(range(num + len(loads))) + list(range(num))
    values = np.concatenate([np.ones(num + len(loads)), per_work])
    upper = np.concatenate([np.ones(len(loads)), [float(units[name]) for name in names]])
    program = LinearProgram(
        cost=cost,
        col_lower=np.zeros(len(cost)),
        col_upper=np.ones(len(cost)),
        rows=np.array(rows, dtype=np.int64),
        cols=np.array(cols, dtype=np.int64),
        values=values,
        row_lower=np.concatenate([np.ones(len(loads)), np.full(len(names), -np.inf)]),
        row_upper=upper,
    )
    found = solve(program)
    if found is None:
        raise BugError("the program for training has no solution", loads=len(loads), flavors=len(names))
    dealt = _Dealt({load.name: {} for load in loads})
    for (number, name), part, busy in zip(ways, found.x, per_work, strict=False):
        if part > 1e-9:
            dealt.training[loads[number].name][name] = float(part * busy)
    dealt.short.update({load.name: float(part) for load, part in zip(loads, found.x[num:], strict=True) if part > 1e-6})
    return dealt


def _less(units: Mapping[str, int], dealt: _Dealt) -> dict[str, int]:
    """What training leaves, in whole units."""
    busy = dict.fromkeys(units, 0.0)
    for ways in dealt.training.values():
        for name, amount in ways.items():
            busy[name] += amount
    return {name: count - math.ceil(busy[name] - 1e-6) for name, count in units.items()}


def _without(units: Mapping[str, int], stations: Sequence[Station]) -> dict[str, int]:
    left = dict(units)
    for station in stations:
        left[station.flavor] -= station.units
    return left


def _prices(supply: Sequence[Supply]) -> dict[str, float]:
    """A price that is not known counts as a little above the dearest that is: unknown is never free, nor the better of two equals."""
    dearest = 1.001 * max((one.usd_per_h for one in supply if one.usd_per_h is not None), default=1.0)
    return {one.flavor.name: dearest if one.usd_per_h is None else one.usd_per_h for one in supply}


def _check(services: Sequence[Service], loads: Sequence[TrainingLoad], supply: Sequence[Supply]) -> None:
    for names in ([one.name for one in services] + [load.name for load in loads], [one.flavor.name for one in supply]):
        if len(set(names)) != len(names):
            raise BugError("a name is given twice", names=tuple(names))
    if any(rate <= 0 for load in loads for rate in load.rates.values()) or any(one.units < 0 for one in supply):
        raise BugError("rates must be above 0 and units not below")
