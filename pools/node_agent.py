"""The node agent: one per machine, measures its use and tells the pools of that machine's nodes.

It costs under 1 % of one core: one reading of psutil and NVML every `PERIOD_S`.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from fabric import ray_io
from fabric.errors import FabricError
from fabric.types import NodeUsage
from pools.telemetry import read_usage

PERIOD_S = 2.0
_log = logging.getLogger(__name__)


class NodeAgent:
    """Undecorated actor class, named `agent-<host>`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._tiers: set[str] = set()
        self._pools: dict[str, Any] = {}
        read_usage()  # the first reading of CPU use has no period behind it
        threading.Thread(target=self._loop, name="measure", daemon=True).start()

    def watch(self, tier: str) -> None:
        """Report to this tier's pool as well. Idempotent."""
        self._tiers.add(tier)

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(PERIOD_S)
            usage = read_usage()
            for tier in tuple(self._tiers):
                self._report(tier, usage)

    def _report(self, tier: str, usage: NodeUsage) -> None:
        try:
            if tier not in self._pools:
                self._pools[tier] = ray_io.actor(f"pool-{tier}")
            self._pools[tier].report_usage.remote(self._host, usage)
        except FabricError as error:
            self._pools.pop(tier, None)
            _log.warning("report tier=%s failed: %s", tier, error)
