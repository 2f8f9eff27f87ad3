"""Answers what is asked of the server as a whole, for REST and gRPC alike: health, metadata, index, statistics, loading and unloading.

From the table where it knows, and from the replicas where only they do. Forms are plain JSON, as in `oip.descriptions`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fabric.errors import FabricError, UnknownNameError, UserError
from serve_apps.gateway.forwarder import Forwarder
from serve_apps.gateway.heads import http_head
from serve_apps.gateway.routes import Address, Routes, Target
from serve_apps.gateway.statistics_sum import added
from serve_apps.oip import descriptions
from serve_apps.oip.dataplane import EXTENSIONS, IndexEntry
from serve_apps.oip.hooks import Repository
from serve_apps.tensors import ModelMetadata

log = logging.getLogger(__name__)

ASKED_S = 2.0
"""How long a replica may take to say what it counted."""

Form = Mapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]


class Fleet:
    """All models as one server. `is_draining`: set when the gateway takes leave."""

    def __init__(self, forwarder: Forwarder, repository: Repository | None = None, *, name: str = "tierfabric", version: str = "") -> None:
        self.forwarder = forwarder
        self.repository: Repository = repository or TableRepository(forwarder.routes)
        self.name = name
        self.version = version
        self.is_draining = False

    @property
    def routes(self) -> Routes:
        return self.forwarder.routes

    def server_metadata(self) -> Form:
        return {"name": self.name, "version": self.version, "extensions": list(EXTENSIONS)}

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Whether a request would be answered, also if it must wake the model first. False for a model that is not known."""
        try:
            return self.routes.find(name, version).can_answer
        except UnknownNameError:
            return False

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """With all versions of the name. Raises: UnknownNameError."""
        return self.routes.find(name, version).metadata

    def model_metadata(self, name: str, version: str = "") -> Form:
        """Raises: UnknownNameError."""
        return descriptions.model_metadata(self.metadata(name, version))

    def model_config(self, name: str, version: str = "") -> Form:
        """Raises: UnknownNameError."""
        return descriptions.model_config(self.metadata(name, version))

    async def index(self, *, only_ready: bool) -> list[Form]:
        return list(descriptions.repository_index(await self.repository.index(only_ready=only_ready)))

    async def statistics(self, name: str = "", version: str = "", headers: Headers = ()) -> Form:
        """Summed over the replicas of each version; of what no replica counts there is no entry. Raises: UnknownNameError."""
        chosen = [self.routes.find(name, version)] if version else self.routes.targets(name)
        asked = await asyncio.gather(*(self._statistics_of(target, headers) for target in chosen))
        return descriptions.statistics([form for form in asked if form is not None])

    async def _statistics_of(self, target: Target, headers: Headers) -> Form | None:
        path = f"/v2/models/{target.model}/versions/{target.version}/stats"
        replies = await self.gathered(target.replicas, path, headers)
        forms: list[Form] = []
        for body in replies.values():
            forms += orjson.loads(body).get("model_stats", [])
        return added(forms) if forms else None

    async def gathered(self, addresses: Sequence[Address], path: str, headers: Headers) -> dict[Address, bytes]:
        """What replicas answer to `GET path`, without those that fail."""
        bodies = await asyncio.gather(*(self._got(address, path, headers) for address in addresses))
        return {address: body for address, body in zip(addresses, bodies, strict=True) if body is not None}

    async def _got(self, address: Address, path: str, headers: Headers) -> bytes | None:
        try:
            async with asyncio.timeout(ASKED_S):
                reply = await self.forwarder.ask_at(address, [http_head("GET", path, b"", headers, 0)])
        except (FabricError, TimeoutError) as error:
            log.warning("replica_silent address=%s path=%s error=%s", address, path, error)
            return None
        if reply.status != 200:
            # 404: it has no such page.
            level = logging.DEBUG if reply.status == 404 else logging.WARNING
            log.log(level, "replica_refuses address=%s path=%s status=%d", address, path, reply.status)
            return None
        return reply.body


class TableRepository:
    """The repository extension without one that loads: the index of what the table has."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def index(self, *, only_ready: bool) -> Sequence[IndexEntry]:
        """A parked version is ready: a request to it is answered. Its reason tells."""
        found: dict[tuple[str, str], IndexEntry] = {}
        for entry in map(_indexed, self._routes.targets()):
            # A version that is deployed twice stands here once, ready if one of both is.
            if found.get((entry.name, entry.version), entry).state != "READY" or entry.state == "READY":
                found[entry.name, entry.version] = entry
        return [entry for entry in found.values() if entry.state == "READY" or not only_ready]

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Raises: UnknownNameError (`unknown_model`), as a repository that has it not; UserError (`unsupported`) for one that is here."""
        raise _no_loading(self._routes.find(name).model)

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        """A name that nobody knows is unloaded already, as Triton has it. Raises: UserError (`unsupported`) for one that is here."""
        if any(target.model == name for target in self._routes.targets()):
            raise _no_loading(name)


def _indexed(target: Target) -> IndexEntry:
    if target.state == "PARKED":
        return IndexEntry(target.model, target.version, "READY", target.reason or "parked: a request wakes it")
    return IndexEntry(target.model, target.version, target.state, target.reason)


def _no_loading(name: str) -> UserError:
    return UserError(
        f"this server cannot load or unload {name!r}", code="unsupported", hint="use `fabric model deploy` and `fabric model delete`"
    )
