"""What a stranger finds: every TCP port of every machine of a cluster, from another namespace, without its token.

A head and a worker in network namespaces, a fabric and a served model on them (with a token, on all addresses). Each of the 65,535 ports of
each machine is tried; one that accepts is asked in HTTP and in gRPC. Open is whatever answers with something else than a refusal.

    open       ports that answered a stranger; sshd and the models' own ports, which ask for a token, do not count when they refuse
    accepting  ports that accept a connection at all
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cluster.head_loss import MODEL
from benchmarks.measure import options, report
from tests.cluster_files import cluster, write
from tests.laptop import Laptop
from tests.machines import World

AT_ONCE, CONNECT_S = 500, 1.0
PATHS = ("/", "/metrics", "/api/jobs/", "/api/v0/nodes", "/api/job_agent/jobs/", "/shout/predict", "/v1/models", "/nodes")
METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.ReporterService/HealthCheck",
    "/inference.GRPCInferenceService/ServerMetadata",
)


def main() -> None:
    asked = options(__doc__ or "", rounds=1)
    with World(3) as world, tempfile.TemporaryDirectory() as home:
        head, worker, stranger = world.machines
        laptop = Laptop(Path(home))
        config = cluster(world, {"hot": [worker]}, settings={"serving": {"host": "0.0.0.0", "require_token": "always"}})
        path = write(world.root / "lab.yaml", config)
        up = laptop.run("fabric", "up", str(path))
        assert up.returncode == 0, up.stderr
        (head.home / "model.py").write_text(MODEL)
        head.run("~/.tierfabric/run python model.py", timeout_s=150)
        command = stranger.enter(
            f"cd {Path(__file__).parents[2]}; exec {sys.executable} -m benchmarks.cluster.open_ports --scan {head.address} {worker.address}"
        )
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        laptop.run("fabric", "down", str(path), "--yes")
    figures = {
        "open": sum(len(ports) for ports in found["open"].values()),
        "accepting": sum(len(ports) for ports in found["accepting"].values()),
        "which": found["open"],
    }
    report(figures, {"open": "0"}, as_json=asked.json)


async def scan(host: str) -> list[int]:
    """The ports that accept."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(port: int) -> int | None:
        async with gate:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
            except (OSError, TimeoutError):
                return None
            writer.close()
            return port

    answers = await asyncio.gather(*(one(port) for port in range(1, 65536)))
    return [port for port in answers if port is not None]


def answers_a_stranger(host: str, port: int) -> str:
    """What let the stranger in; empty where nothing did."""
    from fabric.cluster.doors import ask_grpc, ask_http

    for path in PATHS:
        for verb in ("GET", "POST"):
            if _tells(host, port, path, verb) and ask_http(host, port, path, method=verb) == "open":
                return f"{verb} {path}"
    return next((method for method in METHODS if ask_grpc(host, port, method) == "open" and _serves(host, port, method)), "")


def _tells(host: str, port: int, path: str, verb: str) -> bool:
    """Whether HTTP brings anything: 404 and 405 say that there is nothing, and give nothing away."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request(verb, path, body=b"{}" if verb == "POST" else None)
        return connection.getresponse().status not in (401, 403, 404, 405)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _serves(host: str, port: int, method: str) -> bool:
    """Whether the method is there at all: UNIMPLEMENTED says that it is not."""
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=2)
        except grpc.RpcError as error:
            return error.code() != grpc.StatusCode.UNIMPLEMENTED
    return True


def scan_all(hosts: list[str]) -> None:
    accepting = {host: asyncio.run(scan(host)) for host in hosts}
    found = {
        host: {port: why for port in ports if port != 22 and (why := answers_a_stranger(host, port))} for host, ports in accepting.items()
    }
    print(json.dumps({"accepting": accepting, "open": found}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--scan"]:
        scan_all(sys.argv[2:])
    else:
        main()
