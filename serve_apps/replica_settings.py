"""What a process needs to know to serve one version of a model: the same for a Serve replica and for a parked process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fabric.config import FabricConfig
from serve_apps.directory.records import DeployRecord, ReplicaReport
from serve_apps.directory.requests import BeatAnswer
from serve_apps.directory.table import ReplicaId
from serve_apps.serve_options import ServeOptions, parse_serve_options


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """`source`: a digest in the artefact store at `storage`; `host`: where it listens; `is_open`: no token is needed, and a request
    without one is `user`'s; `num_cpus`: what it may use; `kind`: what it computes on, `cpu` or a kind of accelerator; `deployment`: which
    of the version's, as the directory keys it."""

    name: str
    version: str
    source: str
    storage: str
    state_path: Path
    options: ServeOptions
    num_cpus: float
    flavor: str = ""
    kind: str = "cpu"
    deployment: str = ""
    host: str = "127.0.0.1"
    is_open: bool = True
    user: str = ""

    @property
    def cache_path(self) -> Path:
        return self.state_path / "serving" / "cache"

    @property
    def doors_path(self) -> Path:
        return self.state_path / "serving" / "doors"

    @property
    def usage_path(self) -> Path:
        return self.state_path / "serving" / "usage"


def settings_for(record: DeployRecord, config: FabricConfig, *, is_open: bool, host: str) -> ReplicaSettings:
    """What a process must know to serve this version. `host` empty: each replica listens on its node's address."""
    return ReplicaSettings(
        name=record.name,
        version=record.version,
        deployment=record.key,
        source=record.source,
        storage=config.storage,
        state_path=config.state_path,
        options=parse_serve_options(record.settings.get("options") or {}),
        num_cpus=float(record.settings["num_cpus"]),
        flavor=str(record.placement.get("flavor", "")),
        kind=str(record.placement.get("kind", "cpu")),
        host=host,
        is_open=is_open,
        user=record.user,
    )


class RunsPort(Protocol):
    """Where a replica reports how long its requests run, for its model's profile."""

    def note(self, run_s: float, input_bytes: int = -1) -> None: ...

    def flush(self, now_s: float) -> bool: ...


class DirectoryPort(Protocol):
    """The directory as replicas and ingresses reach it. Raises: UnavailableError while it is away."""

    def beat(self, report: ReplicaReport, tokens_mark: str) -> BeatAnswer: ...

    def leave(self, replica_id: ReplicaId) -> None: ...
