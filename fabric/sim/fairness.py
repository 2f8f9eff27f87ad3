"""Finish-time fairness (Themis, NSDI'20): how long a job took over how long it would have taken on a share of its own.

rho = completion time / time on a 1/n share of the cluster, n the average number of jobs in the system during its stay. On its
share a job takes the best mix of flavors: the fastest for as long as the share reaches, then the next (Gavel's isolated share).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from fabric.sim.trace import TraceJob


def worst_rho(jobs: Sequence[TraceJob], end_s: Mapping[int, float], capacity: Mapping[str, float]) -> float:
    """The largest rho over the jobs that ended; 0 where none did. `end_s`: by line."""
    ended = [job for job in jobs if job.line in end_s]
    crowd = Crowd((job.arrival_s, end_s[job.line]) for job in ended)
    worst = 0.0
    for job in ended:
        stay_s = end_s[job.line] - job.arrival_s
        share = 1.0 / max(1.0, crowd.mean(job.arrival_s, end_s[job.line]))
        worst = max(worst, stay_s * shared_rate(job, share, capacity) / job.work)
    return worst


def shared_rate(job: TraceJob, share: float, capacity: Mapping[str, float]) -> float:
    """Work per second on that share of every flavor, the job running on one flavor at a time."""
    left, rate = 1.0, 0.0
    for flavor, speed in sorted(job.rates.items(), key=lambda item: -item[1]):
        part = min(left, capacity[flavor] * share / job.gpus)
        rate += part * speed
        left -= part
    return rate


class Crowd:
    """How many jobs were in the system on average over any span."""

    def __init__(self, stays: Iterable[tuple[float, float]]) -> None:
        changes: dict[float, int] = {}
        for start_s, end_s in stays:
            changes[start_s] = changes.get(start_s, 0) + 1
            changes[end_s] = changes.get(end_s, 0) - 1
        self._times = sorted(changes)
        self._counts = list(accumulate(changes[at_s] for at_s in self._times))
        spans = [count * (b - a) for count, a, b in zip(self._counts, self._times, self._times[1:], strict=False)]
        self._areas = [0.0, *accumulate(spans)]

    def mean(self, start_s: float, end_s: float) -> float:
        return (self._area(end_s) - self._area(start_s)) / (end_s - start_s) if end_s > start_s else 1.0

    def _area(self, at_s: float) -> float:
        at = bisect_right(self._times, at_s) - 1
        return self._areas[at] + self._counts[at] * (at_s - self._times[at]) if at >= 0 else 0.0
