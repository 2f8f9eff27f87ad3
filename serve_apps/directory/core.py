"""Decides which version of a model answers, from what deploys and replicas report. Plain and synchronous; `now_s` is monotonic.

Invariants: a version number is given once; the default version is one that has been ready, and changes only when its successor is
ready or it is deleted; a replica that has not reported for `SILENT_S` is not routed to; `seq` grows with every change of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.errors import UnknownNameError, UserError
from serve_apps.directory.records import DeployRecord, ReplicaReport, with_state
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry

BEAT_S = 2.0
SILENT_S = 7.0
"""Three beats and a little: a replica that is only slow keeps its place."""
MAX_FAILED = 5
"""Versions that did not start, kept to be shown."""


@dataclass(slots=True)
class _Model:
    name: str
    default: str = ""
    num_given: int = 0
    versions: dict[str, DeployRecord] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    report: ReplicaReport
    at_s: float


class Directory:
    """All models of a fabric."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._seen: dict[ReplicaId, _Seen] = {}
        self._gone: set[ReplicaId] = set()
        self._table: ServingTable = ServingTable()
        self._is_stale = False

    # -- deploys -----------------------------------------------------------------------------------------------------------

    def begin(self, name: str, user: str, settings: Mapping[str, Any], source: str, wall_s: float) -> DeployRecord:
        """A new version, not routed to yet. Of those that failed the last few are kept."""
        model = self._models.setdefault(name, _Model(name))
        model.num_given += 1
        failed = [version for version, record in model.versions.items() if record.state == "failed"]
        for version in failed[: -MAX_FAILED + 1]:
            del model.versions[version]
        record = DeployRecord(name, str(model.num_given), user, wall_s, dict(settings), source)
        model.versions[record.version] = record
        self._is_stale = True
        return record

    def placed(self, name: str, version: str, placement: Mapping[str, Any]) -> DeployRecord:
        return self._keep(replace(self.record(name, version), placement=dict(placement)))

    def activate(self, name: str, version: str) -> list[DeployRecord]:
        """Make it the default; the earlier versions, which are to be retired, are returned. Again, it changes nothing.

        Raises: UnknownNameError, UserError (`not_ready`) while no replica of it reports.
        """
        record = self.record(name, version)
        if record.metadata is None:
            raise UserError(f"no replica of {name} version {version} has reported", code="not_ready")
        model = self._models[name]
        model.default = version
        self._keep(with_state(record, "ready"))
        earlier = [one for one in model.versions.values() if one.version != version and one.state in ("ready", "starting", "retiring")]
        return [self._keep(with_state(one, "retiring")) for one in earlier if int(one.version) < int(version)]

    def fail(self, name: str, version: str, why: str) -> DeployRecord:
        """It did not start: it is kept, to be shown, and never routed to."""
        return self._keep(with_state(self.record(name, version), "failed", why))

    def retired(self, name: str, version: str) -> None:
        """Its replicas are gone."""
        model = self._models.get(name)
        if model is not None and model.versions.pop(version, None) is not None:
            self._is_stale = True

    def delete(self, name: str) -> list[DeployRecord]:
        """Its versions, whose replicas are to be ended; nothing is routed to them any more. Only the last number that was given stays: a
        model that is deployed again at once must not take the name of what is still being ended.

        Raises: UnknownNameError (`unknown_model`).
        """
        records = self.records(name)
        self._models[name] = _Model(name, num_given=self._models[name].num_given)
        self._is_stale = True
        return records

    def records(self, name: str) -> list[DeployRecord]:
        """Oldest first. Raises: UnknownNameError (`unknown_model`)."""
        model = self._models.get(name)
        if model is None or not model.versions:
            raise UnknownNameError.of("model", name, sorted(one.name for one in self._models.values() if one.versions))
        return list(model.versions.values())

    def record(self, name: str, version: str = "") -> DeployRecord:
        """The named version, or the default. Raises: UnknownNameError (`unknown_model`, `unknown_version`)."""
        records = {record.version: record for record in self.records(name)}
        wanted = version or self._models[name].default or max(records, key=int, default="")
        if wanted not in records:
            raise UnknownNameError.of("version", wanted, list(records))
        return records[wanted]

    # -- replicas ----------------------------------------------------------------------------------------------------------

    def beat(self, report: ReplicaReport, now_s: float) -> bool:
        """A replica reports; whether its version is still wanted. A replica that has said good-bye stays away."""
        model = self._models.get(report.name)
        record = model.versions.get(report.version) if model else None
        if record is None or report.id in self._gone:
            return False
        known = self._seen.get(report.id)
        self._seen[report.id] = _Seen(report, now_s)
        if known is None or _place(known.report) != _place(report):
            self._is_stale = True
        if record.metadata is None:
            self._keep(replace(record, metadata=report.metadata))
        return record.state != "failed"

    def leave(self, replica_id: ReplicaId) -> None:
        """It takes no new requests from now on."""
        self._gone.add(replica_id)
        if self._seen.pop(replica_id, None) is not None:
            self._is_stale = True

    def expire(self, now_s: float) -> list[ReplicaId]:
        """Those that have fallen silent, forgotten now."""
        silent = [replica_id for replica_id, seen in self._seen.items() if now_s - seen.at_s > SILENT_S]
        for replica_id in silent:
            del self._seen[replica_id]
            self._is_stale = True
        return silent

    def reports(self, name: str, version: str) -> list[ReplicaReport]:
        return [seen.report for seen in self._seen.values() if (seen.report.name, seen.report.version) == (name, version)]

    # -- the table, and what is kept ---------------------------------------------------------------------------------------

    def table(self) -> ServingTable:
        """As it stands; the same object while nothing changes."""
        if self._is_stale:
            models = {model.name: self._entry(model) for model in self._models.values() if model.versions}
            self._table = ServingTable(self._table.seq + 1, models)
            self._is_stale = False
        return self._table

    def kept(self, name: str) -> dict[str, Any]:
        """What must outlive this process, of one model."""
        model = self._models[name]
        versions = [record.as_json() for record in model.versions.values()]
        return {"default": model.default, "num_given": model.num_given, "versions": versions}

    def restore(self, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        for name, body in documents:
            records = [DeployRecord.from_json(one) for one in body["versions"]]
            model = _Model(name, body["default"], int(body["num_given"]), {record.version: record for record in records})
            self._models[name] = model
        self._is_stale = True

    def _entry(self, model: _Model) -> ModelEntry:
        return ModelEntry(model.name, model.default, {version: self._version(record) for version, record in model.versions.items()})

    def _version(self, record: DeployRecord) -> VersionEntry:
        replicas = tuple(
            ReplicaAt(report.id, report.host, report.port, report.node_id, report.flavor)
            for report in self.reports(record.name, record.version)
        )
        is_routed = record.state in ("ready", "retiring")
        return VersionEntry(
            record.version,
            record.metadata,
            replicas if is_routed else (),
            int(record.settings.get("min_replicas", 1)) if record.state == "ready" else 1,
            record.why or record.state,
        )

    def _keep(self, record: DeployRecord) -> DeployRecord:
        self._models[record.name].versions[record.version] = record
        self._is_stale = True
        return record


def _place(report: ReplicaReport) -> tuple[str, int]:
    return report.host, report.port
