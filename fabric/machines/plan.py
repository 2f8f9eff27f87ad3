"""A cluster of one's own machines: the cluster file's words, checked, and the node that each machine is to be. Pure but for names."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fabric.config import validated
from fabric.errors import ConfigError, UnknownNameError, nearest_hint
from fabric.machines.command import BOOTSTRAP_CONFIG
from fabric.machines.ship import VENV
from fabric.machines.spec import NodeSpec, Ports
from fabric.machines.ssh import SshAccess

PROVIDER = "pools.node_provider.MachinesProvider"
HEAD_KEY = "~/ray_bootstrap_key.pem"
FABRIC_CONFIG = "~/.tierfabric/fabric.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Strict):
    """Certificates for Ray's own connections, valid for every machine of the cluster; PEM files on the launching machine."""

    cert: Path
    key: Path
    ca: Path


class Provider(_Strict):
    """`provider:` of a cluster file. `environment`: a Python environment that is on every machine, with Ray and tierfabric; left out:
    one is made there. `on_head` is set by the launch, for the copy that the head reads."""

    type: Literal["external"]
    module: str
    ssh_port: int = Field(default=22, ge=1, le=65535)
    environment: str | None = None
    python: str = f"python{sys.version_info.major}.{sys.version_info.minor}"
    env: dict[str, str] = Field(default_factory=dict, description="variables for Ray on every machine, over tierfabric's defaults")
    ports: dict[str, int] = Field(default_factory=dict)
    tls: Tls | None = None
    allow: list[str] = Field(default_factory=list, description="networks that may read metrics, beside the cluster's own machines")
    disable_node_updaters: bool = True
    on_head: bool = False
    ssh: dict[str, Any] = Field(default_factory=dict, description="filled in by the launch")
    node_types: dict[str, Any] = Field(default_factory=dict, description="filled in by the launch")
    head_node_type: str | None = Field(default=None, description="filled in by the launch")


@dataclass(frozen=True, slots=True)
class NodeType:
    """Machines of one kind. `min_workers` of them always run, the others when there is work for them."""

    name: str
    machines: tuple[str, ...]
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    min_workers: int
    max_workers: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """A whole cluster of machines."""

    name: str
    provider: Provider
    access: SshAccess
    node_types: Mapping[str, NodeType]
    head_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the fabric on it is set to: `metadata.fabric` of the file."""

    @property
    def head(self) -> str:
        return self.node_types[self.head_type].machines[0]

    @property
    def environment(self) -> str:
        return self.provider.environment or VENV

    @property
    def python(self) -> str:
        """The Python of the environment that is there, or the one to make an environment with."""
        return f"{self.provider.environment}/bin/python" if self.provider.environment else self.provider.python

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches it may run code on it."""
        return self.provider.env.get("RAY_AUTH_MODE", "token") != "token"

    def all_machines(self) -> dict[str, str]:
        """Host -> node type, the head first."""
        return {self.head: self.head_type} | {host: kind.name for kind in self.node_types.values() for host in kind.machines}

    def first_machines(self) -> dict[str, str]:
        """Host -> node type of those that run from the start."""
        first = {self.head: self.head_type}
        return first | {host: kind.name for kind in self.node_types.values() for host in kind.machines[: kind.min_workers]}

    def ports(self) -> Ports:
        return Ports(**self.provider.ports)

    def spec(self, host: str, instance_id: str, release: str) -> NodeSpec:
        """What this machine is to run. Raises: ConfigError (`host_unknown`)."""
        kind = self.node_types[self.all_machines()[host]]
        is_head = host == self.head
        return NodeSpec(
            cluster=self.name,
            kind="head" if is_head else "worker",
            address=_address(host),
            head=_address(self.head),
            node_type=kind.name,
            instance_id=instance_id,
            environment=self.environment,
            labels=dict(kind.labels),
            resources=dict(kind.resources),
            env=dict(self.provider.env),
            ports=self.ports(),
            friends=tuple(sorted({*self._addresses(), *self.provider.allow})),
            release=release,
            is_tls=self.provider.tls is not None,
            autoscaling_config=BOOTSTRAP_CONFIG if is_head else None,
            fabric_config=FABRIC_CONFIG if is_head else None,
        )

    def _addresses(self) -> Iterator[str]:
        for host in self.all_machines():
            with contextlib.suppress(ConfigError):  # told of that machine alone: the others come up
                yield _address(host)

    def head_instance(self) -> str:
        return f"{self.head}-head"


def is_machines(config: Mapping[str, Any]) -> bool:
    """Whether a cluster file is of machines that one owns, by this product's node provider."""
    provider = config.get("provider")
    return isinstance(provider, Mapping) and provider.get("type") == "external" and provider.get("module") == PROVIDER


def read_cluster(config: Mapping[str, Any]) -> Cluster:
    """Raises: ConfigError (`bad_cluster_file`), UnknownNameError."""
    name = str(config.get("cluster_name"))
    if not _NAME.fullmatch(name):  # it names folders that `fabric down` removes, and stands in commands
        raise _bad(f"cluster_name: {name!r} will not do", "letters, digits, '-', '_' and '.', the first a letter or a digit")
    provider = _provider(config.get("provider", {}))
    auth = config.get("auth") or {}
    head_type = config.get("head_node_type", "")
    kinds = config.get("available_node_types") or {}
    if head_type not in kinds:
        raise UnknownNameError(
            f"head_node_type names no node type: {head_type!r}", code="bad_cluster_file", hint=nearest_hint(str(head_type), kinds)
        )
    node_types = {name: _node_type(name, kind or {}, is_head=name == head_type) for name, kind in kinds.items()}
    _each_once(node_types)
    access = SshAccess(
        user=auth.get("ssh_user", "root"),
        private_key=auth.get("ssh_private_key"),
        port=provider.ssh_port,
        proxy_command=auth.get("ssh_proxy_command"),
        known_hosts=f"~/.tierfabric/clusters/{name}/known_hosts",
    )
    settings = (config.get("metadata") or {}).get("fabric") or {}
    validated(settings, "metadata.fabric")
    return Cluster(name, provider, access, node_types, head_type, settings)


def _provider(plain: Mapping[str, Any]) -> Provider:
    try:
        provider = Provider.model_validate(plain)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in ("provider", *first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UnknownNameError(
                f"unknown key {key}", code="bad_cluster_file", hint=nearest_hint(str(first["loc"][-1]), Provider.model_fields)
            ) from error
        raise _bad(f"{key}: {first['msg']}", "see cluster_configs/onprem.yaml for every key") from error
    known = set(Ports.__dataclass_fields__)
    for name, port in provider.ports.items():
        if name not in known:
            raise UnknownNameError(f"unknown port provider.ports.{name}", code="bad_cluster_file", hint=nearest_hint(name, known))
        if not 1 <= port <= 65535:
            raise _bad(f"provider.ports.{name}: {port} is no port", "1 to 65535")
    return provider


def _node_type(name: str, plain: Mapping[str, Any], *, is_head: bool) -> NodeType:
    machines = (plain.get("node_config") or {}).get("machines")
    if not isinstance(machines, list) or not machines or not all(isinstance(host, str) and host for host in machines):
        raise _bad(f"available_node_types.{name}: names no machines", "node_config: {machines: [10.0.0.2, 10.0.0.3]}")
    if is_head and len(machines) != 1:
        raise _bad(f"available_node_types.{name}: the head is one machine, not {len(machines)}", "one under node_config.machines")
    least = 0 if is_head else plain.get("min_workers", 0)
    most = 0 if is_head else plain.get("max_workers", len(machines))
    if not 0 <= least <= most <= len(machines):
        raise _bad(
            f"available_node_types.{name}: min_workers {least} and max_workers {most} do not fit its {len(machines)} machines",
            "0 <= min_workers <= max_workers <= the number of machines",
        )
    return NodeType(name, tuple(machines), plain.get("labels") or {}, plain.get("resources") or {}, least, most)


def _each_once(node_types: Mapping[str, NodeType]) -> None:
    seen: dict[str, str] = {}
    for kind in node_types.values():
        for host in kind.machines:
            if host in seen:
                raise _bad(f"machine {host} stands twice, under {seen[host]} and {kind.name}", "one machine is one node")
            seen[host] = kind.name


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise ConfigError(f"{host}: no such host name", code="host_unknown", hint="use its address, or mend DNS") from None


def _bad(message: str, hint: str) -> ConfigError:
    return ConfigError(message, code="bad_cluster_file", hint=hint)
