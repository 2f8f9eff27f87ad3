"""Pure: which node is meant, and what an order to it comes to: the same for the command line and for the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fabric.errors import RejectedError, UnknownNameError, UserError
from fabric.types import Node

Order = Literal["cordon", "uncordon", "drain"]
ORDERS: tuple[Order, ...] = ("cordon", "uncordon", "drain")
LEAST_PREFIX = 4


def pick(nodes: Iterable[Node], name: str) -> Node:
    """The node with this id, id prefix or host. Raises: UnknownNameError, UserError where several answer to it."""
    nodes = list(nodes)
    wanted = name.lower()
    matches = [node for node in nodes if node.host == name or (len(name) >= LEAST_PREFIX and node.node_id.startswith(wanted))]
    if not matches:
        raise UnknownNameError.of("node", name, {short for node in nodes for short in (node.node_id[:8], node.host)})
    if len(matches) > 1:
        listed = ", ".join(f"{node.node_id[:8]} ({node.tier}/{node.flavor})" for node in matches)
        raise UserError(f"{name!r} names {len(matches)} nodes", code="ambiguous_node", hint=f"say which: {listed}")
    return matches[0]


def is_needed(node: Node, order: Order) -> bool:
    """Whether the order changes anything; again, it does not. Raises: RejectedError (`node_draining`), which is final."""
    if order == "uncordon" and node.health == "draining":
        raise RejectedError(f"{describe(node)} is draining, which is final", code="node_draining", hint="start the node anew")
    if order == "cordon":
        return node.health == "ready"
    return node.health != "ready" if order == "uncordon" else node.health != "draining"


def describe(node: Node) -> str:
    return f"node {node.node_id[:8]} ({node.host}, {node.tier}/{node.flavor}{' twin' if node.is_twin else ''})"
