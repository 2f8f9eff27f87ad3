"""The bodies that all servers are sent."""

from __future__ import annotations

import json
import random
import struct

_FLOATS = 16


def floats(count: int = _FLOATS) -> list[float]:
    """float32 values with all their digits, as a client's `tolist()` writes them."""
    rng = random.Random(0)
    return list(struct.unpack(f"<{count}f", struct.pack(f"<{count}f", *(rng.gauss(0, 1) for _ in range(count)))))


def echo_body() -> bytes:
    """Open Inference Protocol, JSON: one input `x: float32[16]`, about 480 bytes."""
    return infer_body("x", (_FLOATS,), floats())


def infer_body(name: str, shape: tuple[int, ...], data: list[float]) -> bytes:
    tensor = {"name": name, "shape": list(shape), "datatype": "FP32", "data": data}
    return json.dumps({"id": "1", "inputs": [tensor]}).encode()


def is_echo(answer: bytes) -> bool:
    """Whether an answer holds the numbers that were sent, as outputs or, where the server does not speak the protocol, as inputs."""
    content = json.loads(answer)
    tensor = (content.get("outputs") or content.get("inputs"))[0]
    return all(abs(got - sent) < 1e-6 for got, sent in zip(tensor["data"], floats(), strict=True))
