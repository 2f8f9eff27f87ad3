"""Decides which of HAProxy's prepared places each deployment and replica takes, and the runtime commands that bring it about.

A replica that has a local door on this machine is reached by it, in a place `u1`, `u2`, …; others by their ports, in `r1`, `r2`, …

Invariants: a replica keeps its place while it lives; a place `u` is given again only when nobody answers at its last door, since HAProxy
keeps connections to it; a path is mapped only while its deployment has a replica in a place, and a server
is ready before a path leads to it; what leaves a place finishes the requests that it has; a split changes by one command for each path;
a backend that no path leads to any more is emptied at the next change, when requests that were on their way to it have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serve_apps.directory.choose_version import Arm, arms_of, names_of, salt_of
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable
from serve_apps.ingress.haproxy_config import MAX_ARMS, NUM_ARMS, NUM_BACKENDS, NUM_DOORS, NUM_RESERVE, NUM_SERVERS, split_value

Key = tuple[str, str]
"""(model, deployment)."""
_VERBS = ("infer", "generate", "generate_stream")


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
class _Wish:
    """Who is wanted in a backend."""

    replicas: tuple[ReplicaAt, ...]
    reserve: tuple[ReplicaAt, ...] = ()


class _Pool:
    """Backends of one kind, `v0`, `v1`, … or `a0`, `a1`, …"""

    def __init__(self, letter: str, num_backends: int, num_servers: int, answers: Callable[[str], bool]) -> None:
        self._num_servers, self._answers = num_servers, answers
        self._free = [_Backend(f"{letter}{number}") for number in range(num_backends - 1, -1, -1)]
        self._wanted: Mapping[Key, _Wish] = {}
        self._unwanted: list[Key] = []
        self.taken: dict[Key, _Backend] = {}

    def name_of(self, key: Key) -> str:
        """Of the backend that has a replica of `key` in a place; else empty. Also empty for what is about to leave."""
        backend = self.taken.get(key) if key in self._wanted else None
        return backend.name if backend is not None and backend.servers else ""

    def fill(self, wanted: Mapping[Key, _Wish]) -> Iterator[str | Link]:
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

    def clear(self, wanted: Mapping[Key, _Wish]) -> Iterator[str]:
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
                yield f"set server {backend.name}/{place} addr {replica.host} port {replica.port}"
            backend.servers[replica.id] = place
            yield f"set server {backend.name}/{place} state ready"

    def _door_place(self, backend: _Backend) -> str | None:
        open_doors = {place for place, door in backend.doors.items() if self._answers(door)}
        return _free_place("u", NUM_DOORS, {*backend.servers.values(), *open_doors})

    def _renew_reserve(self, backend: _Backend, replicas: tuple[ReplicaAt, ...]) -> Iterator[str]:
        yield from _left(backend.name, backend.reserve, replicas)
        for replica in replicas:
            place = None if replica.id in backend.reserve else _free_place("b", NUM_RESERVE, backend.reserve.values())
            if place is not None:
                backend.reserve[replica.id] = place
                yield f"set server {backend.name}/{place} addr {replica.host} port {replica.port}"
                yield f"set server {backend.name}/{place} state ready"


class Slots:
    """What HAProxy was told so far. `map_name` is the path of its map, as in the configuration; `answers(door)`: whether somebody on this
    machine listens at a local door."""

    def __init__(
        self,
        map_name: str,
        num_backends: int = NUM_BACKENDS,
        num_servers: int = NUM_SERVERS,
        num_arms: int = NUM_ARMS,
        answers: Callable[[str], bool] = lambda door: False,
    ) -> None:
        self._map_name = map_name
        self._plain = _Pool("v", num_backends, num_servers, answers)
        self._arms = _Pool("a", num_arms, num_servers, answers)
        self._paths: dict[str, str] = {}

    @property
    def num_left_out(self) -> int:
        """Deployments that found no backend at the last change: the gateway forwards to them."""
        return self._num_left_out

    _num_left_out = 0

    def change_to(self, table: ServingTable) -> list[str | Link]:
        """HAProxy's commands, in order, that make it route by `table`; and the links that must be there before."""
        plain = {
            (model.name, deployment): _Wish(version.replicas)
            for model in table.models.values()
            for deployment, version in model.versions.items()
            if version.replicas
        }
        arms = {key: wish for model in table.models.values() for key, wish in _wanted_arms(model)}
        commands = [*self._plain.clear(plain), *self._arms.clear(arms), *self._round(table, plain, arms)]
        if any(key not in pool.taken for pool, wanted in ((self._plain, plain), (self._arms, arms)) for key in wanted):
            # What had no place has one now if others leave at once.
            commands += [*self._plain.clear(plain), *self._arms.clear(arms), *self._round(table, plain, arms)]
        self._num_left_out = sum(key not in self._plain.taken for key in plain)
        return commands

    def _round(self, table: ServingTable, plain: Mapping[Key, _Wish], arms: Mapping[Key, _Wish]) -> Iterator[str | Link]:
        """Enter who came, and lead paths there."""
        yield from self._plain.fill(plain)
        yield from self._arms.fill(arms)
        paths = {path: to for model in table.models.values() for path, to in self._wanted_paths(model)}
        yield from (f"del map {self._map_name} {path}" for path in self._paths if path not in paths)
        for path, to in paths.items():
            if self._paths.get(path) != to:
                yield f"{'set' if path in self._paths else 'add'} map {self._map_name} {path} {to}"
        self._paths = paths
        self._plain.note()
        self._arms.note()

    def _wanted_paths(self, model: ModelEntry) -> Iterator[tuple[str, str]]:
        """`@name` after a path: the version that a header names."""
        plain = f"/v2/models/{model.name}"
        for name, deployment in names_of(model).items():
            to = self._plain.name_of((model.name, deployment))
            if to:
                yield from ((f"{plain}/versions/{name}/{verb}", to) for verb in _VERBS)
                yield from ((f"{plain}/{verb}@{name}", to) for verb in _VERBS)
                yield f"/{model.name}/predict@{name}", to
                yield f"grpc/{model.name}/{name}", to
        to = self._unnamed(model)
        if to:
            yield from ((f"{plain}/{verb}", to) for verb in _VERBS)
            yield f"/{model.name}/predict", to
            yield f"grpc/{model.name}/", to

    def _unnamed(self, model: ModelEntry) -> str:
        """Where requests go that name no version; empty: to the gateway."""
        arms = arms_of(model)
        if not arms:
            return self._plain.name_of((model.name, model.default))
        if len(arms) == 1 and arms[0].deployment == model.default:
            return self._plain.name_of((model.name, model.default))
        found = [(self._arm(model, arm), arm.end) for arm in arms]
        # An arm without a place, or one that sleeps, has no share here: the gateway splits then.
        if len(arms) > MAX_ARMS or not all(name for name, _ in found):
            return ""
        return split_value(salt_of(model), found, may_repeat=not _has_side_effects(model, arms))

    def _arm(self, model: ModelEntry, arm: Arm) -> str:
        key = (model.name, arm.deployment)
        return (self._plain if arm.deployment == model.default else self._arms).name_of(key)


def _wanted_arms(model: ModelEntry) -> Iterator[tuple[Key, _Wish]]:
    """The arms beside the default, also those whose share is 0 now, each with the default's replicas as its reserve."""
    default = model.versions.get(model.default)
    reserve = default.replicas[:NUM_RESERVE] if default is not None else ()
    for deployment in model.split.shares if model.split is not None else ():
        version = model.versions.get(deployment)
        if deployment != model.default and version is not None and version.replicas:
            yield (model.name, deployment), _Wish(version.replicas, reserve)


def _has_side_effects(model: ModelEntry, arms: tuple[Arm, ...]) -> bool:
    known = (model.versions[arm.deployment].metadata for arm in arms)
    return any(metadata is not None and metadata.has_side_effects for metadata in known)


def _left(backend: str, places: dict[ReplicaId, str], replicas: tuple[ReplicaAt, ...]) -> Iterator[str]:
    """Who went leaves its place."""
    living = {replica.id for replica in replicas}
    for replica_id in [replica_id for replica_id in places if replica_id not in living]:
        yield f"set server {backend}/{places.pop(replica_id)} state maint"


def _free_place(letter: str, num_places: int, taken: Collection[str]) -> str | None:
    return next((place for number in range(1, num_places + 1) if (place := f"{letter}{number}") not in taken), None)
