"""What is served now, as the directory tells it and every ingress routes by it: frozen, whole, and numbered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from serve_apps.tensors import ModelMetadata

ReplicaId = NewType("ReplicaId", str)


@dataclass(frozen=True, slots=True)
class ReplicaAt:
    """A replica that answers at `http://<host>:<port>`."""

    id: ReplicaId
    host: str
    port: int
    node_id: str = ""
    flavor: str = ""


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version of a model. `metadata` None: no replica has ever loaded it. `min_replicas` 0: a request may have to wake it."""

    version: str
    metadata: ModelMetadata | None = None
    replicas: tuple[ReplicaAt, ...] = ()
    min_replicas: int = 1
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether a request is answered: by a replica, or by one that the request wakes."""
        return bool(self.replicas) or (self.min_replicas == 0 and self.metadata is not None)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model by name. `default`: the version that a request gets which names none; empty while none has been ready."""

    name: str
    default: str
    versions: Mapping[str, VersionEntry]


@dataclass(frozen=True, slots=True)
class ServingTable:
    """`seq` grows with every change."""

    seq: int = 0
    models: Mapping[str, ModelEntry] = field(default_factory=dict)

    def find(self, model: str, version: str = "") -> VersionEntry | None:
        """The named version, or the default one; None where there is none."""
        entry = self.models.get(model)
        return None if entry is None else entry.versions.get(version or entry.default)
