"""Which machines have an ingress of their own beside the head's: each that holds a replica. They answer while the head is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from fabric.config import FabricConfig
from fabric.errors import FabricError
from serve_apps.directory.requests import IngressPort
from serve_apps.directory.table import ServingTable
from serve_apps.ingress.settings import is_loopback

LINGER_S = 60.0
"""How long an ingress stays after the last replica of its machine: whoever sends there is not cut off by a replica that moves."""

LOOK_S = 1.0
_log = logging.getLogger(__name__)


class Ingresses:
    """Counts time by what it is told."""

    def __init__(self, config: FabricConfig, *, is_spread: bool) -> None:
        """`is_spread`: whether the fabric's nodes are machines of their own."""
        mode = config.serving.ingress
        is_reached = not is_loopback(config.serving.host)  # one that listens on loopback helps nobody on a machine where nobody asks
        self._is_spread = is_spread and (mode == "replicas" or (mode == "auto" and is_reached))
        self._last_s: dict[str, float] = {}

    def due(self, table: ServingTable, head: str, now_s: float) -> tuple[list[str], list[str]]:
        """The nodes where one is to be started, and those where it is to end. `head`: the head's node, which has one anyway."""
        if not self._is_spread:
            return [], []
        replicas = (replica for model in table.models.values() for version in model.versions.values() for replica in version.replicas)
        nodes = {replica.node_id for replica in replicas if replica.node_id and replica.node_id != head}
        new = sorted(nodes - self._last_s.keys())
        self._last_s |= dict.fromkeys(nodes, now_s)
        over = sorted(node for node, last_s in self._last_s.items() if now_s - last_s > LINGER_S)
        for node in over:
            del self._last_s[node]
        return new, over

    def failed(self, node_id: str) -> None:
        """It could not be started there: tried again at the next look."""
        self._last_s.pop(node_id, None)


async def spread(ingresses: Ingresses, port: IngressPort, table: Callable[[], ServingTable]) -> None:
    """For ever: starts and ends them as replicas come and go."""
    head = await asyncio.to_thread(port.here)  # anew with each life: a head that restarted is another node
    while True:
        await asyncio.sleep(LOOK_S)
        new, over = ingresses.due(table(), head, time.monotonic())
        for node_id in new:
            try:
                await asyncio.to_thread(port.open, node_id)
            except FabricError as error:
                ingresses.failed(node_id)
                _log.warning("no ingress node=%s: %s", node_id, error)
        for node_id in over:
            await asyncio.to_thread(port.end, node_id)
