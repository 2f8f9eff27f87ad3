"""Carries one ASGI application: a uvicorn server on a thread and an event loop of its own, so that what else the process does
(Ray, a predict that holds the interpreter) shares nothing with it but the interpreter.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import uvicorn

from fabric.errors import RuntimeFault
from serve_apps.joined_writes import JoiningProtocol

KEEP_ALIVE_S = 600
"""Longer than any proxy in front keeps an idle connection, so that no request meets one that is just being closed."""
_START_S = 30.0


def bind(host: str, port: int = 0) -> socket.socket:
    """A listening socket; port 0: any free one. Raises: RuntimeFault (`port_taken`)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RuntimeFault(f"cannot listen on {host}:{port}: {error}", code="port_taken", hint="choose another port", port=port) from error
    listener.listen(2048)
    return listener


class Server:
    """Answers on `listener`, and `more`, from the moment that `start` returns until `stop`. `port`: of the first."""

    def __init__(self, app: Any, listener: socket.socket, *more: socket.socket) -> None:
        config = uvicorn.Config(
            app, loop="uvloop", http=JoiningProtocol, lifespan="off", ws="none", interface="asgi3", access_log=False, log_config=None,
            proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S, server_header=False, date_header=False,
            timeout_graceful_shutdown=None, backlog=2048,
        )  # fmt: skip
        self._server = _Quiet(config)
        self._listeners = (listener, *more)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serve-http", daemon=True)
        self.loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return int(self._listeners[0].getsockname()[1])

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> Server:
        """Raises: RuntimeFault (`server_not_started`)."""
        self._thread.start()
        if not self._started.wait(_START_S) or not self.is_alive:
            raise RuntimeFault("the HTTP server did not start", code="server_not_started")
        return self

    def run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the server's loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self, drain_s: float) -> None:
        """Close the listener, let requests that run end within `drain_s`, then end. From any other thread."""
        self._server.config.timeout_graceful_shutdown = max(1, round(drain_s))
        self._server.should_exit = True
        self._thread.join(drain_s + 5.0)

    def _run(self) -> None:
        runner = asyncio.Runner(loop_factory=self._server.config.get_loop_factory())
        with runner:
            self.loop = runner.get_loop()
            self.loop.call_soon(self._started.set)
            runner.run(self._server.serve(sockets=list(self._listeners)))


class _Quiet(uvicorn.Server):
    """The process's signals are not the server's."""

    def install_signal_handlers(self) -> None:
        """Older uvicorn."""

    def capture_signals(self) -> Any:
        """Newer uvicorn."""
        import contextlib

        return contextlib.nullcontext()
