"""What the owner of a lot and its processes say arrives whole, and an end that is gone is told of."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.errors import ModelError
from serve_apps.parking.link import Channel, Link
from serve_apps.parking.messages import Activity, HasFailed, IsParked, Leave, Message, TokensChanged

Pair = tuple[socket.socket, socket.socket]
MESSAGES: list[Message] = [
    IsParked(4711),
    Leave(0.5, 30),
    Activity(1, 2),
    TokensChanged({"id": {"sha256": "0" * 64}}, "mark"),
    TokensChanged({str(number): "x" * 1000 for number in range(1000)}, "a megabyte"),
]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield ends
    for end in ends:
        end.close()


def test_messages_of_any_size_go_both_ways(pair: Pair) -> None:
    async def talk() -> list[Message | None]:
        channel, link = await Channel.over(pair[0]), Link(pair[1])
        heard = []
        for message in MESSAGES:
            channel.send(message)
            there = await asyncio.to_thread(link.receive)
            assert there is not None
            await asyncio.gather(asyncio.to_thread(link.send, there), answer := asyncio.ensure_future(channel.receive()))
            heard.append(answer.result())
        channel.close()
        return heard

    assert asyncio.run(talk()) == MESSAGES


def test_an_error_arrives_with_its_code_and_its_context(pair: Pair) -> None:
    Link(pair[0]).send(HasFailed(ModelError("wrong", code="constructor_failed", path="/m")))
    heard = Link(pair[1]).receive()
    assert isinstance(heard, HasFailed)
    assert (heard.error.code, heard.error.message, heard.error.context) == ("constructor_failed", "wrong", {"path": "/m"})


def test_a_process_hears_that_its_owner_is_gone_and_may_go_on_speaking(pair: Pair) -> None:
    link = Link(pair[1])
    assert not link.has_news(0)
    pair[0].close()
    assert link.has_news(0)
    assert link.receive() is None
    link.send(Activity(0, 0))


def test_half_a_message_is_none(pair: Pair) -> None:
    pair[0].sendall(b"\0\0\0\0\0\0\0\7abc")
    pair[0].close()
    assert Link(pair[1]).receive() is None


def test_an_owner_hears_that_its_process_is_gone(pair: Pair) -> None:
    async def hear() -> Message | None:
        channel = await Channel.over(pair[0])
        pair[1].close()
        heard = await channel.receive()
        channel.close()
        return heard

    assert asyncio.run(hear()) is None


def test_a_file_is_in_the_page_cache_when_it_has_been_populated(tmp_path: Path) -> None:
    from serve_apps.parking.page_cache import populate

    file = tmp_path / "weights.bin"
    file.write_bytes(b"x" * 100_001)
    populate(file)
    (tmp_path / "empty").touch()
    populate(tmp_path / "empty")
    with pytest.raises(OSError, match="absent"):
        populate(tmp_path / "absent")
