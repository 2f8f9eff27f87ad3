"""What a replica has seen of its requests since it started: sums only, so that replicas add up and an earlier look can be taken off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

BUCKETS_PER_OCTAVE = 16
FIRST_BUCKET_MS = 0.1


def bucket_of(latency_ms: float) -> int:
    """The bucket of a latency: bucket i ends at `bucket_end_ms(i)`, 4.4 % above the one before; what is below the first is in it."""
    if latency_ms <= FIRST_BUCKET_MS:
        return 0
    return math.ceil(BUCKETS_PER_OCTAVE * math.log2(latency_ms / FIRST_BUCKET_MS))


def bucket_end_ms(bucket: int) -> float:
    return FIRST_BUCKET_MS * math.exp2(bucket / BUCKETS_PER_OCTAVE)


@dataclass(frozen=True, slots=True)
class Sum:
    """Of the values of one metric."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def __sub__(self, earlier: Sum) -> Sum:
        return Sum(self.count - earlier.count, self.total - earlier.total, self.squares - earlier.squares)


@dataclass(frozen=True, slots=True)
class Observed:
    """`latency_counts`: answered requests by `bucket_of` their latency, shadow copies left out. `num_errors`: answers that are the
    model's or the server's fault (500 and above), which are not in `latency_counts`. `num_compared`, `num_agreed`, `drift`: answers of this
    deployment put beside a shadow's, counted by the deployment that was copied from. `metrics`: what users post back, by name."""

    latency_counts: Mapping[int, int] = field(default_factory=dict)
    num_errors: int = 0
    num_compared: int = 0
    num_agreed: int = 0
    drift: Sum = Sum()
    num_shadow_failed: int = 0
    num_shadow_dropped: int = 0
    shadow_latency_counts: Mapping[int, int] = field(default_factory=dict)
    metrics: Mapping[str, Sum] = field(default_factory=dict)

    @property
    def num_requests(self) -> int:
        """With those that failed."""
        return sum(self.latency_counts.values()) + self.num_errors

    def __add__(self, other: Observed) -> Observed:
        return self._with(other, 1)

    def __sub__(self, earlier: Observed) -> Observed:
        """What has happened since an earlier look at the same sums."""
        return self._with(earlier, -1)

    def _with(self, other: Observed, sign: int) -> Observed:
        return Observed(
            _counts(self.latency_counts, other.latency_counts, sign),
            self.num_errors + sign * other.num_errors,
            self.num_compared + sign * other.num_compared,
            self.num_agreed + sign * other.num_agreed,
            self.drift + other.drift if sign > 0 else self.drift - other.drift,
            self.num_shadow_failed + sign * other.num_shadow_failed,
            self.num_shadow_dropped + sign * other.num_shadow_dropped,
            _counts(self.shadow_latency_counts, other.shadow_latency_counts, sign),
            _sums(self.metrics, other.metrics, sign),
        )


def _counts(one: Mapping[int, int], other: Mapping[int, int], sign: int) -> dict[int, int]:
    added = {bucket: one.get(bucket, 0) + sign * other.get(bucket, 0) for bucket in one.keys() | other.keys()}
    return {bucket: count for bucket, count in sorted(added.items()) if count}


def _sums(one: Mapping[str, Sum], other: Mapping[str, Sum], sign: int) -> dict[str, Sum]:
    nothing = Sum()
    return {
        name: one.get(name, nothing) + other.get(name, nothing) if sign > 0 else one.get(name, nothing) - other.get(name, nothing)
        for name in sorted(one.keys() | other.keys())
    }
