"""What the owner of a lot and its processes tell each other, and the channel that carries it: whole pickles over a socket pair.

Only the owner and the processes that it started hold an end of it; nothing of a request ever travels here.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fabric.errors import FabricError
from serve_apps.parking.rules import ModelVersion

_SIZE = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a parked process shall serve from now on: a prepared folder, or a captured service (a pickled `Capture`).

    `options`: how it is executed (batching, queue, cache). `log`: a file that takes standard output and error. `sys_path`,
    `workdir`: where the service's modules and files are found.
    """

    model: ModelVersion
    folder: str = ""
    capture: bytes = b""
    options: Mapping[str, Any] = field(default_factory=dict)
    num_threads: int = 1
    workdir: str = ""
    sys_path: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    drain_s: float


@dataclass(frozen=True, slots=True)
class IsParked:
    """`port`: of its HTTP server, on the loopback address."""

    port: int


@dataclass(frozen=True, slots=True)
class IsLive:
    """`took_ms`: what each part of the adoption took, in the order of the parts."""

    took_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HasFailed:
    error: FabricError


@dataclass(frozen=True, slots=True)
class Activity:
    num_in_flight: int
    num_requests: int


Message = Adoption | Leave | IsParked | IsLive | HasFailed | Activity


class Channel:
    """One end of a socket pair, on an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Never waits; what the other end cannot take any more is dropped with it."""
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.write(_SIZE.pack(len(body)) + body)

    async def flush(self) -> None:
        await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message; None when the other end is gone."""
        try:
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            return pickle.loads(await self._reader.readexactly(size))  # type: ignore[no-any-return]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()
