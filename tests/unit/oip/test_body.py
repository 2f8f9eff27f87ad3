"""The body of a request: limits hold while it comes, and compression is undone within a bound."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest

from fabric.errors import UserError
from serve_apps.oip.body import read_body, wanted_encoding
from serve_apps.oip.hooks import Limits
from tests.unit.oip import models
from tests.unit.oip.server import Server

X = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}).encode()
ZIPPED = gzip.compress(X, mtime=0)  # two processes that collect these tests must name them alike
INFER = "/v2/models/vector-fp32/infer"
SMALL = Limits(body_bytes=1000, json_bytes=1000, decompressed_bytes=2000)


def read(parts: list[bytes], headers: dict[bytes, bytes], limits: Limits = SMALL) -> tuple[bytes, int]:
    """The body, and how many parts of it were taken."""
    left = list(parts)

    async def receive() -> Any:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    return asyncio.run(read_body(receive, headers, limits)), len(parts) - len(left)


def test_a_body_in_many_parts_is_whole() -> None:
    assert read([b"a", b"", b"bc"], {}) == (b"abc", 3)
    assert read([b""], {}) == (b"", 1)


def test_a_body_that_claims_too_much_is_refused_unread() -> None:
    for claimed in (b"1001", b"9" * 30):
        with pytest.raises(UserError) as refused:
            read([], {b"content-length": claimed})
        assert refused.value.code == "too_large"


def test_a_body_that_becomes_too_large_is_refused_at_once() -> None:
    async def endless() -> Any:
        nonlocal num_parts
        num_parts += 1
        return {"type": "http.request", "body": bytes(400), "more_body": True}

    num_parts = 0
    with pytest.raises(UserError, match="over 1000 bytes"):
        asyncio.run(read_body(endless, {}, SMALL))
    assert num_parts == 3


@pytest.mark.parametrize(("encoding", "compressed"), [("gzip", ZIPPED), ("deflate", zlib.compress(X)), ("GZIP", ZIPPED), ("identity", X)])
def test_a_compressed_request_is_read(encoding: str, compressed: bytes) -> None:
    reply = Server([models.vector()]).post(INFER, compressed, content_encoding=encoding)
    assert reply.json["outputs"][0]["data"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("br", X, 501, "unsupported_encoding"),
        ("gzip, gzip", X, 501, "unsupported_encoding"),
        ("gzip", X, 400, "bad_encoding"),
        ("gzip", ZIPPED[:-9], 400, "bad_encoding"),
        ("gzip", ZIPPED + b"more", 400, "bad_encoding"),
        ("deflate", ZIPPED, 400, "bad_encoding"),
        ("gzip", b"", 400, "bad_encoding"),
        ("gzip", gzip.compress(bytes(2**22), mtime=0), 413, "too_large"),
    ],
)
def test_what_cannot_be_decompressed_is_refused(encoding: str, body: bytes, status: int, code: str) -> None:
    server = Server([models.vector()], limits=Limits(decompressed_bytes=2**20))
    reply = server.post(INFER, body, content_encoding=encoding)
    assert (reply.status, reply.json["code"]) == (status, code)


@pytest.mark.parametrize(("encoding", "undo"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_an_answer_is_compressed_where_just_that_is_asked_for(encoding: str, undo: Any) -> None:
    reply = Server([models.vector()]).post(INFER, X, accept_encoding=encoding)
    assert reply.headers["content-encoding"] == encoding
    assert json.loads(undo(reply.body))["outputs"][0]["data"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [(b"gzip", b"gzip"), (b"Deflate;q=1.0", b"deflate"), (b"gzip, deflate, br", b""), (b"br", b""), (b"identity", b""), (b"", b"")],
)
def test_a_list_of_encodings_is_no_wish(accepted: bytes, encoding: bytes) -> None:
    assert wanted_encoding({b"accept-encoding": accepted}) == encoding


def test_only_a_body_of_unknown_length_closes_the_connection_where_it_is_too_large() -> None:
    server = Server([models.vector()], limits=SMALL)
    known, unknown = server.post(INFER, bytes(2000)), server.call("POST", INFER, bytes(2000), {"content-length": None})
    assert (known.status, known.headers.get("connection")) == (413, None)
    assert (unknown.status, unknown.headers.get("connection")) == (413, "close")
