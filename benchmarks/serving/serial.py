"""One client, one connection kept open, one request at a time: what a single caller waits.

`http.client` and `grpc` as they are; their own time is in every server's figure alike.
"""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

import grpc

GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"


def http_ms(url: str, body: bytes, *, count: int, headers: dict[str, str] | None = None) -> tuple[list[float], bytes]:
    """Milliseconds of each of `count` requests, and the last answer. Raises: `RuntimeError` for an answer that is not 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = {"Content-Type": "application/json", **(headers or {})}
    took, answer = [], b""
    try:
        for _ in range(count):
            started_s = time.perf_counter()
            connection.request("POST", parts.path, body, sent)
            response = connection.getresponse()
            answer = response.read()
            took.append(1e3 * (time.perf_counter() - started_s))
            if response.status != 200:
                raise RuntimeError(f"{url} answered {response.status}: {answer[:300]!r}")
    finally:
        connection.close()
    return took, answer


def grpc_ms(target: str, message: bytes, *, count: int, metadata: tuple[tuple[str, str], ...] = ()) -> tuple[list[float], bytes]:
    """The same for a unary call whose messages stay bytes. Raises: `grpc.RpcError`."""
    took, answer = [], b""
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(GRPC_INFER, request_serializer=None, response_deserializer=None)
        for _ in range(count):
            started_s = time.perf_counter()
            answer = call(message, metadata=metadata, timeout=30)
            took.append(1e3 * (time.perf_counter() - started_s))
    return took, answer
