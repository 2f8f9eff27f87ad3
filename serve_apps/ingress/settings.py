"""Decides where models are answered, and whether a request needs a token."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from fabric.config import FabricConfig


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """`folder`: for HAProxy's files. `is_open`: no token is needed, and a request without one is `user`'s."""

    host: str
    port: int
    grpc_port: int
    folder: Path
    is_open: bool
    user: str

    @property
    def url(self) -> str:
        return f"http://{_reachable(self.host)}:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"{_reachable(self.host)}:{self.grpc_port}"


def ingress_settings(config: FabricConfig, *, is_twin: bool) -> IngressSettings:
    """What the configuration comes to on this fabric."""
    serving = config.serving
    is_open = serving.require_token == "never" or (serving.require_token == "auto" and is_twin and is_loopback(serving.host))
    return IngressSettings(
        host=serving.host,
        port=serving.port,
        grpc_port=serving.port + 1 if serving.grpc_port is None else serving.grpc_port,
        folder=config.state_path / "serving" / "ingress",
        is_open=is_open,
        user=config.user,
    )


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reachable(host: str) -> str:
    """An address that can be asked, also where the server listens on all."""
    plain = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"[{plain}]" if ":" in plain else plain
