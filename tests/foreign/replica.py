"""A server process of ours with the models of `cases`, without Ray: REST of one replica. Prints its ports, ends with its stdin.

Usage: python replica.py [PORT]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from services import services

from serve_apps.execution.build import build_served_model
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from serve_apps.server import Server, bind


async def _filled(plane: DataPlane) -> None:
    for name, service in services().items():
        plane.add(build_served_model(service, name, "1"))


def main() -> None:
    plane = DataPlane(server_version="test")
    server = Server(RestApp(plane), bind("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0)).start()
    server.run(_filled(plane)).result(60)
    print(f"ready http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()
    server.stop(1.0)


if __name__ == "__main__":
    main()
