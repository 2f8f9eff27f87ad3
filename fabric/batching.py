"""Pure: the latency of batched services on a station of alike units, as a function of the load that it is given.

A batch of n items takes `fixed_s + n x per_item_s`. A unit that is free takes what waits, up to a batch (dynamic batching). Under
load the batch grows until the unit keeps up: a cycle takes `sum(fixed_s) / (1 - rho)`, rho being what the load asks of the unit's
largest throughput. A request waits for the next of k units to become free, a k-th of a cycle at most, and then for its batch.
That needs units that become free in turn, not all together: see `Curve.batching`.

Invariants: latency never falls when the load rises; from rho = 1 on it is infinite; with more units it never rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fabric.errors import BugError

Floats = npt.NDArray[np.float64]

TAIL_FRAC = 0.05
"""The part of the requests that may be later than the figure: p95."""
RATIO_GRID: Floats = np.geomspace(0.5, 2000.0, 700)
"""Where a `Curve` is known: latency over that of a request alone on the fastest flavor."""
_Z95 = 1.645
_ROOM = 1.05
_TURNS = 1.2
_LEAST_TIMED_ITEMS = 4.0
"""Measured by simulation over 1 to 8 units, loads of 0.2 to 0.85 and batches of 1 to 1,700: the flat part of the optimum."""
_LOAD_GRID: Floats = 1.0 - np.geomspace(1.0, 2e-4, 300)


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Seconds of a batch of n items on one unit: `fixed_s + n * per_item_s`; both above 0."""

    fixed_s: float
    per_item_s: float

    def of(self, items: float) -> float:
        return self.fixed_s + items * self.per_item_s

    @property
    def single_s(self) -> float:
        return self.of(1)

    @property
    def items_per_s(self) -> float:
        """The largest throughput, which large batches come near to."""
        return 1.0 / self.per_item_s


def service_time(single_s: float, items_per_s: float) -> ServiceTime:
    """From two measurements: the latency of a request alone, and the throughput of large batches.

    What is measured with more than one request in flight on the unit may give a throughput below 1 / `single_s`: the item
    then takes all of the time. Raises: BugError where a figure is not above 0.
    """
    if not (single_s > 0 and items_per_s > 0):
        raise BugError("a service time needs figures above 0", single_s=single_s, items_per_s=items_per_s)
    per_item_s = 1.0 / items_per_s
    return ServiceTime(max(single_s - per_item_s, 1e-3 * single_s), per_item_s)


@dataclass(frozen=True, slots=True)
class Offered:
    """What one service would be on one flavor: its whole load, its service time there, and the latency it is compared with."""

    rate_per_s: float
    time: ServiceTime
    reference_s: float


class Curve:
    """A group of services that share `units` of one flavor. `share` float64[ratios]: the part of the group's whole load that
    the station can be given (above 1: more than there is) such that its latency is `RATIO_GRID` times the reference, as the
    geometric mean over its services."""

    __slots__ = ("offered", "share", "units")

    def __init__(self, offered: Sequence[Offered], units: int) -> None:
        self.offered, self.units = tuple(offered), units
        demand = max(sum(one.rate_per_s * one.time.per_item_s for one in offered), 1e-9)
        shares = _LOAD_GRID * units / demand
        latency = p95_s(offered, units, shares)
        reference = np.array([one.reference_s for one in offered])
        ratio = np.exp(np.log(latency / reference[:, None]).mean(axis=0))
        ratio = np.maximum.accumulate(ratio) * (1.0 + 1e-9 * np.arange(len(shares)))
        self.share = np.interp(RATIO_GRID, ratio, shares, left=0.0)

    def batching(self, share: float) -> tuple[list[int], float]:
        """Largest batch of each service, and how long a request may wait for its batch to fill, when the station has this share.

        Units that take whatever waits go out of step with the load: the first takes all, its like start on the little that comes
        meanwhile, and p95 of many units is no better than that of one. A limit a little above what is needed to keep up, and a
        timer of about the time between two free units, keep them in turn (measured: 1.9 to 1.2 cycles for 8 units). One unit needs
        neither; where batches are small, or hardly cheaper than their items alone, a timer only makes requests later.
        """
        load = _load(self.offered, self.units, np.array([min(share, 0.999 * float(self.share[-1]))]))
        items, rho = [float(count) for count in load.items[:, 0]], float(load.rho[0])
        if self.units == 1:
            return [math.ceil(4.0 * max(1.0, count)) + 1 for count in items], 0.0
        first = self.offered[0].time
        is_timed = len(items) == 1 and items[0] >= _LEAST_TIMED_ITEMS and first.fixed_s > first.per_item_s
        spread = _Z95 / math.sqrt(self.units * (1.0 if is_timed else 1.0 - rho * rho))
        largest = [math.ceil(_ROOM * max(1.0, count) + spread * math.sqrt(count)) for count in items]
        turn_s = items[0] / (share * self.offered[0].rate_per_s) if is_timed else 0.0
        return largest, _TURNS * turn_s


@dataclass(frozen=True, slots=True)
class _Load:
    """In equilibrium, per share: `rho` what is asked of the largest throughput, `cycle_s` how long a unit takes to serve each service
    once (of no meaning where it cannot keep up), `items` float64[services, shares] how many come for a unit meanwhile."""

    rho: Floats
    cycle_s: Floats
    items: Floats


def _load(offered: Sequence[Offered], units: int, shares: Floats) -> _Load:
    rates = np.array([one.rate_per_s for one in offered])[:, None]
    rho = shares * sum(one.rate_per_s * one.time.per_item_s for one in offered) / units
    fixed_s = sum(one.time.fixed_s for one in offered)
    cycle_s = fixed_s / np.maximum(1.0 - rho, 1e-12)
    return _Load(rho, cycle_s, shares * rates * cycle_s / units)


def p95_s(offered: Sequence[Offered], units: int, shares: Floats) -> Floats:
    """float64[services, shares]: the 95th percentile of latency, queueing included, when the station has `shares` of the load.

    The number of items in a batch varies like a Poisson count whose deviations last (each cycle passes on `rho` of them): its
    variance is `items / (1 - rho^2)`. Source: equilibrium of a saturated batch server; for light loads Sakasegawa's approximation
    of the probability to find all units busy. Within 0.75 to 1.25 of a simulation, request by request, for 1 to 8 units and
    loads of 0.2 to 0.85 (`tests/unit/test_batching.py`).
    """
    rates = np.array([one.rate_per_s for one in offered])[:, None]
    fixed = np.array([one.time.fixed_s for one in offered])[:, None]
    per_item = np.array([one.time.per_item_s for one in offered])[:, None]
    load = _load(offered, units, shares)
    spread = _Z95 * np.sqrt(load.items / np.maximum(1.0 - load.rho**2, 1e-12))
    mean = fixed + per_item * np.maximum(1.0, load.items)
    run = fixed + per_item * np.maximum(1.0, load.items + spread)
    single = float((rates * (fixed + per_item)).sum() / rates.sum())
    busy = np.minimum(1.0, shares * rates.sum() * single / units)
    all_busy = np.maximum(busy ** (math.sqrt(2.0 * (units + 1)) - 1.0), 1e-12)
    cycle = np.maximum(load.cycle_s, single) * run.sum(axis=0) / mean.sum(axis=0)
    wait = np.maximum(0.0, 1.0 - TAIL_FRAC / all_busy) * cycle / units
    return np.asarray(np.where(load.rho < 1, run + wait, np.inf), dtype=np.float64)
