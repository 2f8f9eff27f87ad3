"""Tries every door of a running cluster as a stranger would: without the token, from another machine. What lets in is named.

A port that refuses a stranger (401, 403, UNAUTHENTICATED), or that does not answer, is shut. So is one that wants TLS.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from fabric.doctor.check import Check
from fabric.machines.firewall import UNGUARDED
from fabric.machines.plan import Cluster

TIMEOUT_S = 2.0
Answer = Literal["shut", "refused", "open"]
HTTP_PATHS = {"dashboard": "/api/jobs/", "agent": "/api/job_agent/jobs/", "metrics": "/metrics", "any": "/"}
_REFUSALS = (401, 403)


@dataclass(frozen=True, slots=True)
class Door:
    """One port. `how`: `http` with a path, or `grpc` with a method that needs no argument."""

    port: int
    what: str
    how: Literal["http", "grpc"]
    path: str


def doors(cluster: Cluster, *, is_head: bool) -> list[Door]:
    """Every port that a node opens on purpose."""
    ports = cluster.ports()
    common = [
        Door(ports.node_manager, "node manager", "grpc", "/ray.rpc.NodeManagerService/GetNodeStats"),
        Door(ports.object_manager, "object store", "grpc", "/ray.rpc.ObjectManagerService/Pull"),
        Door(ports.agent_grpc, "Ray's agent", "grpc", "/ray.rpc.ReporterService/HealthCheck"),
        Door(ports.agent_http, "job agent", "http", HTTP_PATHS["agent"]),
        Door(ports.runtime_env_agent, "runtime environments", "http", "/get_runtime_envs_info"),
        Door(ports.metrics, "metrics", "http", HTTP_PATHS["metrics"]),
        Door(8404, UNGUARDED[8404], "http", HTTP_PATHS["any"]),
        Door(9101, UNGUARDED[9101], "http", HTTP_PATHS["metrics"]),
    ]
    if not is_head:
        return common
    return [
        Door(ports.gcs, "Ray's head (GCS)", "grpc", "/ray.rpc.NodeInfoGcsService/CheckAlive"),
        Door(ports.dashboard, "dashboard: submitting a job", "http", HTTP_PATHS["dashboard"]),
        Door(ports.client, "Ray Client", "grpc", "/ray.rpc.RayletDriver/ClusterInfo"),
        Door(44217, UNGUARDED[44217], "http", HTTP_PATHS["metrics"]),
        Door(44227, UNGUARDED[44227], "http", HTTP_PATHS["metrics"]),
        *common,
    ]


def try_doors(cluster: Cluster, hosts: Sequence[str]) -> Iterator[Check]:
    """A row for each door of each machine, tried from here."""
    tried = [(host, door) for host in hosts for door in doors(cluster, is_head=host == cluster.head)]
    with ThreadPoolExecutor(max_workers=32) as pool:
        for (host, door), answer in zip(tried, pool.map(lambda pair: knock(pair[0], pair[1]), tried), strict=True):
            where = f"{host} ({cluster.all_machines()[host]})"
            name = f"door {door.port}"
            if answer == "open":
                yield Check(where, name, "fail", f"{door.what} answers a stranger", _cure(door, cluster))
            else:
                yield Check(where, name, "ok", f"{door.what}: {'refuses a stranger' if answer == 'refused' else 'shut'}")


def knock(host: str, door: Door) -> Answer:
    """Ask without a token."""
    try:
        with socket.create_connection((host, door.port), timeout=TIMEOUT_S):
            pass
    except OSError:
        return "shut"
    return ask_http(host, door.port, door.path) if door.how == "http" else ask_grpc(host, door.port, door.path)


def ask_http(host: str, port: int, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers or {})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return "shut"
    finally:
        connection.close()
    return "refused" if status in _REFUSALS else "open"


def ask_grpc(host: str, port: int, method: str) -> Answer:
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return "refused"
            return "shut" if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) else "open"
    return "open"


def _cure(door: Door, cluster: Cluster) -> str:
    if door.port in UNGUARDED or door.port == cluster.ports().metrics:
        return "apt install nftables there and start the node as root (it shuts this port), or shut it in your own firewall"
    return "RAY_AUTH_MODE=token everywhere: `fabric up` sets it unless the file says otherwise"
