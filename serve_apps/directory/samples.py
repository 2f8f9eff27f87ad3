"""The directory's view of models as samples of metrics: replicas, requests, latencies, the autoscaler and rollouts. No I/O.

Invariant: counters never fall: what a replica counted stays counted when it is gone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from fabric.metrics import declared as m
from fabric.metrics.metric import Metric, Sample
from fabric.metrics.tally import Tally, middle
from serve_apps.directory.core import Directory
from serve_apps.directory.observed import Observed, bucket_end_ms
from serve_apps.directory.records import DeployRecord, ReplicaReport, replica_usd_per_h
from serve_apps.directory.table import WHOLE, ReplicaId
from serve_apps.rollout.decision import ENDED, State
from serve_apps.rollout.rollout import Rollout

STATES: tuple[State, ...] = ("starting", "shadow", "stepping", "paused", *ENDED)
VERDICTS = ("undecided", "satisfied", "violated")
_ADDED = (("executions", m.MODEL_EXECUTIONS), ("rows", m.MODEL_ROWS))
"""Counts in a replica's report, since it started."""


class ServingSamples:
    """Keeps what was told last, so that each look tells what came since."""

    def __init__(self, core: Directory) -> None:
        self._core = core
        self._tally = Tally()
        self._seen: dict[tuple[str, str], Observed] = {}
        self._stats: dict[ReplicaId, Mapping[str, float]] = {}
        self._wishes: dict[tuple[str, str], int] = {}

    def scaled(self, name: str, key: str, num_to: int, reason: str) -> None:
        """The autoscaler decided."""
        self._wishes[name, key] = num_to
        self._tally.count(m.MODEL_SCALINGS, name, key, reason)

    def samples(self, rollouts: Iterable[tuple[str, Rollout]] = ()) -> list[Sample]:
        """All of it; `rollouts`: the last of each model."""
        found: list[Sample] = []
        living: set[ReplicaId] = set()
        for name in self._core.table().models:
            shares = self._core.shares(name) if self._core.default(name) else {}
            for record in self._core.records(name):
                reports = self._core.reports(name, record.key)
                living.update(report.id for report in reports)
                found += self._of_version(record, reports)
                found.append(Sample(m.MODEL_TRAFFIC, (name, record.key), shares.get(record.key, 0) / WHOLE))
        self._stats = {replica_id: stats for replica_id, stats in self._stats.items() if replica_id in living}
        for name, rollout in rollouts:
            found += rollout_samples(name, rollout)
        return found + self._tally.samples()

    def _of_version(self, record: DeployRecord, reports: list[ReplicaReport]) -> Iterator[Sample]:
        labels = (record.name, record.key)
        flavors = Counter(report.flavor for report in reports) or Counter({str(record.placement.get("flavor", "")): 0})
        tiers = {place.get("flavor"): str(place.get("tier", "")) for place in record.placement.get("places", ())}
        for flavor, count in flavors.items():
            yield Sample(m.MODEL_REPLICAS, (*labels, tiers.get(flavor, ""), flavor), count)
        if (usd := replica_usd_per_h(record)) > 0:
            yield Sample(m.MODEL_USD, labels, usd * len(reports))
        wanted = 0 if record.state in ("retiring", "failed") else self._wishes.get(labels, int(record.settings.get("replicas", 1)))
        yield Sample(m.MODEL_REPLICAS_WANTED, labels, wanted)
        yield Sample(m.MODEL_ONGOING, labels, _sum("ongoing_requests", reports))
        yield Sample(m.MODEL_MEMORY, labels, _sum("memory_bytes", reports))
        yield from _mean(m.MODEL_CPU, labels, "cpu_utilization", reports)
        yield from _mean(m.MODEL_GPU, labels, "gpu_utilization", reports)
        yield Sample(m.MODEL_LOST, labels, self._core.sightings.num_lost(*labels))
        self._add(labels, reports)
        observed = self._core.sightings.observed(*labels)
        yield Sample(m.MODEL_REQUESTS, labels, observed.num_requests)
        yield Sample(m.MODEL_ERRORS, labels, observed.num_errors)
        came, self._seen[labels] = observed - self._seen.get(labels, Observed()), observed
        yield from latencies(labels, came.latency_counts)

    def _add(self, labels: tuple[str, str], reports: Iterable[ReplicaReport]) -> None:
        """What each replica's own counts grew by."""
        for report in reports:
            before = self._stats.get(report.id, {})
            for stat, metric in _ADDED:
                if (more := report.stats.get(stat, 0.0) - before.get(stat, 0.0)) > 0:
                    self._tally.count(metric, *labels, by=more)
            self._stats[report.id] = report.stats


def latencies(labels: tuple[str, str], counts: Mapping[int, int]) -> Iterator[Sample]:
    """Fine buckets brought into the metric's; `counts` as in `Observed.latency_counts`."""
    bounds = m.MODEL_LATENCY.bounds
    coarse: Counter[int] = Counter()
    for bucket, count in counts.items():
        coarse[bisect_left(bounds, bucket_end_ms(bucket) / 1e3)] += count
    yield from (Sample(m.MODEL_LATENCY, labels, middle(bounds, bucket), count) for bucket, count in sorted(coarse.items()) if count > 0)


def rollout_samples(name: str, rollout: Rollout) -> Iterator[Sample]:
    """Each state and each guard's verdict has a row, 1 for the one that holds."""
    decision = rollout.decision()
    yield from (Sample(m.ROLLOUT_STATE, (name, state), float(state == decision.state)) for state in STATES)
    yield Sample(m.ROLLOUT_STEP, (name,), decision.shares.get(rollout.challenger, 0) / WHOLE)
    for figures in decision.figures:
        for verdict in VERDICTS:
            yield Sample(m.ROLLOUT_GUARD, (name, figures.guard, verdict), float(verdict == figures.verdict))


def _sum(stat: str, reports: Iterable[ReplicaReport]) -> float:
    return math.fsum(report.stats.get(stat, 0.0) for report in reports)


def _mean(metric: Metric, labels: tuple[str, str], stat: str, reports: Iterable[ReplicaReport]) -> Iterator[Sample]:
    """Of those that say; reports are in percent."""
    said = [report.stats[stat] for report in reports if stat in report.stats]
    if said:
        yield Sample(metric, labels, sum(said) / len(said) / 100.0)
