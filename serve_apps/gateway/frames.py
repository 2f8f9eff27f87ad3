"""Takes apart a replica's streamed answer: messages, each after its length."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fabric.errors import UnavailableError


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Messages out of chunks: each 4 bytes of length, big-endian, and a message. Raises: UnavailableError (`replica_gone`)."""
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        at = 0
        while len(waiting) >= at + 4:
            end = at + 4 + int.from_bytes(waiting[at : at + 4], "big")
            if len(waiting) < end:
                break
            yield bytes(waiting[at + 4 : end])
            at = end
        del waiting[:at]
    if waiting:
        raise UnavailableError("the replica's answer ended within a message", code="replica_gone")
