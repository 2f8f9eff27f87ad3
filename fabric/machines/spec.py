"""What a machine is to run: written by whoever launches, read by the watchdog on the machine. Plain JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fabric.errors import ConfigError

Kind = Literal["head", "worker"]


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a node, all of them fixed, so that a firewall and a doctor can name them."""

    gcs: int = 6379
    dashboard: int = 8265
    node_manager: int = 6381
    object_manager: int = 6382
    agent_grpc: int = 6383
    runtime_env_agent: int = 6384
    metrics: int = 6385
    agent_http: int = 52365
    client: int = 10001
    first_worker: int = 10002
    last_worker: int = 19999

    def of(self, kind: Kind) -> dict[int, str]:
        """The ports that must be free on a machine of this kind, and what each is for."""
        common = {
            self.node_manager: "Ray's node manager",
            self.object_manager: "Ray's object store",
            self.agent_grpc: "Ray's agent",
            self.runtime_env_agent: "Ray's runtime environments",
            self.metrics: "metrics",
            self.agent_http: "Ray's agent",
        }
        return {self.gcs: "Ray's head", self.dashboard: "the dashboard", self.client: "Ray Client", **common} if kind == "head" else common


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of a cluster, as its machine is told it.

    `address`: the machine's own address in the cluster. `head`: the head's. `instance_id`: what the autoscaler calls this start of
    this machine. `environment`: the directory of the Python environment with Ray and tierfabric. `env`: variables for Ray. `release`: of
    what was shipped. `friends`: addresses and networks that may read metrics: the cluster's machines, and who scrapes them.
    """

    cluster: str
    kind: Kind
    address: str
    head: str
    node_type: str
    instance_id: str
    environment: str
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    ports: Ports = Ports()
    friends: tuple[str, ...] = ()
    release: str = ""
    is_tls: bool = False
    autoscaling_config: str | None = None
    fabric_config: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> str:
        """Two starts with the same digest run the same. No part of it: the instance's name, and the friends, whom a node that runs
        may be told of anew."""
        plain = {**asdict(self), "instance_id": "", "friends": ()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def read_spec(text: str) -> NodeSpec:
    """Raises: ConfigError (`bad_node_spec`)."""
    try:
        plain: dict[str, Any] = json.loads(text)
        return NodeSpec(**{**plain, "ports": Ports(**plain["ports"]), "friends": tuple(plain["friends"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"this is no description of a node: {error}", code="bad_node_spec") from error
