"""An answer's head and body leave in one piece, and nothing is lost or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from serve_apps.joined_writes import JoinedWrites


class Wire(asyncio.Transport):
    """Every piece that left."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.pieces.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.pieces.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("writes", "pieces"),
    [
        ([b"head"], [b"head"]),
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", memoryview(b"body")], [b"headbody"]),
        ([b"head", b"a", b"b"], [b"heada", b"b"]),
        ([b"head", b"a", b"b", b""], [b"heada", b"b"]),
        ([memoryview(b"a"), b"b"], [b"a", b"b"]),
    ],
)
def test_what_is_written_in_one_turn_leaves_in_few_pieces(writes: list[Any], pieces: list[bytes]) -> None:
    async def run() -> None:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        for data in writes:
            joined.write(data)
        await asyncio.sleep(0)
        assert wire.pieces == pieces
        joined.write(b"last")
        joined.close()
        assert wire.pieces[-1] == b"last" and wire.is_closed
        joined.write(b"too late")
        await asyncio.sleep(0)
        assert wire.pieces[-1] == b"last"

    asyncio.run(run())
