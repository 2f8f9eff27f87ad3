"""What a running fabric knows of a task, and which flavors it has: the one part of `fabric profile` that asks Ray."""

from __future__ import annotations

from dataclasses import dataclass

from fabric import ray_io
from fabric.client import Client
from fabric.types import name_of
from profiler.estimate import TaskProfile


@dataclass(frozen=True, slots=True)
class Stored:
    """`profile`: the task's with the most runs (changed code is another), None where it was never called."""

    profile: TaskProfile | None
    flavors: tuple[str, ...]
    twins: frozenset[str]
    known: tuple[str, ...]


def read_stored(client: Client, name: str) -> Stored:
    """`name`: of the task, as `fabric explain` lists it, or `name@hash`."""
    client.refresh()
    profiles: list[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote())
    wanted = [profile for profile in profiles if name in (profile.task, name_of(profile.task))]
    best = max(wanted, key=lambda profile: sum(seen.num_runs for seen in profile.measured.values()), default=None)
    capacities = client.table.capacities
    twins = frozenset(flavor for flavor, capacity in capacities.items() if capacity.is_twin)
    return Stored(best, tuple(capacities), twins, tuple(sorted({name_of(profile.task) for profile in profiles})))
