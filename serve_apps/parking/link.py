"""The two ends of the socket pair between the owner of a lot and one of its processes: whole pickles, each after its length.

Only the owner and the processes that it started hold an end; nothing of a request ever travels here.
"""

from __future__ import annotations

import asyncio
import pickle
import select
import socket
import struct
from typing import Any, Self, cast

from serve_apps.parking.messages import Message

_SIZE = struct.Struct("!Q")


def _packed(message: Message) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _SIZE.pack(len(body)) + body


class Link:
    """The process's end. It may wait."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(True)

    def send(self, message: Message) -> None:
        """Dropped where the owner is gone: `receive` tells of it."""
        try:
            self._end.sendall(_packed(message))
        except OSError:
            return

    def has_news(self, timeout_s: float) -> bool:
        """Whether `receive` has something to tell, waiting at most so long."""
        return bool(select.select([self._end.fileno()], [], [], timeout_s)[0])

    def receive(self) -> Message | None:
        """The next message; None when the owner is gone."""
        head = self._exactly(_SIZE.size)
        if head is None:
            return None
        body = self._exactly(_SIZE.unpack(head)[0])
        return None if body is None else cast(Message, pickle.loads(body))

    def _exactly(self, size: int) -> bytearray | None:
        content = bytearray(size)
        left = memoryview(content)
        while left:
            try:
                num = self._end.recv_into(left)
            except OSError:
                return None
            if num == 0:
                return None
            left = left[num:]
        return content


class Channel:
    """The owner's end, on its event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Never waits."""
        self._writer.write(_packed(message))

    async def receive(self) -> Message | None:
        """The next message; None when the process is gone."""
        try:
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            said: Any = pickle.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None
        return cast(Message, said)

    def close(self) -> None:
        self._writer.close()
