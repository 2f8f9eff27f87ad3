"""Decides which of HAProxy's prepared places each version and replica takes, and the runtime commands that bring it about.

Invariants: a replica keeps its place while it lives; a path is mapped only while its version has a replica in a place, and a server
is ready before a path leads to it; what leaves a place finishes the requests that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serve_apps.directory.table import ReplicaId, ServingTable, VersionEntry
from serve_apps.ingress.haproxy_config import NUM_BACKENDS, NUM_SERVERS

Key = tuple[str, str]
"""(model, version)."""


@dataclass(slots=True)
class _Backend:
    number: int
    servers: dict[ReplicaId, int] = field(default_factory=dict)
    """The place of each replica, from 1."""


class Slots:
    """What HAProxy was told so far. `map_name` is the path of its map, as in the configuration."""

    def __init__(self, map_name: str, num_backends: int = NUM_BACKENDS, num_servers: int = NUM_SERVERS) -> None:
        self._map_name = map_name
        self._num_servers = num_servers
        self._free = list(range(num_backends - 1, -1, -1))
        self._backends: dict[Key, _Backend] = {}
        self._paths: dict[str, str] = {}

    @property
    def num_left_out(self) -> int:
        """Versions that found no backend at the last change: the gateway forwards to them."""
        return self._num_left_out

    _num_left_out = 0

    def change_to(self, table: ServingTable) -> list[str]:
        """HAProxy's commands, in order, that make it route by `table`."""
        wanted = {
            (model.name, entry.version): entry for model in table.models.values() for entry in model.versions.values() if entry.replicas
        }
        commands = list(self._round(table, wanted))
        # What had no place may have one now that others have left.
        commands += self._round(table, wanted)
        self._num_left_out = sum(key not in self._backends for key in wanted)
        return commands

    def _round(self, table: ServingTable, wanted: dict[Key, VersionEntry]) -> Iterator[str]:
        """Enter, lead paths there, and only then clear what no path leads to any more."""
        for key, entry in wanted.items():
            yield from self._fill(key, entry)
        paths = dict(self._wanted_paths(table, wanted))
        yield from (f"del map {self._map_name} {path}" for path in self._paths if path not in paths)
        for path, backend in paths.items():
            if self._paths.get(path) != backend:
                yield f"{'set' if path in self._paths else 'add'} map {self._map_name} {path} {backend}"
        self._paths = paths
        for key in [key for key in self._backends if key not in wanted]:
            yield from self._clear(key)

    def _fill(self, key: Key, entry: VersionEntry) -> Iterator[str]:
        backend = self._backends.get(key)
        if backend is None:
            if not self._free:
                return
            backend = self._backends[key] = _Backend(self._free.pop())
        yield from self._enter(backend, entry)
        living = {replica.id for replica in entry.replicas}
        for replica_id in [replica_id for replica_id in backend.servers if replica_id not in living]:
            yield f"set server v{backend.number}/r{backend.servers.pop(replica_id)} state maint"
        yield from self._enter(backend, entry)

    def _enter(self, backend: _Backend, entry: VersionEntry) -> Iterator[str]:
        """Give each replica that has no place one of those that are free."""
        free = [place for place in range(1, self._num_servers + 1) if place not in backend.servers.values()]
        for replica in entry.replicas:
            if replica.id not in backend.servers and free:
                backend.servers[replica.id] = place = free.pop(0)
                server = f"v{backend.number}/r{place}"
                yield f"set server {server} addr {replica.host} port {replica.port}"
                yield f"set server {server} state ready"

    def _clear(self, key: Key) -> Iterator[str]:
        backend = self._backends.pop(key)
        self._free.append(backend.number)
        yield from (f"set server v{backend.number}/r{place} state maint" for place in backend.servers.values())

    def _wanted_paths(self, table: ServingTable, wanted: dict[Key, VersionEntry]) -> Iterator[tuple[str, str]]:
        for name, version in wanted:
            backend = self._backends.get((name, version))
            if backend is None or not backend.servers:
                continue
            versioned = f"/v2/models/{name}/versions/{version}"
            prefixes = [versioned, f"/v2/models/{name}"] if table.models[name].default == version else [versioned]
            for prefix in prefixes:
                for verb in ("infer", "generate", "generate_stream"):
                    yield f"{prefix}/{verb}", f"v{backend.number}"
            yield f"grpc/{name}/{version}", f"v{backend.number}"
            if len(prefixes) > 1:
                yield f"/{name}/predict", f"v{backend.number}"
                yield f"grpc/{name}/", f"v{backend.number}"
