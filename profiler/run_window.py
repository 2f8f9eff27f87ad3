"""The last runs of one (task, size, variant) on one node, and what they say, worked out once between changes. Pure."""

from __future__ import annotations

from collections import deque

from profiler.node_effects import Sample, sample_of

KEPT_RUNS = 24
"""Older ones fade."""
_UNKNOWN = Sample(0, 0.0, 0.0)


class RunWindow:
    """Runs in the order of time: when each ended, and the logarithm of its seconds."""

    __slots__ = ("_runs", "_sample")

    def __init__(self) -> None:
        self._runs: deque[tuple[float, float]] = deque(maxlen=KEPT_RUNS)
        self._sample: Sample | None = _UNKNOWN

    def add(self, at_s: float, log_s: float) -> None:
        self._runs.append((at_s, log_s))
        self._sample = _UNKNOWN

    def drop_before(self, at_s: float) -> bool:
        """Whether any are left."""
        while self._runs and self._runs[0][0] < at_s:
            self._runs.popleft()
            self._sample = _UNKNOWN
        return bool(self._runs)

    def begins_s(self, from_s: float) -> float:
        """When the first run since then was; `from_s` where there is none."""
        return next((at_s for at_s, _ in self._runs if at_s >= from_s), from_s)

    def sample(self, from_s: float = 0.0) -> Sample | None:
        """Of the runs since then; None where they are too few to say anything."""
        if self._runs and self._runs[0][0] < from_s:
            return sample_of([log_s for at_s, log_s in self._runs if at_s >= from_s])
        if self._sample is _UNKNOWN:
            self._sample = sample_of([log_s for _, log_s in self._runs])
        return self._sample
