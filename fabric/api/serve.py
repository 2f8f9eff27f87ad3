"""Serves the API over HTTP from a thread of this process, and tells where.

Invariants: it listens when `start` returns, on 127.0.0.1 unless told otherwise; `api.json` appears only then, whole, and goes with it.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from fabric.api.address import is_ours, write_address
from fabric.errors import ConfigError, RuntimeFault

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
KEEP_ALIVE_S = 75
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


class ApiServer:
    """One listening API. `port` 0: any that is free. `listening`: a socket that listens already, on `host`."""

    def __init__(
        self,
        app: Any,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        address_file: Path | None = None,
        listening: socket.socket | None = None,
    ) -> None:
        self._app = app
        self._listening = listening
        self._host, self._port = host, port
        self._address_file = address_file
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self) -> str:
        """Its URL. Raises: ConfigError (`address_in_use`), RuntimeFault."""
        listening = self._listening or listening_at(self._host, self._port)
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(STOP_TIMEOUT_S),
            server_header=False,
            date_header=False,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="fabric-api", daemon=True)
        self._thread.start()
        until_s = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > until_s:
                raise RuntimeFault("the API did not start", code="api_failed", hint="its log says why")
            time.sleep(0.01)
        self.url = url_of(self._host, port)
        if self._address_file is not None:
            write_address(self._address_file, self.url)
        return self.url

    def stop(self) -> None:
        """Requests that are under way get a few seconds."""
        if self._server is None or self._thread is None:
            return
        if self._address_file is not None and is_ours(self._address_file):
            self._address_file.unlink(missing_ok=True)
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S + 5.0)
        self._server = self._thread = None


def listening_at(host: str, port: int, *, setting: str = "api.port") -> socket.socket:
    """Raises: ConfigError (`address_in_use`)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}", code="address_in_use", hint=f"set {setting} to another"
        ) from error
    return listening


def url_of(host: str, port: int) -> str:
    return f"http://{_shown(host)}:{port}"


def _shown(host: str) -> str:
    """The host as others on this machine reach it."""
    if host in ("0.0.0.0", "::"):
        return LOOPBACK
    return f"[{host}]" if ":" in host else host
