"""What the autoscaler's benchmark counts: seconds on target, and replica-seconds against a schedule that knew the load.

A second counts where some count of 2 to 10 replicas would be within ten points of the target under that second's load. The
clairvoyant has, in each second and at once, the count whose use comes nearest to the target. `cheapest` is a harder opponent:
the fewest replicas that are still within the ten points.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

TARGET, BAND, LEAST, MOST = 70.0, 10.0, 2, 10
_EDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Second:
    """One second: the load in replicas' worth, replicas that ran (a mean), and their measured use in percent (a mean)."""

    load: float
    num_running: float
    used: float


def in_band(load: float, idle: float = 0.0) -> list[int]:
    """The counts that would be within the band. `idle`: percent that a replica uses without any load."""
    return [count for count in range(LEAST, MOST + 1) if abs(100 * load / count + idle - TARGET) <= BAND + _EDGE]


def clairvoyant(load: float, idle: float = 0.0) -> int:
    return min(range(LEAST, MOST + 1), key=lambda count: (abs(100 * load / count + idle - TARGET), count))


def score(seconds: Sequence[Second], idle: float = 0.0) -> dict[str, float]:
    """The figures of one run."""
    counted = [one for one in seconds if in_band(one.load, idle)]
    near = sum(abs(one.used - TARGET) <= BAND + _EDGE for one in counted)
    held = sum(one.num_running for one in seconds)
    changes = [b.num_running - a.num_running for a, b in itertools.pairwise(seconds) if b.num_running != a.num_running]
    return {
        "within_10_points_frac": near / len(counted) if counted else 0.0,
        "replica_seconds_ratio": held / sum(clairvoyant(one.load, idle) for one in seconds),
        "cheapest_ratio": held / sum(min(in_band(one.load, idle), default=clairvoyant(one.load, idle)) for one in seconds),
        "counted_frac": len(counted) / len(seconds),
        "turns": float(sum(a * b < 0 for a, b in itertools.pairwise(changes))),
    }
