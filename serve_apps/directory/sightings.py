"""Which replicas report, when they did last, and what they have seen: sums by deployment, which never fall. Plain and synchronous."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from serve_apps.directory.observed import Observed, Sum
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.table import ReplicaId

Deployment = tuple[str, str]
"""(model, deployment)."""


@dataclass(slots=True)
class _Seen:
    report: ReplicaReport
    at_s: float


class Sightings:
    """Of all models. What a replica has seen counts on after it is gone, once, also if it comes back."""

    def __init__(self) -> None:
        self._seen: dict[ReplicaId, _Seen] = {}
        self._gone: set[ReplicaId] = set()
        self._observed: dict[Deployment, dict[ReplicaId, Observed]] = {}
        self._metrics: dict[Deployment, Observed] = {}
        self._lost: Counter[Deployment] = Counter()

    def has_left(self, replica_id: ReplicaId) -> bool:
        return replica_id in self._gone

    def note(self, report: ReplicaReport, now_s: float) -> bool:
        """A replica reports; whether it is new, or has moved."""
        known = self._seen.get(report.id)
        self._seen[report.id] = _Seen(report, now_s)
        self._observed.setdefault((report.name, report.key), {})[report.id] = report.observed
        return known is None or (known.report.host, known.report.port) != (report.host, report.port)

    def leave(self, replica_id: ReplicaId) -> bool:
        """It has said good-bye, for ever; whether it was there."""
        self._gone.add(replica_id)
        return self._seen.pop(replica_id, None) is not None

    def expire(self, before_s: float) -> list[ReplicaId]:
        """Those whose last report is older, forgotten now and counted as lost."""
        silent = [replica_id for replica_id, seen in self._seen.items() if seen.at_s < before_s]
        for replica_id in silent:
            report = self._seen.pop(replica_id).report
            self._lost[report.name, report.key] += 1
        return silent

    def reports(self, name: str, key: str) -> list[ReplicaReport]:
        return [seen.report for seen in self._seen.values() if (seen.report.name, seen.report.key) == (name, key)]

    def num_lost(self, name: str, key: str) -> int:
        """Replicas that fell silent without a good-bye."""
        return self._lost[name, key]

    def add_metric(self, name: str, key: str, metric: str, values: Sum) -> None:
        """What users posted back."""
        known = self._metrics.get((name, key), Observed())
        self._metrics[name, key] = replace(known, metrics={**known.metrics, metric: known.metrics.get(metric, Sum()) + values})

    def observed(self, name: str, key: str) -> Observed:
        """All that was seen of a deployment since it began."""
        return sum(self._observed.get((name, key), {}).values(), self._metrics.get((name, key), Observed()))

    def forget(self, name: str, key: str) -> None:
        """The deployment is over: what its replicas say from now on is not heard."""
        self._seen = {replica_id: seen for replica_id, seen in self._seen.items() if (seen.report.name, seen.report.key) != (name, key)}
        self._observed.pop((name, key), None)
        self._metrics.pop((name, key), None)
        self._lost.pop((name, key), None)
