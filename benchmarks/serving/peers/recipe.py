"""What the harness must be told of a peer: how to install it and how to start one worker of it. A recipe is data, it runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server runs. `python`: that of the peer's own environment. `workdir`: an empty folder of its own."""

    python: Path
    workdir: Path
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def site(self) -> Path:
        return next((self.python.parent.parent / "lib").glob("python3.*/site-packages"))


@dataclass(frozen=True, slots=True)
class Command:
    """One server process. `path`: what the echo is posted to. `env`: added to the caller's, or all of it if `is_bare`.

    `ready_path`: answers 200 once requests can be sent. `with_grpc`: the server also listens on the place's gRPC port.
    """

    argv: tuple[str, ...]
    path: str
    env: Mapping[str, str] = field(default_factory=dict)
    is_bare: bool = False
    ready_path: str = ""
    with_grpc: bool = False


class Recipe(Protocol):
    """One file of this folder each. All servers echo `payload.echo_body()`, with one worker and no access log."""

    @property
    def name(self) -> str: ...

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is installed into the peer's environment. Empty: it runs in the harness's own."""
        ...

    def command(self, place: Place) -> Command:
        """Write what the server needs into `place.workdir`, and say how it is started."""
        ...
