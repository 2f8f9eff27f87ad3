"""What becomes of nodes that are slower than their like, under the policy in force. Pure.

Invariants: only a node that is ready is touched; at least one, and half of all, of a flavor stay ready; a node that somebody uncordons
must be proven slow anew before it is touched again, so that nobody has to fight the fabric for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from fabric.policy import Policy
from fabric.types import Node
from profiler.stragglers import Straggler

DRAIN_AFTER_S = 300.0
"""Draining is final: a node that was slow for a moment only has lost its name by then."""


class Treatment(NamedTuple):
    """What to do with a node: `forget` means to let the profiler judge it anew."""

    kind: Literal["cordon", "drain", "forget"]
    node: Node
    why: str


class SlowNodes:
    """One `decide` for each look at the nodes."""

    def __init__(self) -> None:
        self._closed: set[str] = set()

    def decide(self, policy: Policy, named: Sequence[Straggler], nodes: Mapping[str, Node], now_s: float) -> list[Treatment]:
        """`named` are those that the profiler names, the slowest first; `nodes` all that live, by id."""
        found: list[Treatment] = []
        touched: set[str] = set()
        for one in named:
            node = nodes.get(one.node_id)
            if node is None or one.card is not None:  # Ray cannot close one card of a node
                continue
            why = f"{one.factor:.1f} x slower than its like on {one.flavor} ({one.num_runs} runs of {one.num_tasks} tasks)"
            if node.health != "ready":
                self._closed.add(node.node_id)
            elif node.node_id in self._closed:
                self._closed.discard(node.node_id)
                found.append(Treatment("forget", node, "uncordoned"))
            elif self._is_due(policy, one, now_s) and _can_spare(node, nodes.values(), touched):
                touched.add(node.node_id)
                found.append(Treatment("cordon" if policy.stragglers == "cordon" else "drain", node, why))
        self._closed &= nodes.keys()
        return found

    def _is_due(self, policy: Policy, one: Straggler, now_s: float) -> bool:
        if policy.stragglers == "report" or one.factor < policy.slower_than:
            return False
        return policy.stragglers == "cordon" or now_s - one.since_s >= DRAIN_AFTER_S


def _can_spare(node: Node, nodes: Iterable[Node], touched: Collection[str]) -> bool:
    alike = [other for other in nodes if other.flavor == node.flavor]
    num_left = sum(other.health == "ready" and other.node_id not in touched for other in alike) - 1
    return num_left >= 1 and 2 * num_left >= len(alike)
