"""Asks a running fabric's pools what their nodes are doing; what is made of the answers is `status_form` and `tiers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fabric import client as fabric_client
from fabric import ray_io
from fabric.capacity import capacities
from fabric.client import Client
from fabric.errors import FabricError
from fabric.job_handle import Answer
from fabric.status_form import fabric_json, pool_json, status_blocks
from fabric.tiers import tiers_json
from fabric.types import Lease, PoolSnapshot
from profiler.stragglers import Straggler

POOL_TIMEOUT_S = 30.0
"""A pool that is just being started takes seconds to answer."""
CONSOLE_TIMEOUT_S = 5.0


def nodes() -> Answer:
    """Every node of the fabric that this process joined: health, use, leases, what idles; as `fabric status` shows it.

    Raises: UnavailableError (`not_connected`).
    """
    return Answer(read_status(fabric_client.current()), status_blocks)


def read_status(client: Client) -> dict[str, Any]:
    """Ask every pool, the scheduler what jobs hold, and the profiler which nodes are slow. A pool that does not answer becomes a
    `problem`, never an error; without the others there are no leases of jobs to show, and no slow nodes."""
    answers, of_jobs = read_pools(client), read_leases()
    tiers = []
    for tier in client.config.tiers:
        answer = answers[tier.name]
        pool = PoolSnapshot(tier.name, 0, (), (), tier.task_share) if isinstance(answer, FabricError) else answer
        mine = {node.node_id for node in pool.nodes}
        pool = dataclasses.replace(pool, leases=(*pool.leases, *(lease for lease in of_jobs if lease.node_id in mine)))
        tiers.append(pool_json(pool, client.catalogue, problem=answer.message if isinstance(answer, FabricError) else None))
    unlabelled = [node.node_id for node in ray_io.living_nodes() if not (node.tier and node.flavor)]
    console = read_console() if client.config.console.enabled else None
    return fabric_json(client.config.name, ray_io.address(), tiers, unlabelled, read_stragglers(), read_shipping(), console)


def read_leases() -> list[Lease]:
    """What jobs hold; nothing where the scheduler does not answer."""
    try:
        leases: list[Lease] = ray_io.ask(ray_io.actor("scheduler").leases.remote(), timeout_s=POOL_TIMEOUT_S)
    except FabricError:
        return []
    return leases


def read_shipping() -> Mapping[str, Any] | None:
    """How far the journal is kept in the store, too; nothing where it is not, or where the scheduler does not answer."""
    try:
        shipping: Mapping[str, Any] | None = ray_io.ask(ray_io.actor("scheduler").shipping.remote(), timeout_s=POOL_TIMEOUT_S)
    except FabricError:
        return None
    return shipping


def read_console(wait_s: float = 0.0) -> str | None:
    """Where the console is; nothing where it does not answer, or does not listen after `wait_s`."""
    try:
        url: str | None = ray_io.ask(ray_io.actor("console").address.remote(wait_s), timeout_s=wait_s + CONSOLE_TIMEOUT_S)["url"]
    except FabricError:
        return None
    return url


def read_stragglers() -> list[Straggler]:
    """The nodes that are slower than their like; nothing where the profiler does not answer."""
    try:
        stragglers: list[Straggler] = ray_io.ask(ray_io.actor("profiler").stragglers.remote(), timeout_s=POOL_TIMEOUT_S)
    except FabricError:
        return []
    return stragglers


def read_tiers(client: Client, *, is_all: bool = False) -> dict[str, Any]:
    """`tiers_json` of a running fabric. Raises: UnavailableError where a pool does not answer: half of it would mislead."""
    snapshots = []
    for answer in read_pools(client).values():
        if isinstance(answer, FabricError):
            raise answer
        snapshots.append(answer)
    return tiers_json(client.config, client.catalogue, capacities(snapshots, client.catalogue), is_all=is_all)


def read_pools(client: Client) -> dict[str, PoolSnapshot | FabricError]:
    """Tier -> its pool's snapshot, or why there is none. All are asked at once."""
    return ray_io.pool_snapshots(client.config.tier_names, POOL_TIMEOUT_S)
