"""Keeps room for served models: what replicas wait for is booked with the pools' ledgers, so that no new job is put there.

Jobs that run are left to end; what they free then goes to the replicas, not to the next job. A claim is a lease whose owner is the
model; `fabric status` shows it. Invariants: syncing twice changes nothing; a claim stays on its node while it may; a claim that
nobody wants any more is released, also one that an earlier life of the directory took.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabric import ray_io
from fabric.errors import RejectedError, UnknownNameError
from fabric.types import Lease, Node, PoolSnapshot, Resources, model_task


@dataclass(frozen=True, slots=True)
class Room:
    """What one model waits for: so many replicas with these resources on a flavor."""

    model: str
    tier: str
    flavor: str
    resources: Resources
    num_replicas: int


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """`grant`: (tier, lease); `release`: (tier, lease id)."""

    grant: tuple[tuple[str, Lease], ...]
    release: tuple[tuple[str, str], ...]


def plan_claims(rooms: Iterable[Room], snapshots: Sequence[PoolSnapshot]) -> ClaimPlan:
    """Pure: what to book and what to give back. A replica that fits on no ready node beside other claims is not booked."""
    prefix = model_task("")
    kept: dict[str, Lease] = {}
    held = {lease.lease_id: (pool.tier, lease) for pool in snapshots for lease in pool.leases if lease.owner.startswith(prefix)}
    left = {node.node_id: _unleased(node, pool) for pool in snapshots for node in pool.nodes}
    grant: list[tuple[str, Lease]] = []
    for room in rooms:
        nodes = [node for pool in snapshots if pool.tier == room.tier for node in pool.nodes if _takes(node, room)]
        demand = room.resources.as_demand()
        for number in range(room.num_replicas):
            lease_id = f"{model_task(room.model)}:{room.flavor}:{number}"
            _, known = held.get(lease_id, ("", None))
            if known is not None and dict(known.demand) == demand and any(node.node_id == known.node_id for node in nodes):
                kept[lease_id] = known
                continue
            node = _roomiest(nodes, demand, left)
            if node is None:
                break
            for name, amount in demand.items():
                left[node.node_id][name] -= amount
            kept[lease_id] = Lease(lease_id, model_task(room.model), node.node_id, demand)
            grant.append((room.tier, kept[lease_id]))
    release = tuple((tier, lease_id) for lease_id, (tier, _) in held.items() if lease_id not in kept)
    return ClaimPlan(tuple(grant), release)


def sync_claims(rooms: Iterable[Room], tiers: Iterable[str]) -> ClaimPlan:
    """Book and release until the pools hold what is wanted. Raises: UnavailableError where a pool is away."""
    asked = [ray_io.actor(f"pool-{tier}").snapshot.remote() for tier in tiers]
    plan = plan_claims(rooms, [ray_io.ask(answer) for answer in asked])
    for tier, lease_id in plan.release:
        ray_io.ask(ray_io.actor(f"pool-{tier}").release.remote(lease_id, "models"))
    for tier, lease in plan.grant:
        with contextlib.suppress(RejectedError, UnknownNameError):  # the node was closed or left meanwhile: the next round finds another
            ray_io.ask(ray_io.actor(f"pool-{tier}").lease.remote(lease, "models"))
    return plan


def _takes(node: Node, room: Room) -> bool:
    return node.flavor == room.flavor and node.health == "ready"


def _unleased(node: Node, pool: PoolSnapshot) -> dict[str, float]:
    left = dict(node.total)
    for lease in pool.leases:
        if lease.node_id == node.node_id:
            for name, amount in lease.demand.items():
                left[name] = left.get(name, 0.0) - amount
    return left


def _roomiest(nodes: Iterable[Node], demand: Mapping[str, float], left: Mapping[str, Mapping[str, float]]) -> Node | None:
    """Of those that can hold it beside other claims, the one that lacks least now: there it waits the shortest."""
    able = [node for node in nodes if all(left[node.node_id].get(name, 0.0) + 1e-9 >= amount for name, amount in demand.items())]

    def lack(node: Node) -> float:
        return sum(max(0.0, amount - (node.total.get(name, 0.0) - node.used.get(name, 0.0))) for name, amount in demand.items())

    return min(able, key=lambda node: (lack(node), node.node_id), default=None)
