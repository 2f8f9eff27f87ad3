"""What the owner of a lot and its processes tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.errors import FabricError
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.table import ReplicaId
from serve_apps.parking.rules import ModelVersion
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.source import ServiceSource

_NOBODY = ReplicaId("")


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a parked process shall serve from now on.

    `source`: a captured service, or the path of a model: a prepared folder, or whatever `load_model` opens. `tokens`: as the directory
    tells them, with the mark of that state. `log`: a file that takes what it prints. `idle_s`: without requests for so long it
    leaves; None: as the lot's rules have it.
    """

    settings: ReplicaSettings
    source: ServiceSource | Path
    tokens: Mapping[str, Any] = field(default_factory=dict)
    tokens_mark: str = ""
    log: str = ""
    replica_id: ReplicaId = _NOBODY
    node_id: str = ""
    idle_s: float | None = None

    @property
    def model(self) -> ModelVersion:
        return ModelVersion(self.settings.name, self.settings.deployment or self.settings.version)


@dataclass(frozen=True, slots=True)
class TokensChanged:
    tokens: Mapping[str, Any]
    mark: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Serve on for `linger_s`, then end when nothing is in flight, after `drain_s` at the latest."""

    linger_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class IsParked:
    """`port`: of its HTTP server, on the loopback address."""

    port: int


@dataclass(frozen=True, slots=True)
class IsLive:
    """`took_ms`: what each part of the adoption took, in the order of the parts."""

    report: ReplicaReport
    took_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HasFailed:
    """It ends by itself."""

    error: FabricError


@dataclass(frozen=True, slots=True)
class Activity:
    """`num_requests`: since the adoption."""

    num_in_flight: int
    num_requests: int


Message = Adoption | TokensChanged | Leave | IsParked | IsLive | HasFailed | Activity
