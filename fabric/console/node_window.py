"""Pure: a window of the list of nodes, and the rows of the timeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabric.console.fabric_view import FabricView, NodeFigures
from fabric.errors import UnknownNameError

_SORTS: Mapping[str, Callable[[NodeFigures], Any]] = {
    "host": lambda each: each.node.host,
    "node_id": lambda each: each.node.node_id,
    "flavor": lambda each: each.node.flavor,
    "health": lambda each: each.node.health,
    "units": lambda each: each.units,
    "used": lambda each: each.used,
    "leased": lambda each: each.leased,
    "idle": lambda each: each.idle,
    "cpu_frac": lambda each: each.node.usage.cpu_frac if each.node.usage else -1.0,
    "gpu_frac": lambda each: each.node.usage.gpu_frac or 0.0 if each.node.usage else -1.0,
    "memory_used_bytes": lambda each: each.node.usage.memory_used_bytes if each.node.usage else -1,
    "usd_per_h": lambda each: each.usd_per_h if each.usd_per_h is not None else -1.0,
    "idle_usd_per_h": lambda each: each.idle_usd_per_h if each.idle_usd_per_h is not None else -1.0,
}


def matching_nodes(view: FabricView, *, tier: str = "", flavor: str = "", health: str = "", text: str = "") -> list[NodeFigures]:
    """All that is given must hold; best tier first, then by flavor and host."""
    wanted, ranks = text.lower(), {name: rank for rank, name in enumerate(view.tiers)}
    found = [
        each
        for each in view.nodes
        if tier in ("", each.node.tier)
        and flavor in ("", each.node.flavor)
        and health in ("", each.node.health)
        and (not wanted or wanted in f"{each.node.host}\n{each.node.node_id}\n{each.node.flavor}".lower())
    ]
    found.sort(key=lambda each: (ranks.get(each.node.tier, len(ranks)), each.node.flavor, each.node.host, each.node.node_id))
    return found


def sorted_nodes(nodes: Sequence[NodeFigures], sort: str, descending: bool) -> list[NodeFigures]:
    """Raises: UnknownNameError (`unknown_sort`)."""
    if not sort:
        return list(reversed(nodes)) if descending else list(nodes)
    if sort not in _SORTS:
        raise UnknownNameError.of("sort", sort, _SORTS)
    return sorted(nodes, key=_SORTS[sort], reverse=descending)
