"""Starts that are too far off to be played through: the queue laid out in order, in units of each flavor.

Nodes, quotas and backfill are left out, so that a thousand jobs cost a few milliseconds. Invariant: on one flavor nobody starts
before those ahead of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric.job import JobId
from fabric.scheduler.machines import EPSILON
from fabric.scheduler.record import JobRecord

ROUGH_FRAC = 0.15
"""What is left out may move a start by so much of the time that was laid out this way."""
Attempt = tuple[JobId, int]


@dataclass(slots=True)
class Yard:
    """One flavor: what is free from `at_s` on, and when the rest is given back (end, attempt, units)."""

    at_s: float
    free: float
    total: float
    ends: list[tuple[float, Attempt, float]] = field(default_factory=list)

    def glance(self, units: float) -> float:
        """About when so many units are free."""
        return self.at_s if units <= self.free + EPSILON or not self.ends else max(self.at_s, self.ends[0][0])

    def wait(self, units: float) -> Attempt | None:
        """Wait until so many are free; the attempt whose end that is. None where they were free, or never are (`at_s` is infinite)."""
        cause = None
        while units > self.free + EPSILON:
            if not self.ends:
                self.at_s = math.inf
                return None
            end_s, cause, given = heapq.heappop(self.ends)
            self.at_s, self.free = max(self.at_s, end_s), self.free + given
        return cause

    def take(self, units: float, attempt: Attempt, run_s: float) -> None:
        self.free -= units
        heapq.heappush(self.ends, (self.at_s + run_s, attempt, units))


class Laid(NamedTuple):
    """Where a job was put: it waits for the end of `cause`, then runs for so long."""

    attempt: Attempt
    cause: Attempt | None
    run_s: float


def lay_out(yards: Mapping[str, Yard], jobs: Iterable[JobRecord], restart_s: float) -> Iterator[Laid]:
    """Jobs in their order; each takes the way on which it seems to end first. What nothing can hold, or nothing is known of, is
    left out."""
    for job in jobs:
        left = job.work - job.done
        usable = [way for way in job.ways if way.rate > 0 and way.flavor in yards and way.units <= yards[way.flavor].total + EPSILON]
        if not usable:
            continue
        best = min(usable, key=lambda way: yards[way.flavor].glance(way.units) + left / way.rate)
        yard, attempt, run_s = yards[best.flavor], (job.spec.job_id, job.attempt + 1), restart_s + left / best.rate
        cause = yard.wait(best.units)
        if yard.at_s < math.inf:
            yard.take(best.units, attempt, run_s)
            yield Laid(attempt, cause, run_s)
