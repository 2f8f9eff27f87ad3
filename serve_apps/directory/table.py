"""What is served now, as the directory tells it and every ingress routes by it: frozen, whole, and numbered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from serve_apps.tensors import ModelMetadata

ReplicaId = NewType("ReplicaId", str)


@dataclass(frozen=True, slots=True)
class ReplicaAt:
    """A replica that answers at `http://<host>:<port>`, and on its own machine at the Unix socket `door`, if it has one."""

    id: ReplicaId
    host: str
    port: int
    node_id: str = ""
    flavor: str = ""
    door: str = ""


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


WHOLE = 10_000
"""Shares of requests are counted in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which deployment a request gets that names no version. `shares`: ten-thousandths by deployment, in an order that stays; their sum is
    `WHOLE`. Requests with a user key fall on the same point of 0 to `WHOLE` as long as `salt` stands: as one share grows, who has it keeps
    it."""

    shares: Mapping[str, int]
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """`share` ten-thousandths of what `of` has answered is put to `to` as well, whose answers are only compared. Both are deployments."""

    of: str
    to: str
    share: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model by name.

    `versions` is by deployment: a version that runs at two places at once has two. `names`: what a request may call a version (its number,
    an alias) and the deployment that answers to it. `default`: the deployment that a request gets which names none, unless there is a
    `split`; empty while none has been ready.
    """

    name: str
    default: str
    versions: Mapping[str, VersionEntry]
    split: Split | None = None
    shadow: Shadow | None = None
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingTable:
    """`seq` grows with every change."""

    seq: int = 0
    models: Mapping[str, ModelEntry] = field(default_factory=dict)

    def find(self, model: str, version: str = "") -> VersionEntry | None:
        """The named version, or the default one; None where there is none. A split is not looked at."""
        entry = self.models.get(model)
        return None if entry is None else entry.versions.get(entry.names.get(version, version) or entry.default)
