"""The ASGI application in front of an adopted model: counts what is in flight, and refuses while there is no model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Door:
    """Closed until `open`."""

    def __init__(self) -> None:
        self._app: App = _refuse
        self.num_in_flight = 0
        self.num_requests = 0

    @property
    def num_answered(self) -> int:
        return self.num_requests - self.num_in_flight

    def open(self, app: App) -> None:
        """From now on `app` answers; the count begins anew."""
        self._app = app
        self.num_requests = 0

    def close(self) -> None:
        self._app = _refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.num_requests += 1
        self.num_in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.num_in_flight -= 1


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    body = b'{"error":"this process serves no model yet"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
