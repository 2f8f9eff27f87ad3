"""Decides which version of a model answers, from what deploys and replicas report. Plain and synchronous; `now_s` is monotonic.

What runs is a deployment of a version: `3` is the first of version 3, `3.1` the next, at another place or after it failed.

Invariants: a deployment's key is given once; the default is one that has been ready, and changes only when its successor is ready or it
is deleted; a split names only what is routed to; a replica that has not reported for `SILENT_S` is not routed to; `seq` grows with every
change of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.errors import UnknownNameError, UserError
from serve_apps.directory.records import DeployRecord, ReplicaReport, with_state
from serve_apps.directory.requests import ShadowOrder
from serve_apps.directory.sightings import Sightings
from serve_apps.directory.table import WHOLE, ModelEntry, ReplicaAt, ReplicaId, ServingTable, Shadow, Split, VersionEntry

BEAT_S = 2.0
SILENT_S = 7.0
"""Three beats and a little: a replica that is only slow keeps its place."""
MAX_FAILED = 5
"""Deployments that did not start, kept to be shown."""
MAX_BEFORE = 10
_ROUTED = ("ready", "retiring")


@dataclass(slots=True)
class _Model:
    """`given`: how many deployments each version has had. `versions` is by deployment, in the order in which they began."""

    name: str
    default: str = ""
    given: dict[str, int] = field(default_factory=dict)
    versions: dict[str, DeployRecord] = field(default_factory=dict)
    split: Split | None = None
    shadow: Shadow | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """Versions that answered earlier, the latest last."""

    @property
    def last_given(self) -> int:
        return max(map(int, self.given), default=0)


class Directory:
    """All models of a fabric."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self.sightings = Sightings()
        self._table: ServingTable = ServingTable()
        self._is_stale = False

    # -- deploys -----------------------------------------------------------------------------------------------------------

    def begin(self, name: str, user: str, settings: Mapping[str, Any], source: str, wall_s: float, *, version: str = "") -> DeployRecord:
        """A new deployment, not routed to yet, of the given version or of the next number. Of those that failed the last few are kept."""
        model = self._models.setdefault(name, _Model(name))
        version = version or str(model.last_given + 1)
        copy = model.given.get(version, 0)
        model.given[version] = copy + 1
        failed = [key for key, record in model.versions.items() if record.state == "failed"]
        for key in failed[: -MAX_FAILED + 1]:
            del model.versions[key]
        return self._keep(DeployRecord(name, version, user, wall_s, dict(settings), source, copy=copy))

    def placed(self, name: str, key: str, placement: Mapping[str, Any]) -> DeployRecord:
        return self._keep(replace(self.deployment(name, key), placement=dict(placement)))

    def stand_by(self, name: str, key: str) -> DeployRecord:
        """It is ready, and gets the requests that name it; the default stays.

        Raises: UnknownNameError, UserError (`not_ready`) while no replica of it has reported.
        """
        record = self.deployment(name, key)
        if record.metadata is None:
            raise UserError(f"no replica of {name} {key} has reported", code="not_ready")
        return self._keep(with_state(record, "ready"))

    def activate(self, name: str, key: str) -> list[DeployRecord]:
        """Make it the default, alone: a split and a shadow end. The deployments that are to be retired are returned: what else was ready,
        and what began earlier. Again, it changes nothing. Raises: as `stand_by`."""
        self.stand_by(name, key)
        model = self._models[name]
        if model.default in model.versions and (was := model.versions[model.default].version) != model.versions[key].version:
            model.before = [*(one for one in model.before if one != was), was][-MAX_BEFORE:]
        model.default, model.split, model.shadow = key, None, None
        self._is_stale = True
        order = list(model.versions)
        earlier = set(order[: order.index(key)])
        others = [one for one in model.versions.values() if one.key != key]
        over = [one for one in others if one.state in ("ready", "retiring") or (one.state == "starting" and one.key in earlier)]
        return [self._keep(with_state(one, "retiring")) for one in over]

    def direct(self, name: str, split: Split | None, shadow: Shadow | None = None) -> None:
        """Who gets the requests that name no version, and whose are copied. Raises: UnknownNameError, UserError (`bad_split`)."""
        model = self._models[name]
        keys = [*(split.shares if split else ()), *((shadow.of, shadow.to) if shadow else ())]
        for key in keys:
            if self.deployment(name, key).state != "ready":
                raise UserError(f"{name} {key} is {self.deployment(name, key).state}: it gets no requests", code="not_ready")
        if split is not None and (sum(split.shares.values()) != WHOLE or min(split.shares.values()) < 0):
            raise UserError(f"the shares {dict(split.shares)} do not sum to {WHOLE}", code="bad_split")
        if (split, shadow) != (model.split, model.shadow):
            model.split, model.shadow = split, shadow
            self._is_stale = True

    def retire(self, name: str, key: str) -> DeployRecord:
        """It finishes what it has. Raises: UnknownNameError, UserError (`is_default`)."""
        record = self.deployment(name, key)
        if record.key == self._models[name].default:
            raise UserError(f"{name} {key} answers: it cannot be retired", code="is_default", hint="make another version the default")
        self._undirect(record)
        return self._keep(with_state(record, "retiring"))

    def set_aliases(self, name: str, aliases: Mapping[str, str]) -> None:
        """What else a request may call a version: alias to version."""
        model = self._models.get(name)
        if model is not None and model.aliases != aliases:
            model.aliases = dict(aliases)
            self._is_stale = True

    def fail(self, name: str, key: str, why: str) -> DeployRecord:
        """It did not start: it is kept, to be shown, and never routed to."""
        record = self.deployment(name, key)
        self._undirect(record)
        return self._keep(with_state(record, "failed", why))

    def retired(self, name: str, key: str) -> None:
        """Its replicas are gone."""
        model = self._models.get(name)
        if model is not None and model.versions.pop(key, None) is not None:
            self.sightings.forget(name, key)
            self._is_stale = True

    def delete(self, name: str) -> list[DeployRecord]:
        """Its versions, whose replicas are to be ended; nothing is routed to them any more. Only the numbers that were given stay: a
        model that is deployed again at once must not take the name of what is still being ended.

        Raises: UnknownNameError (`unknown_model`).
        """
        records = self.records(name)
        for record in records:
            self.sightings.forget(name, record.key)
        self._models[name] = _Model(name, given=self._models[name].given)
        self._is_stale = True
        return records

    def records(self, name: str) -> list[DeployRecord]:
        """Oldest first. Raises: UnknownNameError (`unknown_model`)."""
        model = self._models.get(name)
        if model is None or not model.versions:
            raise UnknownNameError.of("model", name, sorted(one.name for one in self._models.values() if one.versions))
        return list(model.versions.values())

    def record(self, name: str, version: str = "") -> DeployRecord:
        """The named deployment, version or alias, or the default. Raises: UnknownNameError (`unknown_model`, `unknown_version`)."""
        last = self.records(name)[-1].key
        model = self._models[name]
        return self.deployment(name, (_names(model).get(version, version) if version else model.default) or last)

    def deployment(self, name: str, key: str) -> DeployRecord:
        """Raises: UnknownNameError (`unknown_model`, `unknown_version`)."""
        records = self.records(name)
        for record in records:
            if record.key == key:
                return record
        raise UnknownNameError.of("version", key, [record.key for record in records])

    def ready_of(self, name: str, version: str) -> DeployRecord | None:
        """The deployment that answers to a version's number; None where none is ready. Raises: UnknownNameError (`unknown_model`)."""
        found = [record for record in self.records(name) if record.version == version and record.state == "ready"]
        return next((record for record in found if record.key == self.default(name)), found[-1] if found else None)

    def default(self, name: str) -> str:
        """The deployment that answers; empty where there is none."""
        return self._models[name].default

    def version_before(self, name: str) -> str:
        """The version that answered before the one that does now; empty where there was none. Raises: UnknownNameError."""
        now = self.record(name).version
        return next((version for version in reversed(self._models[name].before) if version != now), "")

    def shares(self, name: str) -> dict[str, int]:
        """Ten-thousandths of the requests that name no version, by deployment. Raises: UnknownNameError (`unknown_model`)."""
        model = self._models[self.record(name).name]
        return dict(model.split.shares) if model.split is not None else {self.record(name).key: WHOLE}

    # -- replicas ----------------------------------------------------------------------------------------------------------

    def beat(self, report: ReplicaReport, now_s: float) -> bool:
        """A replica reports; whether its deployment is still wanted. A replica that has said good-bye stays away."""
        model = self._models.get(report.name)
        record = model.versions.get(report.key) if model else None
        if record is None or self.sightings.has_left(report.id):
            return False
        self._is_stale |= self.sightings.note(report, now_s)
        if record.metadata is None:
            self._keep(replace(record, metadata=report.metadata))
        return record.state != "failed"

    def leave(self, replica_id: ReplicaId) -> None:
        """It takes no new requests from now on."""
        self._is_stale |= self.sightings.leave(replica_id)

    def expire(self, now_s: float) -> list[ReplicaId]:
        """Those that have fallen silent, forgotten now."""
        silent = self.sightings.expire(now_s - SILENT_S)
        self._is_stale |= bool(silent)
        return silent

    def orders(self, report: ReplicaReport) -> tuple[ShadowOrder | None, bool]:
        """(where copies of this replica's requests go, whether it is watched closely)."""
        model = self._models[report.name]
        shadow = model.shadow
        is_watched = model.split is not None or shadow is not None
        if shadow is None or shadow.of != report.key or report.is_bridge:
            return None, is_watched
        return ShadowOrder(shadow.share, tuple((one.host, one.port) for one in self.reports(report.name, shadow.to))), is_watched

    def reports(self, name: str, version: str) -> list[ReplicaReport]:
        """Of one deployment."""
        return self.sightings.reports(name, version)

    # -- the table, and what is kept ---------------------------------------------------------------------------------------

    def table(self) -> ServingTable:
        """As it stands; the same object while nothing changes."""
        if self._is_stale:
            models = {model.name: self._entry(model) for model in self._models.values() if model.versions}
            self._table = ServingTable(self._table.seq + 1, models)
            self._is_stale = False
        return self._table

    def kept(self, name: str) -> dict[str, Any]:
        """What must outlive this process, of one model. Splits and aliases have other owners, who tell them anew."""
        model = self._models[name]
        versions = [record.as_json() for record in model.versions.values()]
        return {"default": model.default, "given": dict(model.given), "versions": versions, "before": list(model.before)}

    def restore(self, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        for name, body in documents:
            records = {record.key: record for record in map(DeployRecord.from_json, body["versions"])}
            # The form of 0.1 had one number for all.
            given = body.get("given") or {str(number + 1): 1 for number in range(int(body.get("num_given", 0)))}
            self._models[name] = _Model(name, body["default"], given, records, before=list(body.get("before", ())))
        self._is_stale = True

    def _entry(self, model: _Model) -> ModelEntry:
        versions = {key: self._version(record) for key, record in model.versions.items()}
        return ModelEntry(model.name, model.default, versions, model.split, model.shadow, _names(model))

    def _version(self, record: DeployRecord) -> VersionEntry:
        replicas = tuple(
            ReplicaAt(report.id, report.host, report.port, report.node_id, report.flavor, report.door)
            for report in self.reports(record.name, record.key)
        )
        is_routed = record.state in _ROUTED
        return VersionEntry(
            record.version,
            record.metadata,
            replicas if is_routed else (),
            int(record.settings.get("min_replicas", 1)) if record.state == "ready" else 1,
            record.why or record.state,
        )

    def _undirect(self, record: DeployRecord) -> None:
        """It gets no requests any more but those that name it."""
        model = self._models[record.name]
        if model.split is not None and record.key in model.split.shares:
            model.split = None
        if model.shadow is not None and record.key in (model.shadow.of, model.shadow.to):
            model.shadow = None

    def _keep(self, record: DeployRecord) -> DeployRecord:
        self._models[record.name].versions[record.key] = record
        self._is_stale = True
        return record


def _names(model: _Model) -> dict[str, str]:
    """What a request may call a version. A number means, of its deployments, the default, else the last one that is routed to, else the
    last."""
    of: dict[str, str] = {}
    for key, record in model.versions.items():
        before = model.versions.get(of.get(record.version, ""))
        if before is None or (before.key != model.default and (record.state in _ROUTED or before.state not in _ROUTED)):
            of[record.version] = key
    own = {key: key for key in model.versions if key not in of}
    aliases = {alias: of[version] for alias, version in model.aliases.items() if version in of}
    return {**aliases, **own, **of}
