"""What a running fabric knows of tasks, and which flavors it has: the one part of `fabric profile` that asks Ray."""

from __future__ import annotations

from fabric import ray_io
from fabric.client import Client
from fabric.profiling.known import Stored
from profiler.estimate import TaskProfile


def read_stored(client: Client) -> Stored:
    client.refresh()
    profiles: list[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote())
    capacities = client.table.capacities
    twins = frozenset(flavor for flavor, capacity in capacities.items() if capacity.is_twin)
    return Stored(tuple(profiles), tuple(capacities), twins)
