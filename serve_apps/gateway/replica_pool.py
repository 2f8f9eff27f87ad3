"""Keeps connections to replicas open between requests, and opens new ones: as many as there are requests at once.

Invariants: a connection that lay idle as long as a replica may keep it open is not used, as a request sent while the replica closes it
would be lost; whoever takes a connection gives it back or closes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from fabric.errors import UnavailableError
from serve_apps.gateway.replica_connection import ReplicaConnection
from serve_apps.gateway.routes import Address
from serve_apps.server import KEEP_ALIVE_S

IDLE_S = KEEP_ALIVE_S / 2
CONNECT_S = 2.0


class ReplicaPool:
    """For one event loop. The one used last is taken first, so that few connections stay open."""

    def __init__(self, *, idle_s: float = IDLE_S, connect_s: float = CONNECT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._connect_s = connect_s
        self._clock = clock
        self._idle: dict[Address, list[ReplicaConnection]] = {}

    def idle(self, address: Address) -> ReplicaConnection | None:
        """An open connection that nobody uses, or None."""
        waiting = self._idle.get(address)
        while waiting:
            connection = waiting.pop()
            if connection.is_closed:
                continue
            if self._clock() - connection.idle_since_s < self._idle_s:
                return connection
            connection.close()
        return None

    async def connect(self, address: Address) -> ReplicaConnection:
        """A new connection. Raises: UnavailableError (`replica_refused`): no request was sent, it may go elsewhere."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(lambda: ReplicaConnection(loop), address.host, address.port)
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"the replica at {address} takes no connection: {error}", code="replica_refused") from error
        return connection

    def give_back(self, address: Address, connection: ReplicaConnection) -> None:
        """After an exchange, however it ended."""
        if connection.is_reusable:
            connection.idle_since_s = self._clock()
            self._idle.setdefault(address, []).append(connection)
        elif not connection.is_closed:
            connection.close()

    def keep_only(self, living: Collection[Address]) -> None:
        """Close idle connections to replicas that are gone."""
        for address in [address for address in self._idle if address not in living]:
            for connection in self._idle.pop(address):
                connection.close()

    def close(self) -> None:
        self.keep_only(())
