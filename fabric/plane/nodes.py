"""The pools as the API reaches them: which node is meant, and the order to the pool that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric import ray_io
from fabric.errors import FabricError, UnknownNameError
from fabric.node_orders import Order, is_needed, pick
from fabric.types import Node, PoolSnapshot

ORDER_TIMEOUT_S = 90.0
"""Ray takes seconds to drain a node."""


class RayNodes:
    """See `NodesPort`."""

    def __init__(self, tiers: Sequence[str]) -> None:
        self._tiers = tuple(tiers)

    def order(self, name: str, order: Order, by: str, deadline_s: float) -> Mapping[str, Any]:
        node = self._find(name)
        changes = is_needed(node, order)
        if changes:
            given = (node.node_id, by, deadline_s) if order == "drain" else (node.node_id, by)
            node = ray_io.ask(getattr(ray_io.actor(f"pool-{node.tier}"), order).remote(*given), timeout_s=ORDER_TIMEOUT_S)
        return node_form(node, changes)

    def _find(self, name: str) -> Node:
        nodes: list[Node] = []
        away: FabricError | None = None
        for tier in self._tiers:
            try:
                snapshot: PoolSnapshot = ray_io.ask(ray_io.actor(f"pool-{tier}").snapshot.remote())
                nodes += snapshot.nodes
            except FabricError as error:
                away = error
        try:
            return pick(nodes, name)
        except UnknownNameError:
            if away is not None:  # it may be a node of the pool that did not answer
                raise away from None
            raise


def node_form(node: Node, changed: bool) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "host": node.host,
        "tier": node.tier,
        "flavor": node.flavor,
        "twin": node.is_twin,
        "health": node.health,
        "changed": changed,
    }
