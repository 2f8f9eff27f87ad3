"""The requests that are sent to Triton and to our server alike, so that the two answers can be compared.

Both serve the same models: `identity_<datatype>` (`INPUT0` -> `OUTPUT0`, shape [-1, -1]), `add` (`a`, `b` FP32 [-1, 3], batched up
to 8 -> `sum`, `difference`), `vector` (FP32 [-1]), `echo_text` and `words` (`text_input` -> `text_output`, BYTES [1]; `words` answers
once per word), `failing` (FP32 [-1], raises).
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def post(name: str, path: str, document: Any, **headers: str) -> Case:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Case(name, "POST", path, body, {**JSON, **{key.replace("_", "-"): value for key, value in headers.items()}})


def tensor(name: str, datatype: str, shape: list[Any], data: Any = None, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        found["data"] = data
    if parameters:
        found["parameters"] = parameters
    return found


def infer(name: str, model: str, *inputs: Any, **rest: Any) -> Case:
    return post(name, f"/v2/models/{model}/infer", {"inputs": list(inputs), **rest})


def binary(name: str, model: str, document: dict[str, Any], tail: bytes, *, header_size: int | str | None = None) -> Case:
    head = json.dumps(document).encode()
    size = len(head) if header_size is None else header_size
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(size)}
    return Case(name, "POST", f"/v2/models/{model}/infer", head + tail, headers)


FP32 = "identity_fp32"
ONE = tensor("INPUT0", "FP32", [1, 2], [1.5, -2.5])
A, B = tensor("a", "FP32", [1, 3], [1, 2, 3]), tensor("b", "FP32", [1, 3], [4, 5, 6])
RAW = struct.pack("<2f", 1.5, -2.5)
BIN = tensor("INPUT0", "FP32", [1, 2], binary_data_size=8)
TEXT = struct.pack("<I", 2) + b"hi" + struct.pack("<I", 0)

DEEP = b"[" * 1000 + b"1,2" + b"]" * 1000

ROUTES = [
    *(Case(f"GET {path}", "GET", path) for path in (
        "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/add", "/v2/models/add/", "/v2/models/add/ready",
        "/v2/models/add/versions/1", "/v2/models/add/versions/1/ready", "/v2/models/identity_bytes", "/v2/models/vector",
        "/v2/models/nope", "/v2/models/nope/ready", "/v2/models/add/versions/9", "/v2/models/add/versions/9/ready",
        "/v2/models/add/versions/x", "/v2/models/add/versions/x/ready", "/v2/nope", "/nope", "/", "/v2/models", "/v2/models/",
        "/v2/models/stats", "/v2/models/add/stats", "/v2/models/add/versions/1/stats",
        "/v2/models/nope/stats", "/v2/models/add/versions/9/stats",
        "/v2/models/add/config", "/v2/models/nope/config", "/v2/models/add/infer", "/v2/repository/index", "/v2/models/add/nope",
        "/v2/models/a%64d", "/v2/health/nope", "/v2/trace/setting", "/v2/logging",
    )),
    Case("POST /v2", "POST", "/v2"),
    Case("DELETE /v2/models/add", "DELETE", "/v2/models/add"),
    Case("POST /v2/health/live", "POST", "/v2/health/live"),
    Case("HEAD /v2/health/live", "HEAD", "/v2/health/live"),
    post("repository index", "/v2/repository/index", {}),
    post("repository index, no body", "/v2/repository/index", b""),
    post("repository index, ready", "/v2/repository/index", {"ready": True}),
    post("repository index, ready is text", "/v2/repository/index", {"ready": "yes"}),
    post("repository index, not JSON", "/v2/repository/index", b"{nope"),
    post("load of an unknown model", "/v2/repository/models/nope/load", {}),
    post("unload of an unknown model", "/v2/repository/models/nope/unload", {}),
    post("load, not JSON", "/v2/repository/models/nope/load", b"{nope"),
]  # fmt: skip

GOOD = [
    infer("flat", FP32, ONE),
    infer("nested", FP32, tensor("INPUT0", "FP32", [1, 2], [[1.5, -2.5]])),
    infer("nested wrongly but of the right count", FP32, tensor("INPUT0", "FP32", [2, 2], [[1, 2, 3], [4]])),
    infer("id", FP32, ONE, id="abc"),
    infer("id empty", FP32, ONE, id=""),
    infer("unknown members", FP32, {**ONE, "colour": "red"}, colour="red"),
    infer("parameters", FP32, ONE, parameters={"a": 1, "b": "x", "c": True, "d": 1.5}),
    infer("parameters nested", FP32, ONE, parameters={"a": {"b": 1}}),
    infer("parameters of an input", FP32, tensor("INPUT0", "FP32", [1, 2], [1, 2], note="x")),
    infer("parameters null", FP32, ONE, parameters=None),
    infer("zero elements", FP32, tensor("INPUT0", "FP32", [0, 2], [])),
    infer("zero elements elsewhere", FP32, tensor("INPUT0", "FP32", [2, 0], [])),
    infer("integers for floats", FP32, tensor("INPUT0", "FP32", [1, 2], [1, 2])),
    infer("a float that is not whole in float32", FP32, tensor("INPUT0", "FP32", [1, 2], [0.1, 1e-45])),
    infer("a float too large for float32", FP32, tensor("INPUT0", "FP32", [1, 1], [1e39])),
    infer("a float too large for float64", "identity_fp64", tensor("INPUT0", "FP64", [1, 1], [1e308])),
    infer("requested output", FP32, ONE, outputs=[{"name": "OUTPUT0"}]),
    infer("requested outputs empty", FP32, ONE, outputs=[]),
    infer("two outputs", "add", A, B),
    infer("one of two outputs", "add", A, B, outputs=[{"name": "difference"}]),
    infer("two outputs, other order", "add", A, B, outputs=[{"name": "difference"}, {"name": "sum"}]),
    infer("the same output twice", "add", A, B, outputs=[{"name": "sum"}, {"name": "sum"}]),
    infer("inputs in other order", "add", B, A),
    infer("unknown version in path is apart", "add/versions/1", A, B),
    infer("classification", FP32, ONE, outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1}}]),
    infer("priority and timeout", FP32, ONE, parameters={"priority": 1, "timeout": 1000000}),
    infer("binary_data false", FP32, ONE, outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": False}}]),
    infer("binary output", FP32, ONE, outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": True}}]),
    infer("binary_data_output", FP32, ONE, parameters={"binary_data_output": True}),
    infer("binary_data_output, overridden", "add", A, B, parameters={"binary_data_output": True},
          outputs=[{"name": "sum", "parameters": {"binary_data": False}}, {"name": "difference"}]),
    infer("BOOL", "identity_bool", tensor("INPUT0", "BOOL", [1, 2], [True, False])),
    infer("BOOL as numbers", "identity_bool", tensor("INPUT0", "BOOL", [1, 2], [1, 0])),
    infer("BOOL as 2", "identity_bool", tensor("INPUT0", "BOOL", [1, 1], [2])),
    *(infer(f"{name} extremes", f"identity_{name.lower()}", tensor("INPUT0", name, [1, 2], [low, high])) for name, low, high in (
        ("UINT8", 0, 255), ("UINT16", 0, 65535), ("UINT32", 0, 2**32 - 1), ("UINT64", 0, 2**64 - 1),
        ("INT8", -128, 127), ("INT16", -(2**15), 2**15 - 1), ("INT32", -(2**31), 2**31 - 1), ("INT64", -(2**63), 2**63 - 1))),
    infer("FP16 as JSON", "identity_fp16", tensor("INPUT0", "FP16", [1, 2], [1.5, 2])),
    infer("FP64", "identity_fp64", tensor("INPUT0", "FP64", [1, 2], [0.1, -1e300])),
    infer("BYTES", "identity_bytes", tensor("INPUT0", "BYTES", [1, 3], ["a", "", "é€😀"])),
    infer("BYTES nested", "identity_bytes", tensor("INPUT0", "BYTES", [1, 2], [["a", "b"]])),
    infer("BYTES with a zero", "identity_bytes", tensor("INPUT0", "BYTES", [1, 1], ["a\x00b"])),
    binary("binary", FP32, {"inputs": [BIN]}, RAW),
    binary("binary, both ways", FP32, {"inputs": [BIN], "parameters": {"binary_data_output": True}}, RAW),
    binary("binary BYTES", "identity_bytes", {"inputs": [tensor("INPUT0", "BYTES", [1, 2], binary_data_size=10)]}, TEXT),
    binary("binary BYTES that are no text, as JSON", "identity_bytes",
           {"inputs": [tensor("INPUT0", "BYTES", [1, 1], binary_data_size=6)]}, struct.pack("<I", 2) + b"\xff\xfe"),
    binary("binary FP16", "identity_fp16", {"inputs": [tensor("INPUT0", "FP16", [1, 2], binary_data_size=4)],
           "parameters": {"binary_data_output": True}}, b"\x00\x3c\x00\x40"),
    binary("binary FP16, answered as JSON", "identity_fp16",
           {"inputs": [tensor("INPUT0", "FP16", [1, 2], binary_data_size=4)]}, b"\x00\x3c\x00\x40"),
    binary("mixed", "add", {"inputs": [A, tensor("b", "FP32", [1, 3], binary_data_size=12)]}, struct.pack("<3f", 4, 5, 6)),
    Case("raw", "POST", "/v2/models/vector/infer", RAW,
         {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}),
    Case("raw to two dimensions", "POST", f"/v2/models/{FP32}/infer", RAW, {"Inference-Header-Content-Length": "0"}),
    Case("raw to two inputs", "POST", "/v2/models/add/infer", RAW, {"Inference-Header-Content-Length": "0"}),
    Case("gzip", "POST", f"/v2/models/{FP32}/infer", gzip.compress(json.dumps({"inputs": [ONE]}).encode()),
         {**JSON, "Content-Encoding": "gzip"}),
    Case("deflate", "POST", f"/v2/models/{FP32}/infer", zlib.compress(json.dumps({"inputs": [ONE]}).encode()),
         {**JSON, "Content-Encoding": "deflate"}),
    post("generate", "/v2/models/echo_text/generate", {"text_input": "hello"}),
    post("generate, version", "/v2/models/echo_text/versions/1/generate", {"text_input": "hello"}),
    post("generate, id and parameters", "/v2/models/echo_text/generate",
         {"id": "7", "text_input": "hello", "parameters": {"temperature": 0.5}}),
    post("generate_stream", "/v2/models/echo_text/generate_stream", {"text_input": "hello"}),
    post("generate_stream of words", "/v2/models/words/generate_stream", {"text_input": "one two three"}),
    post("generate of one word", "/v2/models/words/generate", {"text_input": "one"}),
    post("generate of words", "/v2/models/words/generate", {"text_input": "one two three"}),
    infer("infer of words", "words", tensor("text_input", "BYTES", [1], ["one two"])),
]  # fmt: skip

BAD = [
    infer("unknown model", "nope", ONE),
    infer("unknown version", f"{FP32}/versions/9", ONE),
    infer("version that is no number", f"{FP32}/versions/x", ONE),
    infer("wrong dtype", FP32, tensor("INPUT0", "INT32", [1, 2], [1, 2])),
    infer("unknown dtype", FP32, tensor("INPUT0", "FP33", [1, 2], [1, 2])),
    infer("dtype in small letters", FP32, tensor("INPUT0", "fp32", [1, 2], [1, 2])),
    infer("wrong rank", FP32, tensor("INPUT0", "FP32", [2], [1, 2])),
    infer("wrong size", "add", tensor("a", "FP32", [1, 2], [1, 2]), B),
    infer("batch too large", "add", tensor("a", "FP32", [9, 3], [0] * 27), tensor("b", "FP32", [9, 3], [0] * 27)),
    infer("batches that differ", "add", tensor("a", "FP32", [2, 3], [0] * 6), B),
    infer("too few elements", FP32, tensor("INPUT0", "FP32", [1, 2], [1])),
    infer("too many elements", FP32, tensor("INPUT0", "FP32", [1, 2], [1, 2, 3])),
    infer("negative size", FP32, tensor("INPUT0", "FP32", [-1, 2], [1, 2])),
    infer("size beyond int64", FP32, tensor("INPUT0", "FP32", [2**64, 1], [1])),
    infer("shape of text", FP32, tensor("INPUT0", "FP32", ["1", 2], [1, 2])),
    infer("shape of floats", FP32, tensor("INPUT0", "FP32", [1.0, 2.0], [1, 2])),
    infer("shape missing", FP32, {"name": "INPUT0", "datatype": "FP32", "data": [1, 2]}),
    infer("shape null", FP32, {"name": "INPUT0", "datatype": "FP32", "shape": None, "data": [1, 2]}),
    infer("datatype missing", FP32, {"name": "INPUT0", "shape": [1, 2], "data": [1, 2]}),
    infer("name missing", FP32, {"datatype": "FP32", "shape": [1, 2], "data": [1, 2]}),
    infer("data missing", FP32, tensor("INPUT0", "FP32", [1, 2])),
    infer("data null", FP32, {**tensor("INPUT0", "FP32", [1, 2]), "data": None}),
    infer("data an object", FP32, tensor("INPUT0", "FP32", [1, 2], {"a": 1})),
    infer("data a number", FP32, tensor("INPUT0", "FP32", [1, 1], 1)),
    infer("text for numbers", FP32, tensor("INPUT0", "FP32", [1, 2], ["1", "2"])),
    infer("true for a float", FP32, tensor("INPUT0", "FP32", [1, 1], [True])),
    infer("null for a float", FP32, tensor("INPUT0", "FP32", [1, 1], [None])),
    infer("NaN", FP32, tensor("INPUT0", "FP32", [1, 1], [float("nan")])),
    infer("floats for integers", "identity_int32", tensor("INPUT0", "INT32", [1, 2], [1.5, 2])),
    infer("whole floats for integers", "identity_int32", tensor("INPUT0", "INT32", [1, 2], [1.0, 2.0])),
    infer("overflow of INT8", "identity_int8", tensor("INPUT0", "INT8", [1, 1], [128])),
    infer("overflow of INT32", "identity_int32", tensor("INPUT0", "INT32", [1, 1], [2**31])),
    infer("overflow of INT64", "identity_int64", tensor("INPUT0", "INT64", [1, 1], [2**63])),
    infer("overflow of UINT64", "identity_uint64", tensor("INPUT0", "UINT64", [1, 1], [2**64])),
    infer("negative for UINT8", "identity_uint8", tensor("INPUT0", "UINT8", [1, 1], [-1])),
    infer("number for BYTES", "identity_bytes", tensor("INPUT0", "BYTES", [1, 1], [1])),
    infer("missing input", "add", A),
    infer("unknown input", "add", A, B, tensor("c", "FP32", [1, 3], [1, 2, 3])),
    infer("unknown input instead", FP32, tensor("nope", "FP32", [1, 2], [1, 2])),
    infer("duplicate input", FP32, ONE, ONE),
    infer("unknown output", FP32, ONE, outputs=[{"name": "nope"}]),
    infer("no inputs", FP32),
    post("inputs missing", f"/v2/models/{FP32}/infer", {}),
    post("inputs an object", f"/v2/models/{FP32}/infer", {"inputs": ONE}),
    post("inputs null", f"/v2/models/{FP32}/infer", {"inputs": None}),
    post("input a number", f"/v2/models/{FP32}/infer", {"inputs": [1]}),
    post("outputs an object", f"/v2/models/{FP32}/infer", {"inputs": [ONE], "outputs": {}}),
    post("output without name", f"/v2/models/{FP32}/infer", {"inputs": [ONE], "outputs": [{}]}),
    post("parameters a list", f"/v2/models/{FP32}/infer", {"inputs": [ONE], "parameters": [1]}),
    post("id a number", f"/v2/models/{FP32}/infer", {"inputs": [ONE], "id": 7}),
    post("id null", f"/v2/models/{FP32}/infer", {"inputs": [ONE], "id": None}),
    post("a list", f"/v2/models/{FP32}/infer", []),
    post("a number", f"/v2/models/{FP32}/infer", 7),
    post("null", f"/v2/models/{FP32}/infer", None),
    post("not JSON", f"/v2/models/{FP32}/infer", b"{nope"),
    post("no body", f"/v2/models/{FP32}/infer", b""),
    post("not UTF-8", f"/v2/models/{FP32}/infer", b'{"inputs": "\xff\xfe"}'),
    post("JSON with something behind it", f"/v2/models/{FP32}/infer", json.dumps({"inputs": [ONE]}).encode() + b" nope"),
    post("nested 100,000 deep", f"/v2/models/{FP32}/infer", b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    post("data nested 1,000 deep", f"/v2/models/{FP32}/infer",
         json.dumps({"inputs": [tensor("INPUT0", "FP32", [1, 2], "HERE")]}).encode().replace(b'"HERE"', DEEP)),
    post("another content type", f"/v2/models/{FP32}/infer", {"inputs": [ONE]}, Content_Type="text/plain"),
    binary("binary, truncated", FP32, {"inputs": [BIN]}, RAW[:5]),
    binary("binary, none", FP32, {"inputs": [BIN]}, b""),
    binary("binary, too long", FP32, {"inputs": [BIN]}, RAW + b"more"),
    binary("binary, size does not fit the shape", FP32, {"inputs": [tensor("INPUT0", "FP32", [1, 2], binary_data_size=4)]}, RAW[:4]),
    binary("binary, size negative", FP32, {"inputs": [tensor("INPUT0", "FP32", [1, 2], binary_data_size=-8)]}, RAW),
    binary("binary, size is text", FP32, {"inputs": [tensor("INPUT0", "FP32", [1, 2], binary_data_size="8")]}, RAW),
    binary("binary, and data", FP32, {"inputs": [{**BIN, "data": [1, 2]}]}, RAW),
    binary("binary, size 0 and data", FP32, {"inputs": [{**tensor("INPUT0", "FP32", [1, 2], binary_data_size=0), "data": [1, 2]}]}, b""),
    binary("header length too large", FP32, {"inputs": [BIN]}, RAW, header_size=10_000),
    binary("header length too small", FP32, {"inputs": [BIN]}, RAW, header_size=5),
    binary("header length is text", FP32, {"inputs": [BIN]}, RAW, header_size="x"),
    binary("header length negative", FP32, {"inputs": [BIN]}, RAW, header_size=-1),
    post("binary without its header", f"/v2/models/{FP32}/infer", json.dumps({"inputs": [BIN]}).encode() + RAW),
    binary("binary BYTES, length runs past the end", "identity_bytes",
           {"inputs": [tensor("INPUT0", "BYTES", [1, 1], binary_data_size=6)]}, struct.pack("<I", 99) + b"hi"),
    binary("binary BYTES, too few", "identity_bytes", {"inputs": [tensor("INPUT0", "BYTES", [1, 3], binary_data_size=10)]}, TEXT),
    binary("binary BYTES, too many", "identity_bytes", {"inputs": [tensor("INPUT0", "BYTES", [1, 1], binary_data_size=10)]}, TEXT),
    binary("binary BOOL of 2", "identity_bool", {"inputs": [tensor("INPUT0", "BOOL", [1, 1], binary_data_size=1)]}, b"\x02"),
    Case("gzip that is none", "POST", f"/v2/models/{FP32}/infer", b"nope", {**JSON, "Content-Encoding": "gzip"}),
    Case("unknown encoding", "POST", f"/v2/models/{FP32}/infer", json.dumps({"inputs": [ONE]}).encode(),
         {**JSON, "Content-Encoding": "br"}),
    infer("a model that raises", "failing", tensor("INPUT0", "FP32", [2], [1, 2])),
    post("generate, unknown model", "/v2/models/nope/generate", {"text_input": "x"}),
    post("generate, no text", "/v2/models/echo_text/generate", {}),
    post("generate, number", "/v2/models/echo_text/generate", {"text_input": 7}),
    post("generate, not JSON", "/v2/models/echo_text/generate", b"{nope"),
    post("generate of a tensor model", f"/v2/models/{FP32}/generate", {"text_input": "x"}),
    post("generate_stream, unknown model", "/v2/models/nope/generate_stream", {"text_input": "x"}),
    post("generate_stream, no text", "/v2/models/echo_text/generate_stream", {}),
    infer("timeout that is text", FP32, ONE, parameters={"timeout": "x"}),
    infer("priority negative", FP32, ONE, parameters={"priority": -1}),
    infer("sequence_id", FP32, ONE, parameters={"sequence_id": 7, "sequence_start": True}),
    infer("shared memory", FP32, tensor("INPUT0", "FP32", [1, 2], shared_memory_region="nope", shared_memory_byte_size=8)),
    # The last one: it ends the process of Triton's Python backend (2.51), whose product of the sizes overflows.
    infer("huge size", FP32, tensor("INPUT0", "FP32", [2**40, 2**40], [1])),
]  # fmt: skip

ALL = [*ROUTES, *GOOD, *BAD]
