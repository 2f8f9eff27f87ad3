"""gRPC calls over HTTP/1.1."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fabric.errors import BugError, UserError
from serve_apps.oip.answer import Answer
from serve_apps.oip.grpc_http1 import JOINED_BYTES, message_in, send_call


class Cycle:
    """As uvicorn's for one request: what the application sends, and what is written past it."""

    def __init__(self) -> None:
        self.chunked_encoding = True
        self.disconnected = False
        self.transport = self
        self.log: list[Any] = []

    def write(self, content: bytes) -> None:
        self.log.append(content)

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.log.append((message["status"], dict(message["headers"])))
        elif message.get("body"):
            self.log.append(message["body"])


def sent(answer: Answer) -> Any:
    cycle = Cycle()
    asyncio.run(send_call(cycle.send, answer))
    return cycle


def test_a_message_comes_out_of_its_frame() -> None:
    assert bytes(message_in(b"\x00\x00\x00\x00\x03abc")) == b"abc"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_protobuf"),
        (b"\x00\x00\x00\x00\x04abc", "bad_protobuf"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "bad_protobuf"),
        (b"\x01\x00\x00\x00\x00", "unsupported"),
    ],
    ids=["nothing", "too short", "two messages", "compressed"],
)
def test_what_is_no_frame_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(UserError) as caught:
        message_in(body)
    assert caught.value.code == code


def test_an_answer_is_one_frame_and_trailers_behind_it() -> None:
    cycle = sent(Answer(200, [(b"grpc-status", b"0")], [b"ab", b"c"]))
    (status, headers), frame, end = cycle.log
    assert (status, headers[b"content-type"], headers[b"transfer-encoding"]) == (200, b"application/grpc", b"chunked")
    assert b"grpc-status" not in headers
    assert frame == b"\x00\x00\x00\x00\x03abc"
    assert end == b"0\r\ngrpc-status: 0\r\n\r\n"
    # The server must not write a last chunk of its own.
    assert cycle.chunked_encoding is False


def test_a_large_answer_is_not_joined() -> None:
    cycle = sent(Answer(200, [(b"grpc-status", b"0")], [b"a", bytes(JOINED_BYTES)]))
    assert [len(part) for part in cycle.log[1:-1]] == [5, 1, JOINED_BYTES]


def test_an_error_is_headers_only_and_no_error_of_http() -> None:
    cycle = sent(Answer(404, [(b"content-type", b"x"), (b"grpc-status", b"5"), (b"grpc-message", b"none")], []))
    ((status, headers),) = cycle.log
    assert status == 200
    assert headers == {b"content-type": b"application/grpc", b"grpc-status": b"5", b"grpc-message": b"none", b"content-length": b"0"}


def test_a_server_that_cannot_write_trailers_is_named() -> None:
    async def send(message: dict[str, Any]) -> None:
        pass

    with pytest.raises(BugError):
        asyncio.run(send_call(send, Answer(200, [(b"grpc-status", b"0")], [b"a"])))
