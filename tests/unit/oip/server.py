"""The app in this process, called as a server would call it, without sockets or threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`app` around models; each call runs on a loop of its own."""

    def __init__(self, models: Iterable[Any], **options: Any) -> None:
        self.plane = DataPlane("tierfabric", "0")
        for model in models:
            self.plane.add(model)
        self.app = RestApp(self.plane, **options)

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, b"", headers)

    def post(self, path: str, body: Any = b"", **headers: str) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", path, content, headers)

    def call(self, method: str, path: str, body: bytes, headers: Mapping[str, str | None], *, chunk_bytes: int = 2**16) -> Reply:
        return asyncio.run(call(self.app, method, path, body, headers, chunk_bytes=chunk_bytes))


async def call(
    app: Any, method: str, path: str, body: bytes, headers: Mapping[str, str | None], *, chunk_bytes: int = 2**16, leave_after: int = 2**31
) -> Reply:
    """`leave_after`: the caller goes away once it has that many chunks. A header of None is left out."""
    sent = {"content-length": str(len(body)), **{name.replace("_", "-").lower(): value for name, value in headers.items()}}
    scope = {
        "type": "http", "method": method, "path": unquote(path), "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None],
    }  # fmt: skip
    parts = [body[i : i + chunk_bytes] for i in range(0, len(body), chunk_bytes)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)]
    reply = Reply(0, {}, b"", [])
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message.get("body"):
            reply.chunks.append(bytes(message["body"]))
            if len(reply.chunks) >= leave_after:
                left.set()
                await asyncio.sleep(0)

    await app(scope, receive, send)
    reply.body = b"".join(reply.chunks)
    if "content-length" in reply.headers and method != "HEAD":
        assert int(reply.headers["content-length"]) == len(reply.body)
    return reply
