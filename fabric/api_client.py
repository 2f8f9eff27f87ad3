"""Speaks to the API over HTTP: connections kept alive, errors as ours, and patience while a fabric restarts.

Invariants: what may be repeated is repeated until the fabric answers or the patience is over, what may not never is; a
fabric that was never there is told at once, one that starts on this machine is waited for; the address is read anew for
each try, as a fabric that restarts may change its port; a token goes to the API's address and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from fabric.api.address import ADDRESS_FILE, TOKEN_FILE, read_address
from fabric.api.faults import error_from
from fabric.api.tokens import read_token_file
from fabric.config import FabricConfig, api_from_environment, load_config
from fabric.errors import ConfigError, FabricError, RejectedError, UnavailableError

Body = bytes | IO[bytes] | None
PATIENCE_S = 30.0
TIMEOUT_S = 60.0
PAUSE_S = (0.1, 0.5)
_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Reply(NamedTuple):
    """`headers` have small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool) -> Reply:
        """One answer. Raises: UnavailableError; with `was_sent` where the API may have taken the request."""
        ...


class HttpTransport:
    """A connection for each thread. `address` gives the URL of the API. Raises: ConfigError (`bad_api_url`)."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._local = threading.local()

    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool) -> Reply:
        url = self._address().rstrip("/")
        if not can_repeat:
            # A kept connection may turn out to be closed only after the request went out on it.
            self._close()
        connection, is_used = self._connection(url, timeout_s)
        try:
            return _exchanged(connection, method, path, body, headers)
        except _CLOSED as error:
            self._close()
            # The server closed a connection that nobody had used for a while. A file that was begun is not sent again from here.
            if not is_used or not (body is None or isinstance(body, bytes)):
                raise _unavailable(url, error) from error
        except (OSError, http.client.HTTPException) as error:
            self._close()
            raise _unavailable(url, error) from error
        return self.send(method, path, body, headers, timeout_s, can_repeat)

    def _connection(self, url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        """The thread's connection, and whether it was used before. A child after a fork makes its own."""
        kept = getattr(self._local, "kept", None)
        if kept is not None and kept[0] == (url, os.getpid()):
            connection: http.client.HTTPConnection = kept[1]
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            return connection, connection.sock is not None
        connection = _opened(url, timeout_s)
        self._local.kept = ((url, os.getpid()), connection)
        return connection, False

    def _close(self) -> None:
        kept = getattr(self._local, "kept", None)
        self._local.kept = None
        if kept is not None:
            with suppress(OSError):
                kept[1].close()


class ApiClient:
    """Requests with a token, answers as JSON or bytes. For many threads."""

    def __init__(
        self,
        transport: Transport,
        token: Callable[[], str],
        *,
        patience_s: float = PATIENCE_S,
        is_starting: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_starting`: whether there is a fabric that may not answer yet; asked only until it has answered once."""
        self._transport = transport
        self._is_starting = is_starting
        self._token = token
        self._patience_s = patience_s
        self._has_answered = False

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        return _json(self.ask("GET", path, query=query, timeout_s=timeout_s))

    def post(self, path: str, document: Any = None, *, can_repeat: bool = True) -> Any:
        return _json(self.ask("POST", path, body=_dumped(document), can_repeat=can_repeat))

    def put(self, path: str, body: Body, kind: str, *, can_repeat: bool = True) -> Any:
        return _json(self.ask("PUT", path, body=body, kind=kind, can_repeat=can_repeat))

    def patch(self, path: str, document: Any) -> Any:
        return _json(self.ask("PATCH", path, body=_dumped(document)))

    def delete(self, path: str) -> Any:
        return _json(self.ask("DELETE", path))

    def has(self, path: str) -> bool:
        """Whether a page is there."""
        return self.ask("HEAD", path, allowed=(404,)).status != 404

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body = None,
        kind: str = "application/json",
        timeout_s: float = TIMEOUT_S,
        can_repeat: bool = True,
        allowed: tuple[int, ...] = (),
    ) -> Reply:
        """One answer. Raises: the error that the API answered with; UnavailableError."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given, doseq=True)}" if given else path
        until_s, pause_s = time.monotonic() + self._patience_s, PAUSE_S[0]
        while True:
            try:
                return self._once(method, target, body, kind, timeout_s, can_repeat, allowed)
            except (UnavailableError, RejectedError, ConfigError) as error:
                wait_s = self._wait_s(error, pause_s, can_repeat)
                if wait_s is None:
                    raise
                if time.monotonic() + wait_s > until_s:
                    raise self._told_late(error) from error
                time.sleep(wait_s)
                pause_s = min(PAUSE_S[1], 2.0 * pause_s)
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)

    def _once(self, method: str, target: str, body: Body, kind: str, timeout_s: float, can_repeat: bool, allowed: tuple[int, ...]) -> Reply:
        headers = {"Authorization": f"Bearer {self._token()}"}
        if body is not None:
            headers["Content-Type"] = kind
        reply = self._transport.send(method, target, body, headers, timeout_s, can_repeat)
        self._has_answered = True
        if reply.status < 300 or reply.status in allowed:
            return reply
        raise error_from(reply.status, reply.body, reply.headers)

    def _wait_s(self, error: FabricError, pause_s: float, can_repeat: bool) -> float | None:
        """How long to wait before the next try; None: there is none."""
        if isinstance(error, RejectedError):
            return max(pause_s, error.retry_after_s or 0.0) if error.retryable else None
        is_before_start = isinstance(error, ConfigError)  # its token, and nothing was sent
        if is_before_start and error.code != "token_not_found":
            return None
        if not can_repeat and not is_before_start and error.context.get("was_sent", True):
            return None
        is_there = self._has_answered and not is_before_start
        return pause_s if is_there or (not self._has_answered and self._is_starting()) else None

    def _told_late(self, error: FabricError) -> FabricError:
        """What to raise after the patience is over."""
        if self._has_answered or isinstance(error, RejectedError):
            return error
        message = f"a fabric starts on this machine, but its API has not answered for {self._patience_s:g} s: {error.message}"
        return UnavailableError(message, hint="try again; `fabric doctor` says what is wrong")


def client_of(config: FabricConfig) -> ApiClient:
    """A client of the fabric that the environment names (FABRIC_API_URL, FABRIC_TOKEN), else the configuration, else of this machine's."""
    url = api_from_environment()[0] or config.api.url
    return ApiClient(transport_to(url, config), token_of(config), is_starting=lambda: not url and _runs_here(config))


def token_of(config: FabricConfig) -> Callable[[], str]:
    """The token that this user asks with: FABRIC_TOKEN, else the token file's. Called, it raises: ConfigError (`token_not_found`)."""
    token = api_from_environment()[1]
    return (lambda: token) if token else lambda: read_token_file(config.state_path / TOKEN_FILE)


def _runs_here(config: FabricConfig) -> bool:
    """Whether a twin runs with this state directory; its API comes up some seconds after its nodes."""
    from fabric import twin  # it loads psutil, which a fabric that answers does without

    return twin.running(config) is not None


_default: ApiClient | None = None


def default_client() -> ApiClient:
    """The client of this process; its settings are read once. Raises: ConfigError."""
    global _default
    if _default is None:
        _default = client_of(load_config().config)
    return _default


def use_client(client: ApiClient | None) -> None:
    """Make it the client of this process; None: read the settings anew at the next call."""
    global _default
    _default = client


def transport_to(url: str | None, config: FabricConfig) -> Transport:
    return HttpTransport((lambda: url) if url else lambda: read_address(config.state_path / ADDRESS_FILE))


def job_path(name_or_id: str, page: str = "") -> str:
    """`/v1/jobs/<job>/<page>`, whatever is in the name."""
    return f"/v1/jobs/{quote(name_or_id, safe='')}{'/' + page if page else ''}"


def _opened(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise ConfigError(f"{url!r} is not the URL of an API", code="bad_api_url", hint="http://host:port or https://host")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


def _exchanged(connection: http.client.HTTPConnection, method: str, path: str, body: Body, headers: Mapping[str, str]) -> Reply:
    more = {} if body is None or isinstance(body, bytes) else {"Content-Length": str(_length(body))}
    connection.request(method, path, body=body, headers={**headers, **more})
    response = connection.getresponse()
    content = response.read()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def _length(file: IO[bytes]) -> int:
    at = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    return end - at


def _unavailable(url: str, error: Exception) -> UnavailableError:
    was_sent = not isinstance(error, ConnectionRefusedError | socket.gaierror)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnavailableError(
        f"the fabric's API at {url} does not answer: {reason}", hint="`fabric status` says what runs", was_sent=was_sent
    )


def _dumped(document: Any) -> bytes:
    return b"" if document is None else json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body) if reply.body else None
    except ValueError:
        raise error_from(502, reply.body, reply.headers) from None
