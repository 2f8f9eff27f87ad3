"""Hands requests on to the fabric's API as they came, with the token that they bear, and the answers back as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

from fabric.api.exchange import read_body
from fabric.console.sources import ApiDoor, HandedOn
from fabric.errors import FabricError, UnavailableError

MAX_BODY_BYTES = 16 * 2**20
CONNECT_S = 3.0
TAKEN = frozenset({"authorization", "content-type", "accept"})
GIVEN = frozenset({"content-type", "content-length", "content-disposition", "cache-control", "retry-after", "www-authenticate"})
OWN = "x-fabric-"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class HttpDoor:
    """The API at the URL that `address` tells, asked anew each time: a scheduler that restarts may change its port."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HandedOn:
        """See `ApiDoor`."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        url = URL(self._address().rstrip("/") + target, encoded=True)
        try:
            answer = await self._session.request(method, url, headers=headers, data=body or None, allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _away(error) from error
        return HandedOn(answer.status, {name.lower(): value for name, value in answer.headers.items()}, _chunks(answer))


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    finally:
        answer.release()


def _away(error: Exception) -> FabricError:
    why = str(error) or type(error).__name__
    return UnavailableError(f"the fabric's API does not answer: {why}", hint="it is tried again; `fabric status` says what is there")


def handing_on(door: ApiDoor) -> APIRouter:
    """Every page under /v1 that is not the console's own."""
    routes = APIRouter()

    @routes.api_route("/v1/{path:path}", methods=METHODS, include_in_schema=False)
    async def hand_on(request: Request) -> Response:
        """The API's own answer; it checks the token."""
        target = request.scope["raw_path"].decode("ascii")
        if query := request.scope["query_string"].decode("ascii"):
            target = f"{target}?{query}"
        headers = {name: value for name, value in request.headers.items() if name in TAKEN}
        answer = await door.send(request.method, target, headers, await read_body(request, MAX_BODY_BYTES))
        given: dict[str, Any] = {name: value for name, value in answer.headers.items() if name in GIVEN or name.startswith(OWN)}
        return StreamingResponse(answer.chunks, status_code=answer.status, headers=given)

    return routes
