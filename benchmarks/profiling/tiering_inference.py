"""The inference arms of `tiering.py`: the same requests on hot alone, on the first free unit, and where the tier rule puts them.

All arms have the same dynamic batching, request by request. The baselines are searched for their best at every load and seed, on the very
requests that they are judged by; the tier rule's plan is taken as it is made, from rates and tables alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from request_queues import Floats, serve
from tiering_world import MODEL_DOMAINS, World

from fabric.batching import ServiceTime
from fabric.stations import Search, Service, Station

REQUESTS = 20_000
"""At least so many requests of the rarest service of a station, or of any what comes in `CYCLES` of its batches, whichever takes longer."""
CYCLES = 60
MAX_REQUESTS = 1_000_000
"""Of one service and station."""
WARM_UP_FRAC = 0.1
"""Requests of the first tenth of the window fill the queues and are not counted."""
UNBOUNDED = 1 << 20
WAITS = (0.0, 0.5, 1.0, 1.25)
"""Timers that the baselines try: times the mean interval at which units of the station become free."""
BATCHES = (0.85, 1.0, 1.2, 1.6, math.inf)
"""Largest batches that the baselines try: times what the plan says, and without limit."""


@dataclass(frozen=True)
class Served:
    """`p95_s`: service -> 95th percentile of latency, queueing included. `finished_frac`: the least part of any service's requests that was
    finished within the window in which they came and ten times that latency. `usd_per_h`: price of the units that are held; None where one
    is not known."""

    p95_s: Mapping[str, float]
    finished_frac: float
    usd_per_h: float | None


def services_of(world: World, load: float) -> list[Service]:
    """Each model is asked for so often that all together take `load` of hot's largest throughput, each the same part of it."""
    hot = [one for one in world.supply if one.flavor.tier == "hot"]
    found = []
    for model, times in world.times.items():
        most = sum(one.units * times[one.flavor.name].items_per_s for one in hot if one.flavor.name in times)
        found.append(Service(model, load * most / len(world.times), times, MODEL_DOMAINS.get(model, "other")))
    return found


def geometric_ratio(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Mean over services of the ratio of their p95, geometric: each counts alike, whatever its scale."""
    return math.exp(sum(math.log(ours[name] / theirs[name]) for name in ours) / len(ours))


class Requests:
    """The arrivals of one seed: the same for every arm."""

    def __init__(self, services: Sequence[Service], seed: int) -> None:
        self.services = {one.name: one for one in services}
        self.order = [one.name for one in services]
        self.seed = seed

    def of(self, name: str, window_s: float) -> Floats:
        rng = np.random.default_rng([self.seed, self.order.index(name)])
        rate = self.services[name].rate_per_s
        gaps = rng.exponential(1.0 / rate, int(rate * window_s + 6.0 * math.sqrt(rate * window_s) + 10))
        times = np.cumsum(gaps)
        return times[times < window_s]


def as_planned(stations: Sequence[Station], requests: Requests, world: World) -> Served:
    """The stations as they are."""
    return _served(stations, requests, world, lambda station: _run(station, requests, 1.0, station.max_wait_s))


def on_hot(requests: Requests, world: World, units: Mapping[str, int]) -> Served:
    """Everything on hot, at its best: of all ways to share the units among the models (each on units of its own, or several on the
    same) those that the closed form finds best are simulated, each station with the batching that suits its own requests best."""
    services = list(requests.services.values())
    search = Search(services, units, least_gain=0.0)
    ways = sorted((search.arranged(groups) for groups in _partitions(len(services))), key=lambda way: way[0])
    tried = [_served(stations, requests, world, lambda station: _tuned(station, requests)) for _, stations in ways[:4]]
    return min(tried, key=lambda one: sum(math.log(p95) for p95 in one.p95_s.values()))


def first_free(requests: Requests, world: World) -> Served:
    """Every unit serves whatever waits longest; hot before warm before cold where several are free; its best batch by search."""
    units = {name: count for name, count in world.units().items() if any(name in one.times for one in requests.services.values())}
    best: Served | None = None
    for largest in (8, 32, 128, UNBOUNDED):
        whole = dict.fromkeys(requests.order, largest)
        latencies, finished = _simulate(units, dict.fromkeys(units, whole), 1.0, 0.0, requests, 0.0)
        one = Served({name: _p95(found) for name, found in latencies.items()}, finished, _usd(units, world))
        if best is None or sum(map(math.log, one.p95_s.values())) < sum(map(math.log, best.p95_s.values())):
            best = one
    assert best is not None
    return best


def alone(arrivals_s: Floats, time: ServiceTime) -> Floats:
    """Latencies on one unit that serves nothing else and takes all that waits."""
    starts, largest = np.array([0, len(arrivals_s)]), np.array([[UNBOUNDED]])
    fixed, per_item = np.array([[time.fixed_s]]), np.array([[time.per_item_s]])
    return serve(arrivals_s, starts, np.zeros(1, dtype=np.int64), fixed, per_item, largest, np.zeros(1)) - arrivals_s


def _served(
    stations: Sequence[Station], requests: Requests, world: World, run: Callable[[Station], tuple[dict[str, Floats], float]]
) -> Served:
    latencies: dict[str, list[tuple[float, Floats]]] = {}
    finished = 1.0
    for station in stations:
        found, done = run(station)
        finished = min(finished, done)
        for name, values in found.items():
            latencies.setdefault(name, []).append((station.share, values))
    units: dict[str, int] = {}
    for station in stations:
        units[station.flavor] = units.get(station.flavor, 0) + station.units
    return Served({name: _mixed_p95(parts) for name, parts in latencies.items()}, finished, _usd(units, world))


def _tuned(station: Station, requests: Requests) -> tuple[dict[str, Floats], float]:
    turn_s = _cycle_s(station, requests) / station.units
    tried = [_run(station, requests, times, wait * turn_s) for times, wait in itertools.product(BATCHES, WAITS)]
    return min(tried, key=lambda one: sum(math.log(_p95(values)) for values in one[0].values()))


def _run(station: Station, requests: Requests, times: float, max_wait_s: float) -> tuple[dict[str, Floats], float]:
    batches = {name: UNBOUNDED if math.isinf(times) else math.ceil(times * batch) for name, batch in station.max_batch.items()}
    cycle_s = _cycle_s(station, requests)
    return _simulate({station.flavor: station.units}, {station.flavor: batches}, station.share, max_wait_s, requests, cycle_s)


def _cycle_s(station: Station, requests: Requests) -> float:
    """How long a unit of the station takes to serve each of its services once."""
    served = [requests.services[name] for name in station.services]
    rho = station.share * sum(one.rate_per_s * one.times[station.flavor].per_item_s for one in served) / station.units
    return sum(one.times[station.flavor].fixed_s for one in served) / max(1.0 - rho, 1e-3)


def _simulate(
    units: Mapping[str, int], batches: Mapping[str, Mapping[str, int]], share: float, max_wait_s: float, requests: Requests, cycle_s: float
) -> tuple[dict[str, Floats], float]:
    """One queue. Latencies of each of its services, and the least part of any that was finished in time."""
    names = list(next(iter(batches.values())))
    services = [requests.services[name] for name in names]
    window_s = max(*(REQUESTS / (share * one.rate_per_s) for one in services), CYCLES * cycle_s)
    window_s = min(window_s, min(MAX_REQUESTS / (share * one.rate_per_s) for one in services))
    arrivals = [_thinned(requests.of(name, window_s), share) for name in names]
    starts = np.concatenate([[0], np.cumsum([len(times) for times in arrivals])]).astype(np.int64)
    kinds = list(units)
    fixed = np.array([[one.times[kind].fixed_s if kind in one.times else np.inf for one in services] for kind in kinds])
    per_item = np.array([[one.times[kind].per_item_s if kind in one.times else 0.0 for one in services] for kind in kinds])
    largest = np.array([[batches[kind][name] for name in names] for kind in kinds], dtype=np.int64)
    unit_kind = np.repeat(np.arange(len(kinds)), [units[kind] for kind in kinds])
    joined = np.concatenate(arrivals)
    finish = serve(joined, starts, unit_kind, fixed, per_item, largest, np.full(len(names), max_wait_s))
    latency = finish - joined
    found, in_time = {}, []
    for at, name in enumerate(names):
        some = slice(starts[at], starts[at + 1])
        found[name] = latency[some][joined[some] >= WARM_UP_FRAC * window_s]
        in_time.append(float(np.mean(finish[some] <= window_s + 10.0 * _p95(found[name]))))
    return found, min(in_time)


def _thinned(arrivals: Floats, share: float) -> Floats:
    """That part of the requests, evenly: what a router does that keeps to shares."""
    if share >= 1.0:
        return arrivals
    turns = np.floor(np.arange(1, len(arrivals) + 1) * share + 1e-9)
    return arrivals[np.diff(turns, prepend=0.0) > 0]


def _p95(values: Floats) -> float:
    return float(np.quantile(values, 0.95))


def _mixed_p95(parts: Sequence[tuple[float, Floats]]) -> float:
    """Of several stations, each weighed by its share of the requests."""
    values = np.concatenate([values for _, values in parts])
    weights = np.concatenate([np.full(len(values), share / len(values)) for share, values in parts])
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.95 * weights.sum())])


def _usd(units: Mapping[str, int], world: World) -> float | None:
    prices = [(count, world.usd_per_h(name)) for name, count in units.items()]
    return None if any(price is None for _, price in prices) else sum(count * (price or 0.0) for count, price in prices)


def _partitions(num: int) -> list[list[tuple[int, ...]]]:
    """All ways to put services into groups (up to five services; beyond, all apart and all together)."""
    if num > 5:
        return [[(one,) for one in range(num)], [tuple(range(num))]]
    found: list[list[tuple[int, ...]]] = [[]]
    for one in range(num):
        found = [
            [*groups[:at], (*groups[at], one), *groups[at + 1 :]] if at < len(groups) else [*groups, (one,)]
            for groups in found
            for at in range(len(groups) + 1)
        ]
    return found
