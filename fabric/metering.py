"""Carries samples to Ray's metrics, which each node's agent exports to Prometheus. Decides nothing; `fabric.metrics.declared` names them.

Invariant: an owner that cannot be read, or a Ray that is away, costs a line in the log and never the owner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray.util import metrics as ray_metrics

from fabric import ray_io
from fabric.metrics.metric import Metric, Sample

EXPORT_S = 5.0
"""Ray forgets a gauge that is not told again within its report interval of 10 s."""
NEW_S = 25.0
"""So long a new counter stands at 0 before it grows: Prometheus must have seen the 0, or the first events are in no `increase`. A look, a
report to the agent and a scrape are 5 + 10 + 10 s."""
ZERO = 1e-9
"""Ray's counters cannot be told 0."""
MOST_OBSERVED = 1_000
"""Of one histogram, with the same labels, in one look: of more a sample is taken, evenly. Quantiles hold, and counters count."""
_log = logging.getLogger(__name__)


class Meter:
    """Ray's metrics of one process. Not for several threads at once."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._made: dict[str, Any] = {}
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self._since_s: dict[tuple[str, tuple[str, ...]], float] = {}

    def export(self, samples: Iterable[Sample]) -> None:
        """Tell Ray; it takes what it is told to its agent every ten seconds."""
        samples = list(samples)
        parts = observed_parts(samples)
        for sample in samples:
            metric, tags = sample.metric, dict(zip(sample.metric.labels, sample.labels, strict=True))
            made = self._made.get(metric.name) or self._make(metric)
            match metric.kind:
                case "gauge":
                    made.set(float(sample.value), tags)
                case "counter":
                    self._grow(made, sample, tags)
                case "histogram":
                    for _ in range(max(1, round(sample.times * parts[metric.name, sample.labels]))):
                        made.observe(float(sample.value), tags)

    def _grow(self, made: Any, sample: Sample, tags: Mapping[str, str]) -> None:
        """Ray's counters take what was added. A total that fell began anew."""
        key, now_s = (sample.metric.name, sample.labels), self._now_s()
        if key not in self._since_s:
            self._since_s[key] = now_s
            made.inc(ZERO, tags)
        if now_s - self._since_s[key] < NEW_S:
            return
        before = self._told.get(key, 0.0)
        added = sample.value - before if sample.value >= before else sample.value
        self._told[key] = sample.value
        if added > 0:
            made.inc(float(added), tags)

    def _make(self, metric: Metric) -> Any:
        match metric.kind:
            case "gauge":
                made = ray_metrics.Gauge(metric.name, metric.help, metric.labels)
            case "counter":
                made = ray_metrics.Counter(metric.name, metric.help, metric.labels)
            case "histogram":
                made = ray_metrics.Histogram(metric.name, metric.help, list(metric.bounds), metric.labels)
        self._made[metric.name] = made
        return made


def observed_parts(samples: Sequence[Sample]) -> dict[tuple[str, tuple[str, ...]], float]:
    """The part (0 to 1) of each histogram's values that is told on, by metric and labels."""
    counts: Counts[tuple[str, tuple[str, ...]]] = Counts()
    for sample in samples:
        if sample.metric.kind == "histogram":
            counts[sample.metric.name, sample.labels] += sample.times
    return {key: min(1.0, MOST_OBSERVED / count) for key, count in counts.items()}


def meter(read: Callable[[], Iterable[Sample]], owner: str) -> None:
    """Export what `read` gives, every EXPORT_S, for as long as this process lives. `owner`: for the log."""

    def loop() -> None:
        told, pause = Meter(), threading.Event()
        while not pause.wait(EXPORT_S):
            try:
                told.export(read())
            except Exception as error:  # whatever an owner or Ray has: metrics are told again at the next look
                _log.warning("metrics of %s failed: %s", owner, ray_io.describe_exception(error))

    threading.Thread(target=loop, name="metrics", daemon=True).start()
