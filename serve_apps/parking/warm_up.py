"""interim"""

from __future__ import annotations

from serve_apps.parking.door import Door


async def run(door: Door, port: int) -> None:
    pass
