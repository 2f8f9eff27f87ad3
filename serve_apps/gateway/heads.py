"""Writes the heads of the HTTP requests that the gateway sends to replicas.

Invariants: what a caller sent ends up in a head only if it cannot end a line; headers that belong to one connection are not passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from fabric.errors import UserError

PASSED_METADATA = frozenset({"authorization", "traceparent", "tracestate", "baggage", "x-request-id", "x-request-timeout-ms"})
"""Of gRPC's metadata. The rest is between the caller and the gateway."""

_OF_ONE_CONNECTION = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"host", b"content-length", b"expect",
    }
)  # fmt: skip
"""Source: RFC 9110, 7.6.1; and what the head has of its own."""


_NOT_BACK = (_OF_ONE_CONNECTION - {b"content-length"}) | {b"date", b"server"}
"""The gateway's own server writes its date and name."""


def grpc_head(method: str, size: int, metadata: Iterable[tuple[str, str | bytes]], remaining_s: float | None) -> bytes:
    """For `POST /grpc/{method}` with a serialized message of `size` bytes. `remaining_s`: until the caller's deadline, None if none."""
    passed = "".join(
        f"{key}: {value}\r\n" for key, value in metadata if key in PASSED_METADATA and isinstance(value, str) and _is_one_line(value)
    )
    timeout = "" if remaining_s is None else f"grpc-timeout: {max(1, min(int(remaining_s * 1000), 99_999_999))}m\r\n"
    return (
        f"POST /grpc/{method} HTTP/1.1\r\nhost: replica\r\ncontent-type: application/grpc+proto\r\n{timeout}{passed}"
        f"content-length: {size}\r\n\r\n"
    ).encode("latin-1", "replace")


def http_head(method: str, path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], size: int | None) -> bytes:
    """For any request that is passed on. `path`: unquoted text; `size` None: the body comes in chunks. Raises: UserError (`bad_header`)."""
    target = quote(path, safe="/:@!$&'()*+,;=-._~").encode() + (b"?" + query if query else b"")
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"host: replica"]
    lines += [name + b": " + value for name, value in headers if name not in _OF_ONE_CONNECTION]
    lines.append(b"transfer-encoding: chunked" if size is None else b"content-length: %d" % size)
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise UserError("a header has a line break", code="bad_header")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def passed_back(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Of a replica's headers those that the caller gets. The length stands: the body is passed on as it is."""
    return [(name, value) for name, value in headers if name not in _NOT_BACK]


def as_headers(metadata: Iterable[tuple[str, str | bytes]]) -> Mapping[bytes, bytes]:
    """gRPC's metadata in the form of HTTP headers, for `Authorize`."""
    return {key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in metadata}


def _is_one_line(value: str) -> bool:
    return "\r" not in value and "\n" not in value
