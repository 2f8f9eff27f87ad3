"""What the owner of a lot and its processes tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.errors import FabricError
from serve_apps.parking.rules import ModelVersion
from serve_apps.source import ServiceSource


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a parked process shall serve from now on.

    `source`: a captured service, or the path of a model: a prepared folder, or whatever `load_model` opens. `options`: how it is
    executed, as `parse_serve_options` takes them. `log`: a file that takes what it prints.
    """

    model: ModelVersion
    source: ServiceSource | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    num_threads: int = 1
    log: str = ""


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


Message = Adoption | Leave | IsParked | IsLive | HasFailed | Activity
