"""`POST …/infer`: JSON and binary tensors both ways, and every way in which a request can be wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy
import pytest

from serve_apps.oip.hooks import Limits
from serve_apps.oip.tensor_bytes import write_tensor
from serve_apps.tensors import DTYPES
from tests.unit.oip import models
from tests.unit.oip.examples import EXAMPLES
from tests.unit.oip.server import Reply, Server

A = {"name": "a", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
B = {"name": "b", "datatype": "FP32", "shape": [1, 4], "data": [[0.5, 2, 3, 4]]}
INFER = "/v2/models/add/infer"


@pytest.fixture
def server() -> Server:
    return Server(models.everything())


def binary(server: Server, path: str, document: Any, *tensors: bytes, **headers: str) -> Reply:
    head = json.dumps(document).encode()
    return server.post(path, b"".join([head, *tensors]), **{"inference_header_content_length": str(len(head)), **headers})


def tensors_of(reply: Reply) -> dict[str, bytes]:
    """The binary tensors behind an answer's JSON."""
    length = int(reply.headers["inference-header-content-length"])
    offset, found = length, {}
    for output in json.loads(reply.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = reply.body[offset : offset + size]
        offset += size
    assert offset == len(reply.body)
    return found


def test_a_request_in_json_is_answered_in_json(server: Server) -> None:
    reply = server.post(INFER, {"id": "seven", "inputs": [A, B], "unknown": 1})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "id": "seven",
        "model_name": "add",
        "model_version": "1",
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [1, 4], "data": [1.5, 4.0, 6.0, 8.0]},
            {"name": "difference", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 0.0, 0.0, 0.0]},
        ],
    }


@pytest.mark.parametrize("given", [{}, {"id": ""}, {"id": None}])
def test_no_id_comes_back_where_none_was_given(server: Server, given: dict[str, Any]) -> None:
    assert "id" not in server.post(INFER, {"inputs": [A, B], **given}).json


def test_only_the_outputs_that_were_asked_for_come_back(server: Server) -> None:
    reply = server.post(INFER, {"inputs": [A, B], "outputs": [{"name": "difference"}]})
    assert [output["name"] for output in reply.json["outputs"]] == ["difference"]
    assert len(server.post(INFER, {"inputs": [A, B], "outputs": []}).json["outputs"]) == 2


def test_an_output_may_come_back_as_classes(server: Server) -> None:
    reply = server.post(INFER, {"inputs": [A, B], "outputs": [{"name": "sum", "parameters": {"classification": 2}}]})
    assert reply.json["outputs"] == [{"name": "sum", "datatype": "BYTES", "shape": [1, 2], "data": ["8.000000:3", "6.000000:2"]}]


def test_a_version_may_be_named(server: Server) -> None:
    server.plane.add(models.add(version="2"))
    assert server.post(INFER, {"inputs": [A, B]}).json["model_version"] == "2"
    assert server.post("/v2/models/add/versions/1/infer", {"inputs": [A, B]}).json["model_version"] == "1"
    assert server.post("/v2/models/add/versions/3/infer", {"inputs": [A, B]}).status == 404


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_through_as_a_binary_tensor(server: Server, datatype: str) -> None:
    array = EXAMPLES[datatype]
    data = bytes(write_tensor(datatype, array))
    document = {
        "inputs": [{"name": "x", "datatype": datatype, "shape": array.shape, "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }
    reply = binary(server, f"/v2/models/identity-{datatype.lower()}/infer", document, data)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    assert tensors_of(reply) == {"y": data}


def test_binary_and_json_tensors_mix_in_both_directions(server: Server) -> None:
    raw = numpy.array([1, 2, 3, 4], "<f4").tobytes()
    inputs = [{"name": "a", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}, B]
    outputs = [{"name": "sum", "parameters": {"binary_data": True}}, {"name": "difference"}]
    reply = binary(server, INFER, {"inputs": inputs, "outputs": outputs}, raw)
    head = json.loads(reply.body[: int(reply.headers["inference-header-content-length"])])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert head["outputs"][1]["data"] == [0.5, 0.0, 0.0, 0.0]
    assert reply.body[-16:] == numpy.array([1.5, 4, 6, 8], "<f4").tobytes()


def test_what_an_output_says_of_binary_data_wins_over_what_the_request_says(server: Server) -> None:
    document = {
        "inputs": [A, B],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "sum", "parameters": {"binary_data": False}}],
    }
    reply = server.post(INFER, document)
    assert "inference-header-content-length" not in reply.headers
    assert reply.json["outputs"][0]["data"] == [1.5, 4.0, 6.0, 8.0]


def test_a_body_may_be_one_tensor_and_nothing_else(server: Server) -> None:
    data = numpy.array([1, 2, 3], "<f4").tobytes()
    assert tensors_of(server.post("/v2/models/vector-fp32/infer", data, inference_header_content_length="0")) == {"y": data}
    text = server.post("/v2/models/shout/infer", b"hey", inference_header_content_length="0")
    assert tensors_of(text) == {"loud": struct.pack("<I", 3) + b"HEY"}


def test_reserved_parameters_reach_the_schedule_and_not_the_model() -> None:
    model = models.add()
    Server([model]).post(INFER, {"inputs": [A, B], "parameters": {"priority": 1, "timeout": 3_600_000_000, "mine": "x"}})
    (seen,) = model.seen
    assert (dict(seen.parameters), seen.priority) == ({"mine": "x"}, 1)
    assert 3500 < seen.remaining_s() <= 3600


def test_a_header_may_name_a_timeout() -> None:
    model = models.add()
    Server([model]).post(INFER, {"inputs": [A, B]}, x_request_timeout_ms="1000")
    assert 0 < model.seen[0].remaining_s() <= 1


RAW_A = {"name": "a", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}

WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "bad_json"),
    "no inputs": ({}, "bad_request"),
    "inputs that are no array": ({"inputs": {}}, "bad_request"),
    "an input that is no object": ({"inputs": [1]}, "bad_request"),
    "an input without a name": ({"inputs": [{**A, "name": None}]}, "bad_name"),
    "a name of another type": ({"inputs": [{**A, "name": 1}]}, "bad_name"),
    "an empty name": ({"inputs": [{**A, "name": ""}]}, "bad_name"),
    "a very long name": ({"inputs": [{**A, "name": "x" * 10_000}]}, "bad_name"),
    "no datatype": ({"inputs": [{**A, "datatype": None}]}, "unknown_datatype"),
    "an unknown datatype": ({"inputs": [{**A, "datatype": "FP8"}]}, "unknown_datatype"),
    "no shape": ({"inputs": [{**A, "shape": None}]}, "wrong_shape"),
    "a size that is no integer": ({"inputs": [{**A, "shape": [1.0, 4]}]}, "wrong_shape"),
    "a size that is a boolean": ({"inputs": [{**A, "shape": [True, 4]}]}, "wrong_shape"),
    "a negative size": ({"inputs": [{**A, "shape": [-1, 4]}]}, "wrong_shape"),
    "a size beyond all bounds": ({"inputs": [{**A, "shape": [10**30]}]}, "wrong_shape"),
    "a shape whose product overflows": ({"inputs": [{**A, "shape": [2**31 - 1] * 3}]}, "wrong_shape"),
    "very many dimensions": ({"inputs": [{**A, "shape": [1] * 1000}]}, "wrong_shape"),
    "no data": ({"inputs": [{**A, "data": None}, B]}, "wrong_value"),
    "too few elements": ({"inputs": [{**A, "data": [1]}, B]}, "wrong_data_size"),
    "an input given twice": ({"inputs": [A, A, B]}, "duplicate_input"),
    "an unknown input": ({"inputs": [A, B, {**A, "name": "c"}]}, "unknown_input"),
    "a missing input": ({"inputs": [A]}, "missing_input"),
    "a datatype that the model does not take": ({"inputs": [A, {**B, "datatype": "FP64"}]}, "wrong_dtype"),
    "a shape that the model does not take": ({"inputs": [A, {**B, "shape": [4, 1]}]}, "wrong_shape"),
    "an id of another type": ({"id": 7, "inputs": [A, B]}, "bad_request"),
    "outputs that are no array": ({"inputs": [A, B], "outputs": {}}, "bad_request"),
    "an output without a name": ({"inputs": [A, B], "outputs": [{}]}, "bad_name"),
    "an unknown output": ({"inputs": [A, B], "outputs": [{"name": "nope"}]}, "unknown_output"),
    "parameters that are no object": ({"inputs": [A, B], "parameters": []}, "bad_parameter"),
    "a nested parameter": ({"inputs": [A, B], "parameters": {"x": {}}}, "bad_parameter"),
    "a parameter of null": ({"inputs": [A, B], "parameters": {"x": None}}, "bad_parameter"),
    "a priority of another type": ({"inputs": [A, B], "parameters": {"priority": "high"}}, "bad_parameter"),
    "a negative timeout": ({"inputs": [A, B], "parameters": {"timeout": -1}}, "bad_parameter"),
    "a flag of another type": ({"inputs": [A, B], "parameters": {"binary_data_output": 1}}, "bad_parameter"),
    "a number of classes of another type": (
        {"inputs": [A, B], "outputs": [{"name": "sum", "parameters": {"classification": "2"}}]},
        "bad_parameter",
    ),
    "binary data that did not come": ({"inputs": [RAW_A, B]}, "wrong_data_size"),
    "data beside binary data": ({"inputs": [{**A, "parameters": {"binary_data_size": 0}}, B]}, "bad_request"),
    "a negative size of binary data": ({"inputs": [{**RAW_A, "parameters": {"binary_data_size": -16}}, B]}, "bad_parameter"),
    "a size of binary data that is a boolean": ({"inputs": [{**RAW_A, "parameters": {"binary_data_size": True}}, B]}, "bad_parameter"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_document_is_refused_with_400_and_a_code(server: Server, case: str) -> None:
    document, code = WRONG[case]
    reply = server.post(INFER, document)
    assert (reply.status, reply.json["code"]) == (400, code)
    assert isinstance(reply.json["error"], str)


NOT_JSON = [
    b"", b"{", b"\xff\xfe", b"NaN", b'{"inputs": [NaN]}', b'{"inputs": [Infinity]}', b'{"inputs": [1e999]}', b"[" * 100_000,
    b'{"a":' * 5_000, b'"\\ud800"',
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_is_refused(server: Server, body: bytes) -> None:
    reply = server.post(INFER, body)
    assert (reply.status, reply.json["code"]) == (400, "bad_json")


def test_a_json_bomb_is_refused_before_it_is_parsed(server: Server) -> None:
    bomb = b'{"inputs":[' + b"[]," * 8_000_000 + b"[]]}"
    reply = server.post(INFER, bomb)
    assert (reply.status, reply.json["code"]) == (413, "too_large")


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999999999999999999", "200000"])
def test_a_header_length_that_is_none_is_refused(server: Server, length: str) -> None:
    reply = server.post(INFER, {"inputs": [A, B]}, inference_header_content_length=length)
    assert (reply.status, reply.json["code"]) == (400, "bad_header")


@pytest.mark.parametrize(("sent", "claimed"), [(15, 16), (17, 16), (12, 12), (0, 16)])
def test_binary_data_of_the_wrong_length_is_refused(server: Server, sent: int, claimed: int) -> None:
    document = {"inputs": [{**RAW_A, "parameters": {"binary_data_size": claimed}}, B]}
    reply = binary(server, INFER, document, bytes(sent))
    assert (reply.status, reply.json["code"]) == (400, "wrong_data_size")


@pytest.mark.parametrize("model", ["add", "identity-fp32"])
def test_a_raw_body_is_refused_where_its_shape_is_not_known(server: Server, model: str) -> None:
    reply = server.post(f"/v2/models/{model}/infer", bytes(16), inference_header_content_length="0")
    assert (reply.status, reply.json["code"]) == (400, "bad_raw_request")
    odd = server.post("/v2/models/vector-fp32/infer", bytes(15), inference_header_content_length="0")
    assert (odd.status, odd.json["code"]) == (400, "wrong_data_size")


def test_an_unknown_model_is_not_found(server: Server) -> None:
    reply = server.post("/v2/models/ad/infer", {"inputs": []})
    assert (reply.status, reply.json["code"], reply.json["hint"]) == (404, "unknown_model", "did you mean add?")


def test_a_model_that_streams_does_not_infer(server: Server) -> None:
    reply = server.post("/v2/models/count/infer", {"inputs": [{"name": "n", "datatype": "INT32", "shape": [1], "data": [1]}]})
    assert (reply.status, reply.json["code"]) == (501, "unsupported")


def test_shared_memory_is_not_supported(server: Server) -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
    assert server.post(INFER, {"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 4], "parameters": region}, B]}).status == 501
    assert server.post(INFER, {"inputs": [A, B], "outputs": [{"name": "sum", "parameters": region}]}).status == 501


def test_json_over_its_limit_is_refused(server: Server) -> None:
    small = Server([models.add()], limits=Limits(json_bytes=100))
    assert small.post(INFER, {"inputs": [A, B]}).status == 413
