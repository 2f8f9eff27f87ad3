"""The kit's REST side: one keep-alive connection, every exchange recorded as evidence."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from serve_apps.oip.conformance.check import Failed, expect

EXCERPT = 600


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` have small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises: `Failed` where the body is no JSON; `NaN` and `Infinity` are none."""

        def refused(word: str) -> Any:
            raise ValueError(f"{word} is no JSON")

        try:
            return json.loads(self.body, parse_constant=refused)
        except ValueError as error:
            raise Failed("a body of JSON", f"{excerpt(self.body)} ({error})") from None

    def error(self) -> str:
        """The message of an error body. Raises: `Failed` unless it is `{"error": text}` with a status of 400 or more."""
        expect(self.status >= 400, "an HTTP error status", f"{self.status} {excerpt(self.body, 120)}")
        document = self.json()
        is_error = isinstance(document, dict) and isinstance(document.get("error"), str)
        expect(is_error, 'the body {"error": "…"}', excerpt(self.body))
        return str(document["error"])


@dataclass(slots=True)
class Rest:
    """`prefix` comes before every path. `log`: the exchanges of the running check."""

    url: str
    token: str = ""
    timeout_s: float = 30.0
    log: list[str] = field(default_factory=list)
    _connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, document: Any) -> Reply:
        return self.send("POST", path, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """`body` may be an iterable of bytes: then it goes out in chunks. Raises: OSError, `http.client.HTTPException`."""
        sent = dict(headers or {})
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        shown = excerpt(body) if isinstance(body, bytes) else "(chunks)" if body is not None else ""
        self.log.append(f"{method} {path} {shown}".rstrip())
        try:
            reply = self._exchange(method, path, body, sent)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self.log.append(f"-> {type(error).__name__}: {error}")
            raise
        self.log.append(f"-> {reply.status} {excerpt(reply.body)}")
        return reply

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        is_fresh = self._connection is None
        connection = self._connection = self._connection or self._connect()
        try:
            connection.request(method, self._prefix + path, body, dict(headers))
            answer = connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            # A kept connection may have been closed by the server between two requests, as HTTP allows.
            self.close()
            if is_fresh or not isinstance(body, bytes | None):
                raise
            return self._exchange(method, path, body, headers)
        content = answer.read()
        if answer.will_close:
            self.close()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)

    @property
    def _prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self.timeout_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def excerpt(body: bytes, most: int = EXCERPT) -> str:
    """A body as one line of text, its middle left out where it is long."""
    # Cut before it is decoded: a long binary body would take seconds, byte by byte.
    parts = (body,) if len(body) <= most else (body[: most // 2], body[-most // 2 :])
    return " … ".join(part.decode("utf-8", "backslashreplace") for part in parts)
