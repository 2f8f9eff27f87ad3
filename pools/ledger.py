"""The ledger of one tier: which nodes it has, what they hold, who leases what, and which take no new work.

Facts in, commands out; no Ray, no clock, no I/O. Invariants: a node belongs to one ledger, by its tier label; a lease
never exceeds what its node has left; replaying the journalled facts gives back cordons, drains and leases.
"""

from __future__ import annotations

from dataclasses import replace

from fabric.errors import RejectedError, UnknownNameError
from fabric.events import (
    DrainNode,
    LeaseGranted,
    LeaseReleased,
    NodeCordoned,
    NodeDrainRefused,
    NodeDrainRequested,
    NodesObserved,
    NodeUncordoned,
    PoolCommand,
    PoolFact,
    RestNode,
    StartNodeAgent,
    UsageReported,
)
from fabric.types import Lease, Node, NodeHealth, NodeUsage, PoolSnapshot

REST_AFTER = 10
"""Observations in a row (one a second) without use, after which an elastic node rests."""


class Ledger:
    """See the module. `version` grows with every change of nodes, health or leases."""

    def __init__(self, tier: str, task_share: float = 1.0) -> None:
        self.tier = tier
        self.task_share = task_share
        self.version = 0
        self._nodes: dict[str, Node] = {}
        self._cordoned: set[str] = set()
        self._draining: set[str] = set()
        self._usage: dict[str, NodeUsage] = {}
        self._agents: set[str] = set()
        self._unused: dict[str, int] = {}
        self._leases: dict[str, Lease] = {}
        self._asleep: tuple[Node, ...] = ()

    def handle(self, fact: PoolFact) -> list[PoolCommand]:
        """Take one fact; answer with what is to be done about it."""
        match fact:
            case NodesObserved():
                return self._observe(fact.nodes, fact.asleep)
            case UsageReported():
                self._usage[fact.host] = fact.usage
            case NodeCordoned():
                self._cordoned.add(fact.node_id)
                self.version += 1
            case NodeUncordoned():
                self._cordoned.discard(fact.node_id)
                self.version += 1
            case NodeDrainRequested():
                self._draining.add(fact.node_id)
                self.version += 1
                return [DrainNode(fact.node_id, fact.deadline_s)]
            case NodeDrainRefused():
                self._draining.discard(fact.node_id)
                self.version += 1
            case LeaseGranted():
                self._leases[fact.lease.lease_id] = fact.lease
                self.version += 1
            case LeaseReleased():
                self._leases.pop(fact.lease_id, None)
                self.version += 1
        return []

    def find(self, name: str) -> Node:
        """A node by its id, a unique prefix of it (4 letters or more), or its host name where that is unique.

        Raises: UnknownNameError.
        """
        matches = [n for n in self._nodes.values() if (len(name) >= 4 and n.node_id.startswith(name)) or n.host == name]
        if len(matches) != 1:
            raise UnknownNameError.of("node", name, [node.node_id[:8] for node in self._nodes.values()])
        return self._marked(matches[0])

    def check_lease(self, lease: Lease) -> None:
        """Whether the node has what the lease asks for, over all other leases. `node_id` is the full id.

        Raises: RejectedError, UnknownNameError.
        """
        if lease.node_id not in self._nodes:
            raise UnknownNameError.of("node", lease.node_id, self._nodes)
        node = self._marked(self._nodes[lease.node_id])
        if node.health != "ready":
            raise RejectedError(f"node {node.node_id[:8]} is {node.health}", code="node_closed", retryable=True)
        for resource, amount in lease.demand.items():
            left = node.total.get(resource, 0.0) - self._leased(lease, resource)
            if amount > left + 1e-9:
                raise RejectedError(
                    f"node {node.node_id[:8]} has {left:g} {resource} left, not {amount:g}", code="resources", retryable=True
                )

    def snapshot(self) -> PoolSnapshot:
        nodes = tuple(self._marked(node) for node in sorted(self._nodes.values(), key=lambda n: (n.flavor, n.host, n.node_id)))
        # A lost node's leases are kept until their owners release them, as the journal does, but hold nothing.
        leases = tuple(lease for lease in self._leases.values() if lease.node_id in self._nodes)
        return PoolSnapshot(self.tier, self.version, nodes, leases, self.task_share, self._asleep)

    def _observe(self, nodes: tuple[Node, ...], asleep: tuple[Node, ...]) -> list[PoolCommand]:
        mine = {node.node_id: node for node in nodes if node.tier == self.tier}
        my_asleep = tuple(node for node in asleep if node.tier == self.tier)
        if mine.keys() != self._nodes.keys() or my_asleep != self._asleep:
            self.version += 1
        self._nodes, self._asleep = mine, my_asleep
        self._unused = {node.node_id: self._unused.get(node.node_id, 0) + 1 for node in mine.values() if self._may_rest(node)}
        resting = {node.host: node.node_id for node in mine.values() if self._rests(node)}
        hosts = {node.host: node.node_id for node in mine.values() if not self._rests(node)}
        self._usage = {host: usage for host, usage in self._usage.items() if host in hosts}
        commands: list[PoolCommand] = [StartNodeAgent(host, node_id) for host, node_id in hosts.items() if host not in self._agents]
        commands += [RestNode(host, node_id) for host, node_id in resting.items() if host in self._agents]
        self._agents = set(hosts)
        return commands

    def _may_rest(self, node: Node) -> bool:
        is_leased = any(lease.node_id == node.node_id for lease in self._leases.values())
        return node.is_elastic and not is_leased and not any(amount > 0 for amount in node.used.values())

    def _rests(self, node: Node) -> bool:
        return self._unused.get(node.node_id, 0) > REST_AFTER

    def _marked(self, node: Node) -> Node:
        health: NodeHealth = "ready"
        if node.node_id in self._draining:
            health = "draining"
        elif node.node_id in self._cordoned:
            health = "cordoned"
        return replace(node, health=health, usage=self._usage.get(node.host), is_resting=self._rests(node))

    def _leased(self, asked: Lease, resource: str) -> float:
        """What the other leases of its node hold; its own, where it is granted again, does not count."""
        others = (held for held in self._leases.values() if held.node_id == asked.node_id and held.lease_id != asked.lease_id)
        return sum(held.demand.get(resource, 0.0) for held in others)
