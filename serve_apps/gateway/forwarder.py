"""Carries a request to a replica and its answer back: chooses, connects, sends, counts.

Invariants: a request is sent once; only while no connection stands may it go to another replica; what the caller gives up is given up
at the replica, too, by closing the connection. The exception is a request that was only drawn for a version and is here whole: where that
version's replica ends with it in hand, the default version answers, unless the model has side effects.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from fabric.errors import FabricError, UnavailableError
from serve_apps.gateway.holding import Holding
from serve_apps.gateway.replica_connection import ReplicaConnection, Reply
from serve_apps.gateway.replica_pool import ReplicaPool
from serve_apps.gateway.routes import Address, Routes, Target
from serve_apps.gateway.waking import no_replica
from serve_apps.oip.tensor_bytes import Buffer

MAX_REFUSALS = 2


class Lease:
    """A connection to the replica that a request goes to; counted as long as it is held."""

    __slots__ = ("_pool", "_routes", "address", "connection")

    def __init__(self, routes: Routes, pool: ReplicaPool, address: Address, connection: ReplicaConnection) -> None:
        self._routes = routes
        self._pool = pool
        self.address = address
        self.connection = connection
        routes.began(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._routes.ended(self.address)
        self._pool.give_back(self.address, self.connection)


class Forwarder:
    """For one event loop."""

    def __init__(self, routes: Routes, pool: ReplicaPool, holding: Holding, clock: Callable[[], float] = time.monotonic) -> None:
        self.routes = routes
        self.pool = pool
        self.holding = holding
        self._clock = clock

    async def lease(self, target: Target, may_wake: Callable[[], object] | None = None) -> Lease:
        """A connection to a replica of `target`, waking one if there is none; to its fallback where that fails. `may_wake` is asked before
        waking, and raises if not.

        Raises: RejectedError (`no_replica`, `queue_full`), UnavailableError (`replica_refused`), what `may_wake` and the waker raise.
        """
        try:
            return await self._lease(target, may_wake)
        except FabricError:
            if target.fallback is None:
                raise
        return await self._lease(target.fallback, may_wake)

    async def _lease(self, target: Target, may_wake: Callable[[], object] | None) -> Lease:
        # Where another version is at hand, only what sleeps is woken.
        is_woken = target.fallback is not None and target.state != "PARKED"
        refused_by: list[Address] = []
        woken: Address | None = None
        while True:
            address = woken or self.routes.choose(target, self._clock(), refused_by)
            woken = None
            if address is None:
                if is_woken:
                    raise no_replica(target.model, target.version, target.reason)
                if may_wake is not None:
                    may_wake()
                woken = await self.holding.until_awake(target.model, target.deployment)
                is_woken = True
                target = self.routes.at(target.model, target.deployment)
                refused_by.clear()
                continue
            connection = self.pool.idle(address)
            if connection is not None:
                return Lease(self.routes, self.pool, address, connection)
            try:
                connection = await self.pool.connect(address)
            except UnavailableError:
                self.routes.refused(address, self._clock())
                refused_by.append(address)
                if len(refused_by) >= MAX_REFUSALS:
                    raise
            else:
                self.routes.connected(address)
                return Lease(self.routes, self.pool, address, connection)

    async def ask(self, target: Target, parts: Sequence[Buffer], may_wake: Callable[[], object] | None = None) -> Reply:
        """The whole answer to a request of head and body. Raises: as `lease`, and UnavailableError (`replica_gone`)."""
        try:
            with await self.lease(target, may_wake) as lease:
                return await lease.connection.ask(parts)
        except UnavailableError:
            if target.fallback is None or target.metadata.has_side_effects:
                raise
        with await self.lease(target.fallback, may_wake) as lease:
            return await lease.connection.ask(parts)

    async def ask_at(self, address: Address, parts: Sequence[Buffer]) -> Reply:
        """As `ask`, of one replica. Raises: UnavailableError."""
        with Lease(self.routes, self.pool, address, self.pool.idle(address) or await self.pool.connect(address)) as lease:
            return await lease.connection.ask(parts)

    @asynccontextmanager
    async def opened(
        self,
        target: Target,
        parts: Sequence[Buffer],
        more: AsyncIterable[bytes] | None = None,
        may_wake: Callable[[], object] | None = None,
    ) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """An answer's headers, and its body as it comes. Left early, the connection is closed. Raises: as `ask`."""
        with await self.lease(target, may_wake) as lease:
            answer = await lease.connection.open(parts, more)
            yield answer, lease.connection.chunks()
