"""Quantiles and tails of latencies from `Observed`'s buckets. Within a bucket requests are taken to be spread evenly over its logarithm."""

from __future__ import annotations

import math
from collections.abc import Mapping

from serve_apps.directory.observed import BUCKETS_PER_OCTAVE, FIRST_BUCKET_MS


def quantile_ms(counts: Mapping[int, float], tail: float) -> float | None:
    """The latency that a share `tail` of the requests passes; None without requests."""
    total = sum(counts.values())
    if total <= 0:
        return None
    left = tail * total
    for bucket in sorted(counts, reverse=True):
        if counts[bucket] >= left:
            return FIRST_BUCKET_MS * math.exp2((bucket - left / counts[bucket]) / BUCKETS_PER_OCTAVE)
        left -= counts[bucket]
    return FIRST_BUCKET_MS * math.exp2((min(counts) - 1) / BUCKETS_PER_OCTAVE)


def num_above(counts: Mapping[int, float], latency_ms: float) -> float:
    """How many requests took longer; a bucket that the limit cuts counts in part."""
    place = BUCKETS_PER_OCTAVE * math.log2(max(latency_ms, 1e-9) / FIRST_BUCKET_MS)
    return sum(count * min(1.0, max(0.0, bucket - place)) for bucket, count in counts.items())


def nearest_bucket(latency_ms: float) -> int:
    """The bucket whose end is nearest."""
    return round(BUCKETS_PER_OCTAVE * math.log2(latency_ms / FIRST_BUCKET_MS))
