"""Bad requests without end, drawn from a seed: the known ones, and good ones broken at random in their bytes or in their structure."""

from __future__ import annotations

import copy
import gzip
import json
import random
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from serve_apps.oip.conformance.messages import CLASSES
from tests.foreign.cases import BAD, FP32, GOOD, JSON, Case

MODELS = ("identity_fp32", "identity_int64", "identity_bytes", "identity_bool", "add", "vector", "echo_text", "words", "nope", "")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    "x",
    "\x00",
    "é",
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [None] * 50,
)
METHODS = ("ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelReady", "ModelStatistics", "ModelConfig", "RepositoryIndex", "Nope")
GZIP_BOMB = gzip.compress(b"[" + b"0," * (48 * 2**20) + b"0]", compresslevel=1)
"""96 MiB once it is open: more than a server should hold."""
MODEL_FAILS = "a model that raises"
"""The one case that may be answered with 500."""


@dataclass(frozen=True, slots=True)
class Call:
    """A gRPC call of raw bytes."""

    method: str
    message: bytes
    headers: dict[str, str] = field(default_factory=dict)


def endless(seed: int) -> Iterator[Case | Call]:
    """One bad request after the other; some turn out to be good."""
    draw = random.Random(seed)
    makers: list[tuple[Callable[[random.Random], Case | Call], int]] = [
        (known, 25), (with_flipped_bytes, 20), (with_other_values, 25), (cut_short, 8), (with_wrong_lengths, 6), (bomb, 1), (long_path, 1),
        (fuzzed_call, 10), (random_call, 5),
    ]  # fmt: skip
    chosen, weights = zip(*makers, strict=True)
    while True:
        (maker,) = draw.choices(chosen, weights)
        yield maker(draw)


def known(draw: random.Random) -> Case:
    return draw.choice(BAD)


def with_flipped_bytes(draw: random.Random) -> Case:
    case = draw.choice(GOOD)
    return Case("flipped", case.method, case.path, flipped(draw, case.body), case.headers)


def flipped(draw: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.randint(1, 6)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def cut_short(draw: random.Random) -> Case:
    case = draw.choice(GOOD)
    return Case("cut", case.method, case.path, case.body[: draw.randint(0, len(case.body))], case.headers)


def with_other_values(draw: random.Random) -> Case:
    """A good document with one to three members replaced, taken away or put elsewhere."""
    case = draw.choice([case for case in GOOD if case.body.startswith(b"{") and case.body.endswith(b"}")])
    document = json.loads(case.body)
    for _ in range(draw.randint(1, 3)):
        holder, key = draw.choice(list(places(document)) or [(document, "inputs")])
        if draw.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    path = case.path if draw.random() < 0.8 else f"/v2/models/{draw.choice(MODELS)}/infer"
    return Case("values", "POST", path, json.dumps(document).encode(), JSON)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of every object and list."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in list(pairs):
        yield document, key
        yield from places(value)


def with_wrong_lengths(draw: random.Random) -> Case:
    size = draw.choice((0, 1, 8, 2**20, 2**40, -1))
    tensor = {"name": "INPUT0", "datatype": draw.choice(("FP32", "BYTES", "BOOL", "FP16")), "shape": [draw.choice((0, 1, 2, 2**31)), 2]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    length = draw.choice((len(head), 0, 1, len(head) - 1, len(head) + 1, 2**31, -5))
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    tail = struct.pack("<I", draw.choice((0, 3, 2**31))) + draw.randbytes(draw.randint(0, 40))
    return Case("lengths", "POST", f"/v2/models/{draw.choice(MODELS)}/infer", head + tail, headers)


def bomb(draw: random.Random) -> Case:
    """Small to send, large to hold: deep nesting, long numbers, many members, bytes that were compressed well."""
    bodies = (
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b'{"inputs": [' + b"9" * 50_000 + b"]}",
        b'{"inputs": [' + b"{}," * 20_000 + b"{}]}",
        b'{"inputs": "' + b"\\u0000" * 10_000 + b'"}',
    )
    if draw.random() < 0.3:
        packed = GZIP_BOMB if draw.random() < 0.3 else gzip.compress(b"[" * 10**6)
        return Case("gzip bomb", "POST", f"/v2/models/{FP32}/infer", packed, {**JSON, "Content-Encoding": "gzip"})
    return Case("bomb", "POST", f"/v2/models/{FP32}/infer", draw.choice(bodies), JSON)


def long_path(draw: random.Random) -> Case:
    """Each another one: a server must keep none of them."""
    word = draw.randbytes(draw.choice((10, 500, 15_000))).hex()
    return Case("long path", "GET", draw.choice((f"/v2/models/{word}", f"/{word}", f"/v2/models/add/{word}")))


def fuzzed_call(draw: random.Random) -> Call:
    """A ModelInferRequest broken in its fields, its bytes, or both."""
    request = CLASSES["ModelInferRequest"](model_name=draw.choice(MODELS), id="x" * draw.choice((0, 3, 2000)))
    for _ in range(draw.randint(0, 3)):
        tensor = request.inputs.add(
            name=draw.choice(("INPUT0", "a", "b", "text_input", "")), datatype=draw.choice(("FP32", "INT64", "BYTES", "?", ""))
        )
        tensor.shape.extend(draw.choice(((1, 2), (2,), (-1, 2), (2**62, 4), ())))
        draw.choice((tensor.contents.fp32_contents, tensor.contents.int64_contents)).extend([1] * draw.choice((0, 1, 2, 7)))
        if draw.random() < 0.3:
            request.raw_input_contents.append(draw.randbytes(draw.choice((0, 4, 8, 9))))
    wire = request.SerializeToString()
    return Call(draw.choice(METHODS[:2]), flipped(draw, wire) if draw.random() < 0.6 else wire[: draw.randint(0, len(wire))])


def random_call(draw: random.Random) -> Call:
    return Call(draw.choice(METHODS), draw.randbytes(draw.choice((0, 1, 5, 30, 300))))
