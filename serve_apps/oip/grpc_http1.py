"""A unary gRPC call over HTTP/1.1, as HAProxy passes it on: a framed message in, a framed message and trailers out.

The client speaks HTTP/2 with HAProxy, which knows the model by the message's first field and writes HTTP/1.1 to the replica; so the call
passes no Python on its way. An error is an answer of headers only. Source: grpc/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import struct
from typing import Any

from fabric.errors import BugError, UserError
from serve_apps.oip.answer import Answer, Header, Send
from serve_apps.oip.tensor_bytes import Buffer

KIND = "grpc_call"
JOINED_BYTES = 2**16
"""Messages up to this are sent in one piece."""

_FRAME = struct.Struct(">BI")
_GRPC: Header = (b"content-type", b"application/grpc")
_TOLD = (b"grpc-status", b"grpc-message", b"fabric-code", b"retry-after", b"x-request-id")
_END = b"0\r\ngrpc-status: 0\r\n\r\n"
"""HTTP/1.1's last chunk, and the trailers. Source: RFC 9112, 7.1.2."""


def message_in(body: Buffer) -> memoryview:
    """The message of a body of one frame. Raises: UserError (`bad_protobuf`, `unsupported`)."""
    if len(body) < _FRAME.size:
        raise UserError("the body is no gRPC message", code="bad_protobuf")
    is_compressed, length = _FRAME.unpack_from(body)
    if is_compressed:
        raise UserError("compressed messages are not supported", code="unsupported", hint="send them with the encoding identity")
    if length != len(body) - _FRAME.size:
        raise UserError(f"the body is no gRPC message of {length} bytes", code="bad_protobuf")
    return memoryview(body)[_FRAME.size :]


async def send_call(send: Send, answer: Answer) -> None:
    """`answer`: of `grpc_bodies`, with the status in its headers."""
    told = [header for header in answer.headers if header[0] in _TOLD]
    if (b"grpc-status", b"0") not in told:
        await send({"type": "http.response.start", "status": 200, "headers": [_GRPC, *told, (b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    told.remove((b"grpc-status", b"0"))
    frame = _FRAME.pack(0, sum(map(len, answer.parts)))
    await send({"type": "http.response.start", "status": 200, "headers": [_GRPC, *told, (b"transfer-encoding", b"chunked")]})
    parts = [frame, *answer.parts]
    for part in [b"".join(parts)] if sum(map(len, parts)) <= JOINED_BYTES else parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await _end(send)


async def _end(send: Send) -> None:
    """ASGI has an extension for trailers, uvicorn does not have it yet: the last chunk is written past it.

    Raises: BugError where the server is not the uvicorn that this was written for.
    """
    cycle: Any = getattr(send, "__self__", None)
    if cycle is None or not hasattr(cycle, "chunked_encoding"):
        raise BugError("this server cannot write trailers: gRPC needs uvicorn with httptools")
    if not cycle.disconnected:
        cycle.transport.write(_END)
    # What follows would be the last chunk.
    cycle.chunked_encoding = False
    await send({"type": "http.response.body", "body": b""})
