"""A streamed answer taken apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import UnavailableError
from serve_apps.gateway.frames import frames


async def pieces(content: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    start = 0
    for cut in [*sorted(cuts), len(content)]:
        yield content[start:cut]
        start = max(start, cut)


async def taken(content: bytes, cuts: list[int]) -> list[bytes]:
    return [frame async for frame in frames(pieces(content, cuts))]


@given(messages=st.lists(st.binary(max_size=20), max_size=6), cuts=st.lists(st.integers(0, 140), max_size=8))
def test_messages_come_whole_however_the_chunks_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    content = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
    assert asyncio.run(taken(content, [cut for cut in cuts if cut <= len(content)])) == messages


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(taken(b"\x00\x00\x00\x05abc", [2]))
