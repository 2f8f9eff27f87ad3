"""A server of ours without Ray: a replica with the models of `cases`, and a gateway in front of it, in one process.

Usage: python replica.py [PORT]. Prints `ready URL-OF-THE-GATEWAY ADDRESS-OF-ITS-GRPC URL-OF-THE-REPLICA`; ends with its stdin. PORT is
the replica's.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from services import services

from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry
from serve_apps.execution.build import build_served_model
from serve_apps.gateway.server import GatewayServer
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from serve_apps.server import Server, bind


async def _filled(plane: DataPlane) -> None:
    for name, service in services().items():
        plane.add(build_served_model(service, name, "1"))


def table_of(plane: DataPlane, replica: ReplicaAt) -> ServingTable:
    """Every model of the plane, with this one replica."""
    held = {model.metadata.name: model.metadata for model in plane.models()}
    return ServingTable(1, {name: ModelEntry(name, "1", {"1": VersionEntry("1", metadata, (replica,))}) for name, metadata in held.items()})


def main() -> None:
    plane = DataPlane(server_version="test")
    replica = Server(RestApp(plane), bind("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0)).start()
    replica.run(_filled(plane)).result(60)
    server = GatewayServer(version="test", drain_s=1.0)
    server.start()
    server.replace(table_of(plane, ReplicaAt(ReplicaId("one"), "127.0.0.1", replica.port)))
    print(f"ready http://127.0.0.1:{server.rest_port} 127.0.0.1:{server.grpc_port} http://127.0.0.1:{replica.port}", flush=True)
    sys.stdin.read()
    server.stop()
    replica.stop(1.0)


if __name__ == "__main__":
    main()
