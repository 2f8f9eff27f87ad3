"""The whole gateway on one event loop: REST by uvicorn and gRPC by grpc.aio, over one table of routes.

Invariants: after `start` both ports take connections; `stop` says that it drains, turns new requests away, and lets those that run
finish within a limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import uvicorn

from fabric.errors import RuntimeFault
from serve_apps.directory.table import ServingTable
from serve_apps.gateway.feedback import Feedback
from serve_apps.gateway.fleet import Fleet
from serve_apps.gateway.forwarder import Forwarder
from serve_apps.gateway.grpc_describe import DescribeCalls
from serve_apps.gateway.grpc_health import HealthCalls
from serve_apps.gateway.grpc_infer import InferCalls
from serve_apps.gateway.grpc_server import INFERENCE, MAX_MESSAGE_BYTES, REPOSITORY, grpc_server, handlers_of
from serve_apps.gateway.holding import HELD_S, Holding
from serve_apps.gateway.infer_client import InferClient
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.openai.app import OpenAiApp
from serve_apps.gateway.replica_pool import IDLE_S, ReplicaPool
from serve_apps.gateway.rest import GatewayApp
from serve_apps.gateway.routes import Routes
from serve_apps.gateway.waking import NoWaker, Waker
from serve_apps.oip.hooks import Authorize, Limits, Repository, anybody
from serve_apps.server import bind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """`rest`, `grpc`: host and port of each protocol; port 0 is any free one. `drain_s`: how long running requests may take to finish."""

    rest: tuple[str, int] = ("127.0.0.1", 0)
    grpc: tuple[str, int] = ("127.0.0.1", 0)
    name: str = "tierfabric"
    version: str = ""
    held_s: float = HELD_S
    drain_s: float = 30.0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    replicas_idle_s: float = IDLE_S


class Gateway:
    """For one event loop. `repository`: makes what loads and unloads models, given the routes."""

    def __init__(
        self,
        options: GatewayOptions | None = None,
        *,
        waker: Waker | None = None,
        authorize: Authorize = anybody,
        repository: Callable[[Routes], Repository] | None = None,
        limits: Limits | None = None,
        pool: ReplicaPool | None = None,
    ) -> None:
        self._options = options or GatewayOptions()
        self.routes = Routes()
        self._pool = pool or ReplicaPool(idle_s=self._options.replicas_idle_s)
        holding = Holding(waker or NoWaker(), held_s=self._options.held_s)
        self._forwarder = Forwarder(self.routes, self._pool, holding)
        self._metrics = GatewayMetrics(self.routes, holding)
        loading = repository(self.routes) if repository else None
        self.fleet = Fleet(self._forwarder, loading, name=self._options.name, version=self._options.version)
        openai = OpenAiApp(self.routes, InferClient(self._forwarder), self._metrics, authorize=authorize, limits=limits)
        self.feedback = Feedback()
        """What users posted since somebody took it; any thread may take it."""
        self.app = GatewayApp(self.fleet, self._metrics, authorize=authorize, openai=openai, feedback=self.feedback, limits=limits)
        self._authorize = authorize
        self.rest_port = 0
        self.grpc_port = 0

    def replace(self, table: ServingTable) -> None:
        """The newest table. On the gateway's loop, or before `start`."""
        self.routes.replace(table)
        self._pool.keep_only(self.routes.addresses())

    def metrics_text(self) -> bytes:
        """The gateway's own metrics, in Prometheus' text format."""
        return self._metrics.text()

    async def start(self) -> None:
        """Raises: RuntimeFault (`port_taken`)."""
        options = self._options
        listening = bind(*options.rest)
        self.rest_port = listening.getsockname()[1]
        self._grpc = self._grpc_server()
        try:
            self.grpc_port = self._grpc.add_insecure_port(_joined(*options.grpc))
        except RuntimeError as error:
            listening.close()
            raise RuntimeFault(f"cannot listen on {_joined(*options.grpc)}", code="port_taken", hint="choose another port") from error
        await self._grpc.start()
        self._rest = _EmbeddedServer(
            uvicorn.Config(
                self.app, loop="none", http="httptools", ws="none", lifespan="off", access_log=False, log_config=None,
                timeout_keep_alive=75, timeout_graceful_shutdown=max(1, int(options.drain_s)),
            )
        )  # fmt: skip
        self._serving = asyncio.ensure_future(self._rest.serve([listening]))
        while not self._rest.started and not self._serving.done():
            await asyncio.sleep(0.005)
        log.info("gateway_started rest=%s:%d grpc=%s:%d", options.rest[0], self.rest_port, options.grpc[0], self.grpc_port)

    async def stop(self) -> None:
        """Returns when all requests have been answered, or `drain_s` is over."""
        self.fleet.is_draining = True
        self._rest.should_exit = True
        await asyncio.gather(self._serving, self._grpc.stop(self._options.drain_s))
        self._pool.close()

    def _grpc_server(self) -> grpc.aio.Server:
        infer = InferCalls(self._forwarder, self._authorize, self._metrics)
        health = HealthCalls(self.fleet, frozenset({INFERENCE, REPOSITORY}))
        handlers = handlers_of(infer, DescribeCalls(self.fleet, self._authorize), health)
        return grpc_server(handlers, max_message_bytes=self._options.max_message_bytes)


class _EmbeddedServer(uvicorn.Server):
    """uvicorn within a program that has its own handling of signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
