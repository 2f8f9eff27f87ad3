"""What a running fabric knows of tasks, and which flavors it has, and what it is told: the one part of `fabric profile` that asks Ray."""

from __future__ import annotations

from fabric import ray_io
from fabric.client import Client
from fabric.profiling.known import Stored
from fabric.profiling.run import Counted
from profiler.estimate import TaskProfile


def read_stored(client: Client) -> Stored:
    client.refresh()
    profiles: list[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote())
    capacities = client.table.capacities
    twins = frozenset(flavor for flavor, capacity in capacities.items() if capacity.is_twin)
    return Stored(tuple(profiles), tuple(capacities), twins)


def keep(counted: Counted) -> None:
    """Raises: UnavailableError where the profiler does not answer."""
    ray_io.ask(ray_io.actor("profiler").count.remote(counted.task, counted.input_bytes, counted.cost))
