"""Which machines have an ingress of their own beside the head's: each that holds a replica. They answer while the head is away."""

from __future__ import annotations

from fabric.config import FabricConfig
from serve_apps.directory.table import ServingTable
from serve_apps.ingress.settings import is_loopback

LINGER_S = 60.0
"""How long an ingress stays after the last replica of its machine: whoever sends there is not cut off by a replica that moves."""


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
