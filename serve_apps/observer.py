"""Counts what a replica sees of its requests, as `Observed` has it: a few additions for each, on the server's event loop.

`observed` may be asked from another thread: it copies what only grows.
"""

from __future__ import annotations

from collections import defaultdict

from serve_apps.directory.observed import Observed, Sum, bucket_of

_CLIENT_GONE = 499


class Observer:
    """Of one replica, since it started."""

    def __init__(self) -> None:
        self._latency_counts: defaultdict[int, int] = defaultdict(int)
        self._shadow_latency_counts: defaultdict[int, int] = defaultdict(int)
        self._num_errors = self._num_compared = self._num_agreed = self._num_failed = self._num_dropped = 0
        self._drift = Sum()

    def answered(self, status: int, latency_ms: float) -> None:
        """`status`: of HTTP. Whoever went away was not answered, and is not counted."""
        if status >= 500:
            self._num_errors += 1
        elif status != _CLIENT_GONE:
            self._latency_counts[bucket_of(latency_ms)] += 1

    def compared(self, latency_ms: float, drift: float | None, *, agrees: bool) -> None:
        """A shadow answered, after `latency_ms` of its own time. `drift` None: the answers have no floats to be apart."""
        self._shadow_latency_counts[bucket_of(latency_ms)] += 1
        self._num_compared += 1
        self._num_agreed += agrees
        if drift is not None:
            self._drift += Sum(1, drift, drift * drift)

    def shadow_failed(self) -> None:
        self._num_failed += 1

    def shadow_dropped(self) -> None:
        self._num_dropped += 1

    def observed(self) -> Observed:
        return Observed(
            latency_counts=dict(self._latency_counts),
            num_errors=self._num_errors,
            num_compared=self._num_compared,
            num_agreed=self._num_agreed,
            drift=self._drift,
            num_shadow_failed=self._num_failed,
            num_shadow_dropped=self._num_dropped,
            shadow_latency_counts=dict(self._shadow_latency_counts),
        )
