"""What the directory is told and what it keeps: a deploy's record, and a replica's report. Plain values that become JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from serve_apps.directory.observed import Observed
from serve_apps.directory.table import ReplicaId
from serve_apps.tensors import ModelMetadata, TensorSpec

State = Literal["starting", "ready", "retiring", "failed"]


@dataclass(frozen=True, slots=True)
class DeployRecord:
    """One deployment of a version. `settings`: the checked arguments of `deploy`; `source`: the digest of what is run, in the
    artefact store; `created_s`: wall clock; `why`: of a failure, or of the place; `copy`: 0 for a version's first deployment."""

    name: str
    version: str
    user: str
    created_s: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    state: State = "starting"
    why: str = ""
    placement: Mapping[str, Any] = field(default_factory=dict)
    metadata: ModelMetadata | None = None
    copy: int = 0

    @property
    def key(self) -> str:
        """Of this deployment among all of its model."""
        return deployment_key(self.version, self.copy)

    @property
    def app(self) -> str:
        """The name of its application in Serve."""
        return f"{self.name}.v{self.key}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DeployRecord:
        """Unknown keys, of a later release, are left out."""
        known = {key: value for key, value in body.items() if key in cls.__slots__}
        return cls(**{**known, "metadata": metadata_from_json(body.get("metadata"))})


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says of itself, every `BEAT_S`. `stats`: numbers by name, as `ongoing_requests`. `is_bridge`: a parked process
    that stands in until Serve has a replica; `door`: as of `ReplicaAt`."""

    id: ReplicaId
    name: str
    version: str
    host: str
    port: int
    metadata: ModelMetadata
    node_id: str = ""
    flavor: str = ""
    stats: Mapping[str, float] = field(default_factory=dict)
    is_bridge: bool = False
    observed: Observed = field(default_factory=Observed)
    deployment: str = ""
    door: str = ""

    @property
    def key(self) -> str:
        """Of its deployment."""
        return self.deployment or self.version


def deployment_key(version: str, copy: int) -> str:
    """`3` for a version's first deployment, `3.1` for the next."""
    return f"{version}.{copy}" if copy else version


def metadata_from_json(body: Mapping[str, Any] | None) -> ModelMetadata | None:
    if body is None:
        return None
    known = {key: value for key, value in body.items() if key in ModelMetadata.__slots__}
    tensors = {
        side: tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in body.get(side, ())) for side in ("inputs", "outputs")
    }
    return ModelMetadata(**{**known, **tensors, "versions": tuple(body.get("versions", ()))})


def with_state(record: DeployRecord, state: State, why: str = "") -> DeployRecord:
    return replace(record, state=state, why=why)


def replica_usd_per_h(record: DeployRecord) -> float:
    """Of one replica, as it was placed; 0 where it is not known."""
    return replica_price(record, str(record.placement.get("flavor", ""))) or 0.0


def replica_price(record: DeployRecord, flavor: str) -> float | None:
    """Dollars per hour of one replica on a flavor, which may be one that Ray fell back to; None where it is not known. Of a flavor's own
    units and its host's CPUs, as the deployment was placed."""
    kind = record.placement.get("kind")
    places = [place for place in record.placement.get("places", ()) if place.get("flavor") == flavor]
    for place in sorted(places, key=lambda place: place.get("kind") != kind):
        if place.get("replica_usd_per_h") is not None:
            return float(place["replica_usd_per_h"])
        if place.get("usd_per_h") is not None:  # placed by a release that kept the sum of all replicas only
            return float(place["usd_per_h"]) / max(1, int(record.settings.get("replicas", 1)))
    return None
