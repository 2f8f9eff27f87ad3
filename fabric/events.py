"""The vocabulary of the control plane: facts in (past tense), commands out (imperative).

Cores take facts and answer with commands; shells carry both. Every fact that is journalled names who caused it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fabric.types import Lease, Node, NodeUsage


@dataclass(frozen=True, slots=True)
class NodesObserved:
    """Ray's whole view of the living nodes, and those that it could start; replaces the last one."""

    nodes: tuple[Node, ...]
    asleep: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageReported:
    """A node agent's measurement; it counts for every node on that host."""

    host: str
    usage: NodeUsage


@dataclass(frozen=True, slots=True)
class NodeCordoned:
    """No new work is routed there. Reversible."""

    node_id: str
    by: str


@dataclass(frozen=True, slots=True)
class NodeUncordoned:
    node_id: str
    by: str


@dataclass(frozen=True, slots=True)
class NodeDrainRequested:
    """The node finishes what it runs and leaves. Final."""

    node_id: str
    by: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class NodeDrainRefused:
    """Ray would not drain it: the node goes on as before."""

    node_id: str


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    lease: Lease
    by: str


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    lease_id: str
    by: str


@dataclass(frozen=True, slots=True)
class StartNodeAgent:
    """A machine of this pool has no agent yet."""

    host: str
    node_id: str


@dataclass(frozen=True, slots=True)
class RestNode:
    """Nothing uses an elastic node: the fabric's own actors leave it, since Ray counts a node with any actor on it as busy."""

    host: str
    node_id: str


@dataclass(frozen=True, slots=True)
class DrainNode:
    """Tell Ray to drain the node; `deadline_s` is how long its work may still run."""

    node_id: str
    deadline_s: float


PoolFact = (
    NodesObserved | UsageReported | NodeCordoned | NodeUncordoned | NodeDrainRequested | NodeDrainRefused | LeaseGranted | LeaseReleased
)
PoolCommand = StartNodeAgent | RestNode | DrainNode
JOURNALLED: Mapping[str, type] = {
    kind.__name__: kind for kind in (NodeCordoned, NodeUncordoned, NodeDrainRequested, NodeDrainRefused, LeaseGranted, LeaseReleased)
}
"""The facts that survive a restart; the others are observed anew."""
