"""The caller of one HTTP request: its body as it comes, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from serve_apps.oip.answer import Receive
from serve_apps.oip.body import ClientGone

T = TypeVar("T")


class Caller:
    """Reads `receive` for both: the body first, and then nothing but the word that the caller went away."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_all = asyncio.Event()

    async def parts(self) -> AsyncIterator[bytes]:
        """The body's parts that are not empty. Raises: ClientGone."""
        while not self._has_all.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if not message.get("more_body", False):
                self._has_all.set()
            part = message.get("body", b"")
            if part:
                yield part

    async def chunked(self) -> AsyncIterator[bytes]:
        """The body as HTTP/1.1's chunks, with the last one. Raises: ClientGone."""
        async for part in self.parts():
            yield b"%x\r\n" % len(part)
            yield part
            yield b"\r\n"
        yield b"0\r\n\r\n"

    def has_all(self) -> None:
        """Somebody else has read the body whole."""
        self._has_all.set()

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """What `work` gives. Raises: ClientGone, with `work` cancelled; what `work` raises."""
        working = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
                raise ClientGone
            return working.result()
        finally:
            working.cancel()
            gone.cancel()

    async def _until_gone(self) -> None:
        await self._has_all.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
