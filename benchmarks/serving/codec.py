"""What our own code costs per request, without a network: an echo model called through the ASGI application, and the codecs alone.

    python benchmarks/serving/codec.py [--json] [--rounds N]

`json_16_fp32_us`: 16 floats in JSON, in and out. `binary_1mb_us`: a FP32 tensor of 1 MiB behind JSON, in pieces of 64 KiB as they come
from a socket, and back as binary. `protobuf_*`: the same as `ModelInferRequest`. `memcpy_1mb_us`: one copy of 1 MiB here, for scale.
Each is the median of the rounds' medians; `*_min_us` the least of all: on a busy machine it is the truer figure.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.protobuf_codec import write_request
from serve_apps.oip.rest import RestApp
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, options, report

GOALS = {"json_16_fp32_us": "< 60", "binary_1mb_us": "< 200"}
PIECE_BYTES = 2**16
NUM_FLOATS = 16
MB_FLOATS = 2**18


class Echo:
    """A `ServedModel` that does nothing."""

    version = "1"
    is_ready = True
    metadata = ModelMetadata("echo", ("1",), "python", (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))

    async def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse("echo", "1", (Tensor("y", "FP32", request.inputs[0].array),))

    def stream(self, request: InferRequest) -> Any:
        raise NotImplementedError

    def statistics(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        return None


def bodies() -> dict[str, tuple[str, bytes, list[tuple[bytes, bytes]], int]]:
    """Figure -> path, body, headers, requests in a round."""
    small = {"name": "x", "datatype": "FP32", "shape": [NUM_FLOATS], "data": [i + 0.5 for i in range(NUM_FLOATS)]}
    data = numpy.arange(MB_FLOATS, dtype="<f4").tobytes()
    large = {"name": "x", "datatype": "FP32", "shape": [MB_FLOATS], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [large], "parameters": {"binary_data_output": True}}).encode()
    length = (b"inference-header-content-length", str(len(head)).encode())
    infer, grpc = "/v2/models/echo/infer", "/grpc/ModelInfer"
    return {
        "json_16_fp32": (infer, json.dumps({"inputs": [small]}).encode(), [], 2000),
        "binary_1mb": (infer, head + data, [length], 300),
        "protobuf_16_fp32": (grpc, message(NUM_FLOATS), [], 2000),
        "protobuf_1mb": (grpc, message(MB_FLOATS), [], 300),
    }


def message(num_floats: int) -> bytes:
    return b"".join(write_request(InferRequest("echo", (Tensor("x", "FP32", numpy.arange(num_floats, dtype="<f4")),))))


async def round_us(app: RestApp, path: str, body: bytes, headers: list[tuple[bytes, bytes]], num_requests: int) -> list[float]:
    """The times of the requests of one round, sorted."""
    usual = [(b"host", b"localhost:8000"), (b"accept", b"*/*"), (b"user-agent", b"benchmark"), (b"content-type", b"application/json")]
    sent = [*usual, (b"content-length", str(len(body)).encode()), *headers]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": sent}
    pieces = [body[i : i + PIECE_BYTES] for i in range(0, len(body), PIECE_BYTES)]
    messages = [{"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1} for i, piece in enumerate(pieces)]
    times = []
    for _ in range(num_requests):
        left = iter(messages)

        async def receive(left: Any = left) -> Any:
            return next(left)

        async def send(answer: Any) -> None:
            assert answer.get("status", 200) == 200

        start_s = time.perf_counter()
        await app(scope, receive, send)
        times.append((time.perf_counter() - start_s) * 1e6)
    return sorted(times)


def memcpy_us() -> list[float]:
    data, times = bytes(2**20), []
    for _ in range(300):
        start_s = time.perf_counter()
        bytearray(data)
        times.append((time.perf_counter() - start_s) * 1e6)
    return sorted(times)


def main() -> None:
    arguments = options(__doc__ or "", rounds=5)
    plane = DataPlane()
    plane.add(Echo())
    app = RestApp(plane)
    rounds: dict[str, list[list[float]]] = {}
    for _ in range(arguments.rounds):
        for name, (path, body, headers, num_requests) in bodies().items():
            rounds.setdefault(name, []).append(asyncio.run(round_us(app, path, body, headers, num_requests)))
        rounds.setdefault("memcpy_1mb", []).append(memcpy_us())
    figures = {}
    for name, measured in rounds.items():
        figures[f"{name}_us"] = median([times[len(times) // 2] for times in measured])
        figures[f"{name}_min_us"] = min(times[0] for times in measured)
    report(figures, GOALS, as_json=arguments.json)


if __name__ == "__main__":
    main()
