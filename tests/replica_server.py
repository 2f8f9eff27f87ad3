"""A replica's own server on a real port: the protocol's application around models, as replicas run it; and tables that lead to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry
from serve_apps.gateway.routes import Address
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from serve_apps.server import Server, bind


class ReplicaServer:
    """`stop` ends it at once, as when a replica dies."""

    def __init__(self, models: Iterable[Any], *, takes_aliases: bool = False, **options: Any) -> None:
        self.plane = DataPlane("replica", "0", takes_aliases=takes_aliases)
        for model in models:
            self.plane.add(model)
        self._server = Server(RestApp(self.plane, **options), bind("127.0.0.1")).start()
        self.address = Address("127.0.0.1", self._server.port)

    def stop(self) -> None:
        self._server.stop(0.0)


def version_of(model: Any, *addresses: Address, **more: Any) -> VersionEntry:
    replicas = tuple(ReplicaAt(ReplicaId(str(address)), *address) for address in addresses)
    return VersionEntry(model.version, model.metadata, replicas, **more)


def table_of(*versions: VersionEntry) -> ServingTable:
    """The last version of a name is its default."""
    models: dict[str, ModelEntry] = {}
    for version in versions:
        assert version.metadata is not None
        name = version.metadata.name
        known = models[name].versions if name in models else {}
        models[name] = ModelEntry(name, version.version, {**known, version.version: version})
    return ServingTable(1, models)
