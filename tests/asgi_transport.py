"""The API client's transport without a socket: calls the application in this process, as a server would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from fabric.api_client import Body, Reply


class AsgiTransport:
    """One event loop in a thread; requests from any thread. `requests` counts them."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.requests: list[tuple[str, str]] = []

    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool = True) -> Reply:
        self.requests.append((method, path))
        content = body if isinstance(body, bytes) else b"" if body is None else body.read()
        sent = {**headers, "Content-Length": str(len(content))}
        return asyncio.run_coroutine_threadsafe(self._call(method, path, content, sent), self._loop).result(timeout_s)

    async def _call(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        path, _, query = target.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": _unquoted(path),
            "raw_path": path.encode(), "query_string": query.encode(),
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        parts = [body[i : i + 2**16] for i in range(0, len(body), 2**16)] or [b""]
        messages = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)]
        answer: dict[str, Any] = {"body": b""}

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.update(status=message["status"], headers={name.decode(): value.decode() for name, value in message["headers"]})
            else:
                answer["body"] += message.get("body", b"")

        try:
            await self._app(scope, receive, send)
        except Exception:
            # As a server: what the application answered before it raised has been sent.
            if "status" not in answer:
                raise
        return Reply(answer["status"], answer["headers"], answer["body"])

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()


def _unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)
