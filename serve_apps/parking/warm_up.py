"""interim"""

from __future__ import annotations

from serve_apps.parking.door import Door
from serve_apps.server import Server


def run(server: Server, door: Door) -> None:
    pass
