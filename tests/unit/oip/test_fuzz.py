"""Whatever comes in, a declared status goes out, and nothing stays behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import random
import tracemalloc
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_apps.oip.protobuf_codec import write_request
from serve_apps.tensors import DTYPES, InferRequest, Tensor
from tests.unit.oip import models
from tests.unit.oip.examples import EXAMPLES
from tests.unit.oip.server import Server, call

DECLARED = {200, 400, 404, 413, 501}
"""What these models' clients can bring about. A 500 is none of them: no model here fails."""

SERVER = Server(models.everything())
VALID = {
    "id": "7",
    "parameters": {"binary_data_output": False, "timeout": 0},
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2, 3, 4]], "parameters": {}},
        {"name": "b", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
    ],
    "outputs": [{"name": "sum", "parameters": {"binary_data": True, "classification": 1}}],
}
ODD: list[Any] = [
    None, True, -1, 0, 1.5, 2**31, 2**63, 2**64, -(2**63), 1e308, "", "x", "BYTES", "a", "sum", "\x00", "é" * 300, [], {}, [[]], [None],
    {"a": []}, [1, [2]], [2**40, 2**40], "FP16", "binary_data_size",
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "shape", "x", "inputs"]), inner, max_size=4)
    ),
    max_leaves=12,
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def mutated(document: Any, seed: int) -> Any:
    """`document` with up to three members replaced, removed, renamed or doubled."""
    chance = random.Random(seed)
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return document
        owner, key = chance.choice(places)
        match chance.randrange(4):
            case 0:
                owner[key] = copy.deepcopy(chance.choice(ODD))
            case 1:
                del owner[key]
            case 2 if isinstance(owner, dict):
                owner[chance.choice(["name", "data", "parameters", "binary_data_size", "zzz"])] = owner.pop(key)
            case _ if isinstance(owner, list):
                owner.append(copy.deepcopy(owner[key]))
    return document


def _places(node: Any) -> Any:
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def check(path: str, body: bytes, **headers: str) -> None:
    reply = SERVER.call("POST", path, body, headers)
    assert reply.status in DECLARED, (reply.status, reply.body[:300])
    if reply.status != 200 and not path.startswith("/grpc"):
        assert isinstance(reply.json["error"], str | dict)


@quick
@given(st.integers(0, 2**32))
def test_a_damaged_document_never_has_an_undeclared_status(seed: int) -> None:
    body = json.dumps(mutated(VALID, seed)).encode()
    check("/v2/models/add/infer", body)
    check("/v2/models/add/infer", body + bytes(16), **{"inference-header-content-length": str(len(body))})
    check("/v2/models/shout/generate", json.dumps(mutated({"text_input": "x", "parameters": {"a": 1}, "id": "1"}, seed)).encode())


@quick
@given(json_values, st.sampled_from(["infer", "generate", "generate_stream"]), st.sampled_from(["add", "shout", "spell", "count"]))
def test_any_json_never_has_an_undeclared_status(document: Any, verb: str, model: str) -> None:
    check(f"/v2/models/{model}/{verb}", json.dumps(document).encode())


@quick
@given(
    st.binary(max_size=200), st.sampled_from(["/v2/models/add/infer", "/grpc/ModelInfer", "/grpc/ModelStreamInfer", "/grpc/ModelConfig"])
)
def test_any_bytes_never_have_an_undeclared_status(body: bytes, path: str) -> None:
    check(path, body)
    check(path, body, **{"content-encoding": "gzip", "inference-header-content-length": "0"})


MESSAGES = [
    b"".join(write_request(InferRequest(f"identity-{name.lower()}", (Tensor("x", name, EXAMPLES[name], {"p": 1.5}),), id="7")))
    for name in DTYPES
]


@quick
@given(st.sampled_from(MESSAGES), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(0, 400))
def test_a_damaged_message_never_has_an_undeclared_status(message: bytes, damage: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(message)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    check("/grpc/ModelInfer", bytes(damaged[: length + 1] if length % 2 else damaged))


def test_bad_requests_leave_no_memory_behind() -> None:
    async def bad_requests(first: int, count: int) -> None:
        for seed in range(first, first + count):
            body = json.dumps(mutated(VALID, seed)).encode()
            await call(SERVER.app, "POST", "/v2/models/add/infer", body, {})
            await call(SERVER.app, "POST", f"/v2/models/{seed % 7}/infer", body, {})
            await call(SERVER.app, "POST", "/grpc/ModelInfer", body, {})

    def grown_bytes(first: int, count: int) -> int:
        before = tracemalloc.get_traced_memory()[0]
        asyncio.run(bad_requests(first, count))
        for model in SERVER.plane.models():
            getattr(model, "seen", []).clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grown_bytes(0, 100)
        assert grown_bytes(100, 200) < 100_000
    finally:
        tracemalloc.stop()
