"""Decides which of the prepared places of HAProxy's backends replicas take, and the runtime commands that bring it about.

A replica that has a local door on this machine is reached by it, in a place `u1`, `u2`, …; others by their ports, in `r1`, `r2`, …

Invariants: a replica keeps its place while it lives; a place `u` is given again only when nobody answers at its last door, since HAProxy
keeps connections to it; what leaves a place finishes the requests that it has; a backend that no path leads to any more is emptied at
the next change, when requests that were on their way to it have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serve_apps.directory.table import ReplicaAt, ReplicaId
from serve_apps.ingress.haproxy_config import NUM_DOORS, NUM_RESERVE

Key = tuple[str, str]
"""(model, deployment)."""


class Link(NamedTuple):
    """The door that a place leads to from now on; before any command that follows."""

    place: str
    door: str


@dataclass(slots=True)
class _Backend:
    """`servers`: the place of each replica, `r1` or `u1`; `reserve`: `b1`, of those that answer when all of them are down; `doors`: where
    each place `u` led last."""

    name: str
    servers: dict[ReplicaId, str] = field(default_factory=dict)
    reserve: dict[ReplicaId, str] = field(default_factory=dict)
    doors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """Who is wanted in a backend."""

    replicas: tuple[ReplicaAt, ...]
    reserve: tuple[ReplicaAt, ...] = ()


class Pool:
    """Backends of one kind, `v0`, `v1`, … or `a0`, `a1`, …"""

    def __init__(self, letter: str, num_backends: int, num_servers: int, answers: Callable[[str], bool]) -> None:
        self._num_servers, self._answers = num_servers, answers
        self._free = [_Backend(f"{letter}{number}") for number in range(num_backends - 1, -1, -1)]
        self._wanted: Mapping[Key, Wish] = {}
        self._unwanted: list[Key] = []
        self.taken: dict[Key, _Backend] = {}

    def name_of(self, key: Key) -> str:
        """Of the backend that has a replica of `key` in a place; else empty. Also empty for what is about to leave."""
        backend = self.taken.get(key) if key in self._wanted else None
        return backend.name if backend is not None and backend.servers else ""

    def fill(self, wanted: Mapping[Key, Wish]) -> Iterator[str | Link]:
        """Enter who came, take out who went."""
        self._wanted = wanted
        for key, wish in wanted.items():
            backend = self.taken.get(key)
            if backend is None:
                if not self._free:
                    continue
                backend = self.taken[key] = self._free.pop()
            yield from self._renew(backend, wish.replicas)
            yield from self._renew_reserve(backend, wish.reserve)

    def note(self) -> None:
        """No path leads any more to what is not wanted now: `clear` may free it next time."""
        self._unwanted = [key for key in self.taken if key not in self._wanted]

    def clear(self, wanted: Mapping[Key, Wish]) -> Iterator[str]:
        """Free what was noted and is still not wanted."""
        for key in self._unwanted:
            if key in wanted:
                continue
            backend = self.taken.pop(key)
            self._free.append(backend)
            for places in (backend.servers, backend.reserve):
                yield from (f"set server {backend.name}/{place} state maint" for place in places.values())
                places.clear()
        self._unwanted = []

    def _renew(self, backend: _Backend, replicas: tuple[ReplicaAt, ...]) -> Iterator[str | Link]:
        yield from self._enter(backend, replicas)
        yield from _left(backend.name, backend.servers, replicas)
        yield from self._enter(backend, replicas)  # what found no place gets one that was left

    def _enter(self, backend: _Backend, replicas: tuple[ReplicaAt, ...]) -> Iterator[str | Link]:
        for replica in replicas:
            if replica.id in backend.servers:
                continue
            place = self._door_place(backend) if replica.door and self._answers(replica.door) else None
            if place is not None:
                backend.doors[place] = replica.door
                yield Link(f"{backend.name}{place}", replica.door)
            else:
                place = _free_place("r", self._num_servers, backend.servers.values())
                if place is None:
                    continue
                yield _address(backend, place, replica)
            backend.servers[replica.id] = place
            yield f"set server {backend.name}/{place} state ready"

    def _door_place(self, backend: _Backend) -> str | None:
        taken = set(backend.servers.values())
        taken |= {place for place, door in backend.doors.items() if place not in taken and self._answers(door)}
        return _free_place("u", NUM_DOORS, taken)

    def _renew_reserve(self, backend: _Backend, replicas: tuple[ReplicaAt, ...]) -> Iterator[str]:
        yield from _left(backend.name, backend.reserve, replicas)
        for replica in replicas:
            place = None if replica.id in backend.reserve else _free_place("b", NUM_RESERVE, backend.reserve.values())
            if place is not None:
                backend.reserve[replica.id] = place
                yield _address(backend, place, replica)
                yield f"set server {backend.name}/{place} state ready"


def _address(backend: _Backend, place: str, replica: ReplicaAt) -> str:
    return f"set server {backend.name}/{place} addr {replica.host} port {replica.port}"


def _left(backend: str, places: dict[ReplicaId, str], replicas: tuple[ReplicaAt, ...]) -> Iterator[str]:
    """Who went leaves its place."""
    living = {replica.id for replica in replicas}
    for replica_id in [replica_id for replica_id in places if replica_id not in living]:
        yield f"set server {backend}/{places.pop(replica_id)} state maint"


def _free_place(letter: str, num_places: int, taken: Collection[str]) -> str | None:
    return next((place for number in range(1, num_places + 1) if (place := f"{letter}{number}") not in taken), None)
