"""Replicas without sockets: connections that hand the gateway's own bytes to an application in this process."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import httptools

from fabric.errors import UnavailableError
from serve_apps.gateway.gateway import Gateway, GatewayOptions
from serve_apps.gateway.replica_connection import Reply
from serve_apps.gateway.routes import Address
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from tests.replica_server import table_of, version_of
from tests.unit.oip.server import call


class Request:
    """What stands in a request's bytes, as a server's parser reads it."""

    def __init__(self, content: bytes) -> None:
        self.path, self.body, self.headers = "", b"", dict[str, str]()
        self.is_whole = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(content)
        self.method = self._parser.get_method().decode()

    def on_url(self, url: bytes) -> None:
        self.path = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode()] = value.decode()

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_whole = True


class Connection:
    """As `ReplicaConnection`."""

    def __init__(self, app: Any, seen: list[Request]) -> None:
        self._app = app
        self._seen = seen
        self._chunks: list[bytes] = []

    async def ask(self, parts: Sequence[Any]) -> Reply:
        return await self.open(parts)

    async def open(self, parts: Sequence[Any], more: AsyncIterable[bytes] | None = None) -> Reply:
        content = b"".join(parts)
        if more is not None:
            async for part in more:
                content += part
        request = Request(content)
        assert request.is_whole
        self._seen.append(request)
        request.headers.pop("content-length", None)
        answered = await call(self._app, request.method, request.path, request.body, request.headers)
        reply = Reply()
        reply.status = answered.status
        reply.headers = [(name.encode(), value.encode()) for name, value in answered.headers.items()]
        reply.parts.append(answered.body)
        self._chunks = answered.chunks
        return reply

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


class Pool:
    """As `ReplicaPool`. `seen`: every request, by address; an address that is `dead` takes no connection."""

    def __init__(self) -> None:
        self.apps: dict[Address, Any] = {}
        self.dead: set[Address] = set()
        self.seen: dict[Address, list[Request]] = {}

    def idle(self, address: Address) -> None:
        return None

    async def connect(self, address: Address) -> Connection:
        if address in self.dead:
            raise UnavailableError("refused", code="replica_refused")
        return Connection(self.apps[address], self.seen.setdefault(address, []))

    def give_back(self, address: Address, connection: Connection) -> None:
        pass

    def keep_only(self, living: Any) -> None:
        pass


class Waker:
    """Makes `model` a replica at `address`, which the pool knows."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.woken: list[tuple[str, str]] = []

    async def wake(self, model: str, version: str) -> Address:
        self.woken.append((model, version))
        return self.address


def gateway(*models: Any, num_replicas: int = 1, sleeping: Sequence[Any] = (), **given: Any) -> tuple[Gateway, Pool]:
    """A gateway before replicas that each have all `models`. Those in `sleeping` have none in the table; `WOKEN` would answer for them."""
    pool = Pool()
    options = GatewayOptions(name="here", version="9", held_s=given.pop("held_s", 1.0))
    made = Gateway(options, pool=pool, **given)  # type: ignore[arg-type]
    addresses = [Address("10.0.0.1", 9000 + i) for i in range(num_replicas)]
    for address in (*addresses, WOKEN):
        plane = DataPlane()
        for model in (*models, *sleeping):
            plane.add(model)
        pool.apps[address] = RestApp(plane)
    made.replace(table_of(*(version_of(m, *addresses) for m in models), *(version_of(m, min_replicas=0) for m in sleeping)))
    return made, pool


WOKEN = Address("10.0.0.2", 9000)


async def ask(app: Any, method: str, path: str, body: bytes = b"", **headers: Any) -> Any:
    return await call(app, method, path, body, headers)
