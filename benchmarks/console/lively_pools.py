"""Pools that look lived in: use goes up and down with the hour, further flavors stand beside those of the history, some of them idle.

For pictures and for figures that should include a full last hour.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.console.made_history import History
from benchmarks.console.world import MadePools, World
from fabric.errors import FabricError
from fabric.types import DEFAULT_TIERS, Node, NodeUsage, PoolSnapshot

HOUR_S, STEP_S = 3600, 10
FURTHER = (
    # flavor, tier, resource, units of a node, nodes, part in use, slowdown of a twin
    ("h100", "hot", "GPU", 8.0, 6, 0.8, None),
    ("l4", "warm", "GPU", 4.0, 12, 0.5, None),
    ("vck5000", "warm", "FPGA", 1.0, 8, 0.4, 1.0),
    ("cpu-avx512", "cold", "CPU", 64.0, 10, 0.35, None),
)
LEVELS = {"hot": 0.78, "warm": 0.52, "cold": 0.4}


class LivelyPools(MadePools):
    """`now_s` may be set, to make an hour pass at once."""

    def __init__(self, history: History, seed: int) -> None:
        super().__init__(history, seed)
        self.now_s: Callable[[], float] = time.time
        self._chance = random.Random(seed)
        self._further = [_node(*row[:4], number, row[6]) for row in FURTHER for number in range(row[4])]
        self._parts = {row[0]: row[5] for row in FURTHER}

    def snapshots(self) -> Mapping[str, PoolSnapshot | FabricError]:
        tiers: dict[str, PoolSnapshot | FabricError] = {}
        for tier in DEFAULT_TIERS:
            wave = self._wave(tier)
            nodes = [self._lived(node, wave) for node in (*self._history.nodes, *self._further) if node.tier == tier]
            tiers[tier] = PoolSnapshot(tier, 1, tuple(nodes))
        return tiers

    def _wave(self, tier: str) -> float:
        phase = {"hot": 0.0, "warm": 2.1, "cold": 4.0}[tier]
        now_s = self.now_s()
        return LEVELS[tier] + 0.12 * math.sin(now_s / 640.0 + phase) + 0.05 * math.sin(now_s / 130.0 + 2 * phase)

    def _lived(self, node: Node, wave: float) -> Node:
        busy = min(1.0, max(0.02, wave + self._chance.gauss(0.0, 0.12)))
        is_cpu = node.flavor.startswith("cpu")
        usage = NodeUsage(busy if is_cpu else 0.4 * busy, int(256e9 * (0.2 + 0.5 * busy)), int(256e9), None if is_cpu else busy)
        changed: dict[str, Any] = {"usage": usage, "health": "cordoned" if node.node_id in self._closed else "ready"}
        if node.flavor in self._parts:
            part = min(1.0, max(0.0, self._parts[node.flavor] + 0.4 * (wave - LEVELS[node.tier])))
            changed["used"] = {name: math.floor(part * total) for name, total in node.total.items() if name != "memory"}
        return dataclasses.replace(node, **changed)


def _node(flavor: str, tier: str, resource: str, units: float, number: int, slowdown: float | None) -> Node:
    host = f"{flavor}-{number:04d}"
    total = {resource: units, "CPU": units if resource == "CPU" else 32.0, "memory": 256e9}
    return Node(host.encode().hex().ljust(56, "0")[:56], host, tier, flavor, total, slowdown=slowdown)


def live_an_hour(world: World, pools: LivelyPools) -> None:
    """Before the console's threads start: the last hour of the pools passes at once."""
    follower, clock = world.console.follower, world.console.follower.now_s
    end_s = clock()
    for ago_s in range(HOUR_S, 0, -STEP_S):
        follower.now_s = pools.now_s = lambda at_s=end_s - ago_s: at_s  # type: ignore[misc]
        follower.look()
    follower.now_s, pools.now_s = clock, time.time
