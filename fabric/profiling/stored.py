"""What a running fabric knows of tasks, and which flavors it has: the one part of `fabric profile` that asks Ray."""

from __future__ import annotations

from dataclasses import dataclass

from fabric import ray_io
from fabric.client import Client
from fabric.types import name_of
from profiler.estimate import TaskProfile


@dataclass(frozen=True, slots=True)
class Stored:
    """`twins`: those of `flavors` that are stood in for."""

    profiles: tuple[TaskProfile, ...]
    flavors: tuple[str, ...]
    twins: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name_of(profile.task) for profile in self.profiles}))

    def find(self, name: str) -> TaskProfile | None:
        """The profile of the task with this name (or `name@hash`) that ran most often: changed code is another."""
        wanted = [profile for profile in self.profiles if name in (profile.task, name_of(profile.task))]
        return max(wanted, key=lambda profile: sum(seen.num_runs for seen in profile.measured.values()), default=None)


def read_stored(client: Client) -> Stored:
    client.refresh()
    profiles: list[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote())
    capacities = client.table.capacities
    twins = frozenset(flavor for flavor, capacity in capacities.items() if capacity.is_twin)
    return Stored(tuple(profiles), tuple(capacities), twins)
