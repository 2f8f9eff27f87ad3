"""What goes over Ray between deployers, replicas, ingresses and the directory: frozen values, and the seam to Serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from serve_apps.directory.records import DeployRecord

ACTOR = "models"
"""The directory's name in the fabric's namespace."""


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """`settings`: the checked arguments of `deploy`, as JSON; `source`: a digest of the artefact store; `placement`: Ray's own terms;
    `version`: a number that it has already; empty: the next one; `rollout`: a `RolloutSpec` as JSON;
    `framework`: of a model file, a word; `origin`: where it came from, in words."""

    name: str
    user: str
    settings: Mapping[str, Any]
    source: str
    placement: Mapping[str, Any]
    version: str = ""
    rollout: Mapping[str, Any] | None = None
    framework: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`is_wanted` False: the version is gone, the replica may end. `tokens`: all of them, where they changed since `tokens_mark`.
    `shadow`: where copies of its requests go, and how many. `beat_s`: how long the replica waits until its next report; 0: as always."""

    is_wanted: bool
    tokens_mark: str
    tokens: Mapping[str, Any] | None = None
    shadow: ShadowOrder | None = None
    beat_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ShadowOrder:
    """`share` ten-thousandths of a replica's requests are copied to `replicas`, (host, port) each."""

    share: int
    replicas: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a deploy is."""

    record: DeployRecord
    num_running: int
    num_wanted: int


@dataclass(frozen=True, slots=True)
class AppState:
    """What Serve says of one version's application. `why`: the last lines of what went wrong."""

    state: Literal["absent", "starting", "running", "failed"]
    num_running: int = 0
    why: str = ""


class ServePort(Protocol):
    """Ray Serve, as the directory needs it. Every call may block for seconds and is idempotent."""

    def start(self, record: DeployRecord) -> None: ...

    def state(self, record: DeployRecord) -> AppState: ...

    def delete(self, record: DeployRecord) -> None: ...

    def logs(self, record: DeployRecord, max_lines: int) -> str: ...


class IngressPort(Protocol):
    """Ingresses on machines other than the head. Idempotent. Raises: FabricError."""

    def here(self) -> str:
        """The node of the directory itself: the head."""
        ...

    def open(self, node_id: str) -> None: ...

    def end(self, node_id: str) -> None: ...
