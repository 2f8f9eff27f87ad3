"""The heads of requests to replicas."""

from __future__ import annotations

import pytest

from fabric.errors import UserError
from serve_apps.gateway.heads import grpc_head, http_head, passed_back


def test_metadata_pass_on_who_asks_and_the_deadline_and_nothing_else() -> None:
    metadata = [
        ("authorization", "Bearer x"),
        ("user-agent", "grpc"),
        ("x-own", "1"),
        ("traceparent", "00-1"),
        ("x-request-id", "a\r\nb: c"),
    ]
    head = grpc_head("ModelInfer", 7, metadata, 1.5)
    assert head.startswith(b"POST /grpc/ModelInfer HTTP/1.1\r\n")
    assert head.endswith(b"content-length: 7\r\n\r\n")
    lines = head.split(b"\r\n")
    assert {b"authorization: Bearer x", b"traceparent: 00-1", b"grpc-timeout: 1500m"} <= set(lines)
    assert not any(line.startswith((b"user-agent", b"x-own", b"x-request-id", b"b:")) for line in lines)


@pytest.mark.parametrize(("remaining_s", "line"), [(0.0, b"grpc-timeout: 1m"), (1e9, b"grpc-timeout: 99999999m")])
def test_a_deadline_has_at_most_eight_digits_and_is_never_zero(remaining_s: float, line: bytes) -> None:
    assert line in grpc_head("ModelInfer", 0, (), remaining_s).split(b"\r\n")


def test_a_request_is_passed_on_with_the_headers_that_concern_it() -> None:
    headers = [(b"host", b"a"), (b"connection", b"close"), (b"content-length", b"3"), (b"accept", b"x"), (b"expect", b"100-continue")]
    head = http_head("POST", "/v2/models/ä b/infer", b"q=1", headers, 3)
    assert head == b"POST /v2/models/%C3%A4%20b/infer?q=1 HTTP/1.1\r\nhost: replica\r\naccept: x\r\ncontent-length: 3\r\n\r\n"
    assert b"transfer-encoding: chunked" in http_head("POST", "/", b"", (), None)


def test_a_head_cannot_be_ended_from_outside() -> None:
    with pytest.raises(UserError):
        http_head("GET", "/", b"", [(b"x", b"1\r\nhost: b")], 0)
    assert b"\n" not in http_head("GET", "/a\r\nb", b"", (), 0).split(b"\r\n")[0]


def test_the_callers_headers_are_those_of_the_answer() -> None:
    headers = [(b"content-length", b"3"), (b"transfer-encoding", b"chunked"), (b"server", b"x"), (b"content-type", b"y")]
    assert passed_back(headers) == [(b"content-length", b"3"), (b"content-type", b"y")]
