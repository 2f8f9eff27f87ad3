"""Counts what happens between two looks, so that what happens costs an addition and the exporting is done at a low rate.

Invariants: any thread may count while another takes the samples; a histogram keeps no more than a bucket's count for each label.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict

from fabric.metrics.metric import Metric, Sample

Key = tuple[Metric, tuple[str, ...]]


class Tally:
    """Counters and histograms of one owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: defaultdict[Key, float] = defaultdict(float)
        self._seen: dict[Key, Counter[int]] = {}

    def count(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """A counter grows."""
        with self._lock:
            self._totals[metric, labels] += by

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """A histogram sees a value."""
        with self._lock:
            self._seen.setdefault((metric, labels), Counter())[bisect_left(metric.bounds, value)] += 1

    def samples(self) -> list[Sample]:
        """The counters' totals, and what histograms saw since the last call, each value as the middle of its bucket."""
        with self._lock:
            seen, self._seen = self._seen, {}
            totals = [Sample(metric, labels, total) for (metric, labels), total in self._totals.items()]
        observed = [
            Sample(metric, labels, middle(metric.bounds, bucket), count)
            for (metric, labels), buckets in seen.items()
            for bucket, count in sorted(buckets.items())
        ]
        return totals + observed


def middle(bounds: tuple[float, ...], bucket: int) -> float:
    """A value that falls into bucket `bucket`: its middle; twice the last bound for what is beyond that."""
    if bucket >= len(bounds):
        return 2.0 * bounds[-1]
    return (bounds[bucket] + (bounds[bucket - 1] if bucket else 0.0)) / 2.0
