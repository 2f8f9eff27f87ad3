"""Counts what a model version did, in the form of Triton's statistics extension.

Source: Triton Inference Server, "Statistics Extension": nanoseconds and counts, `last_inference` in milliseconds since the epoch,
`inference_count` in rows and `execution_count` in calls of the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_KINDS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@dataclass(slots=True)
class Duration:
    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += int(seconds * 1e9)

    def shown(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Statistics:
    """All of one version's counts since it was loaded."""

    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    durations: dict[str, Duration] = field(default_factory=lambda: {kind: Duration() for kind in _KINDS})
    batches: dict[int, tuple[Duration, Duration, Duration]] = field(default_factory=dict)
    listener: Callable[[float, float, float], None] | None = None
    """Told of each answer: monotonic time, seconds since it came, seconds that it ran."""
    _latency_s: list[float] = field(default_factory=list)
    _at: int = 0

    def note_call(self, rows: int, times_s: tuple[float, float, float]) -> None:
        """One call of the model with `rows` rows. `times_s`: making its arguments, running, taking its result apart."""
        self.execution_count += 1
        self.inference_count += rows
        self.last_inference_ms = int(time.time() * 1000)
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = (Duration(), Duration(), Duration())
        batch[0].add(times_s[0])
        batch[1].add(times_s[1])
        batch[2].add(times_s[2])

    def note_success(self, whole_s: float, queue_s: float, times_s: tuple[float, float, float]) -> None:
        """One request answered, `whole_s` after it came."""
        durations = self.durations
        durations["success"].add(whole_s)
        durations["queue"].add(queue_s)
        durations["compute_input"].add(times_s[0])
        durations["compute_infer"].add(times_s[1])
        durations["compute_output"].add(times_s[2])
        if self.listener is not None:
            self.listener(time.monotonic(), whole_s, sum(times_s))
        if len(self._latency_s) < NUM_LATENCIES:
            self._latency_s.append(whole_s)
        else:
            self._latency_s[self._at] = whole_s
            self._at = (self._at + 1) % NUM_LATENCIES

    def note_failure(self, whole_s: float) -> None:
        self.durations["fail"].add(whole_s)

    def latency_s(self, frac: float) -> float:
        """A quantile of the last answers' times, queue included; 0 where there was none."""
        ordered = sorted(self._latency_s)
        return ordered[min(len(ordered) - 1, int(frac * len(ordered)))] if ordered else 0.0

    def shown(self, name: str, version: str) -> Mapping[str, Any]:
        """One entry of `model_stats`."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {kind: duration.shown() for kind, duration in self.durations.items()},
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": parts[0].shown(),
                    "compute_infer": parts[1].shown(),
                    "compute_output": parts[2].shown(),
                }
                for rows, parts in sorted(self.batches.items())
            ],
        }


NUM_LATENCIES = 512
