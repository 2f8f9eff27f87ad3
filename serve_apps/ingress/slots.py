"""Decides where HAProxy's map leads each path, and every runtime command that makes it route by a table. Who takes which place: `places`.

Invariants: a path is mapped only while its deployment has a replica in a place, and a server is ready before a path leads to it; a split
changes by one command for each path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from serve_apps.directory.choose_version import Arm, arms_of, names_of, salt_of
from serve_apps.directory.table import ModelEntry, ServingTable
from serve_apps.ingress.haproxy_config import MAX_ARMS, NUM_ARMS, NUM_BACKENDS, NUM_RESERVE, NUM_SERVERS, split_value
from serve_apps.ingress.places import Key, Link, Pool, Wish

_VERBS = ("infer", "generate", "generate_stream")


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
        self._plain = Pool("v", num_backends, num_servers, answers)
        self._arms = Pool("a", num_arms, num_servers, answers)
        self._paths: dict[str, str] = {}

    @property
    def num_left_out(self) -> int:
        """Deployments that found no backend at the last change: the gateway forwards to them."""
        return self._num_left_out

    _num_left_out = 0

    def change_to(self, table: ServingTable) -> list[str | Link]:
        """HAProxy's commands, in order, that make it route by `table`; and the links that must be there before."""
        plain = {
            (model.name, deployment): Wish(version.replicas)
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

    def _round(self, table: ServingTable, plain: Mapping[Key, Wish], arms: Mapping[Key, Wish]) -> Iterator[str | Link]:
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


def _wanted_arms(model: ModelEntry) -> Iterator[tuple[Key, Wish]]:
    """The arms beside the default, also those whose share is 0 now, each with the default's replicas as its reserve."""
    default = model.versions.get(model.default)
    reserve = default.replicas[:NUM_RESERVE] if default is not None else ()
    for deployment in model.split.shares if model.split is not None else ():
        version = model.versions.get(deployment)
        if deployment != model.default and version is not None and version.replicas:
            yield (model.name, deployment), Wish(version.replicas, reserve)


def _has_side_effects(model: ModelEntry, arms: tuple[Arm, ...]) -> bool:
    known = (model.versions[arm.deployment].metadata for arm in arms)
    return any(metadata is not None and metadata.has_side_effects for metadata in known)
