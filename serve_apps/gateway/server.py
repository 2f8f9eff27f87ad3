"""Runs a gateway in a thread with an event loop of its own: for a process that does other things as well, and for tests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import uvloop

from serve_apps.directory.table import ServingTable
from serve_apps.gateway.feedback import Feedback
from serve_apps.gateway.gateway import Gateway, GatewayOptions
from serve_apps.gateway.routes import Routes
from serve_apps.gateway.waking import Waker
from serve_apps.oip.hooks import Authorize, Repository, anybody

log = logging.getLogger(__name__)

STARTED_S = 20.0
STOPPED_S = 60.0


class GatewayServer:
    """`gateway` is the thread's alone between `start` and `stop`, but for `replace` and `feedback`, which any thread may call."""

    def __init__(
        self,
        *,
        rest: tuple[str, int] = ("127.0.0.1", 0),
        grpc: tuple[str, int] = ("127.0.0.1", 0),
        authorize: Authorize = anybody,
        waker: Waker | None = None,
        repository: Callable[[Routes], Repository] | None = None,
        **options: Any,
    ) -> None:
        """`rest`, `grpc`, `options`: see `GatewayOptions`. `waker`, `repository`: see `Gateway`."""
        self.gateway = Gateway(GatewayOptions(rest, grpc, **options), waker=waker, authorize=authorize, repository=repository)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._stopping = asyncio.Event()
        self._started: Future[None] = Future()

    @property
    def rest_port(self) -> int:
        """0 before `start`."""
        return self.gateway.rest_port

    @property
    def feedback(self) -> Feedback:
        """What users posted back."""
        return self.gateway.feedback

    @property
    def grpc_port(self) -> int:
        """0 before `start`."""
        return self.gateway.grpc_port

    def start(self) -> None:
        """Returns when both ports take connections. Raises: RuntimeFault (`port_taken`)."""
        self._thread.start()
        self._started.result(STARTED_S)

    def replace(self, table: ServingTable) -> None:
        """The newest table, in effect when this returns. Not on the gateway's loop, which has `Gateway.replace`."""
        done: Future[None] = Future()

        def replace() -> None:
            self.gateway.replace(table)
            done.set_result(None)

        self._loop.call_soon_threadsafe(replace)
        done.result(STARTED_S)

    def run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the gateway's loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """Drain and end; again, it does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOPPED_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            log.exception("gateway_failed")
            if not self._started.done():
                self._started.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        await self.gateway.start()
        self._started.set_result(None)
        await self._stopping.wait()
        await self.gateway.stop()
