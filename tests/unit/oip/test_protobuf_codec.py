"""Requests and answers as protobuf."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest

from fabric.errors import UserError
from serve_apps.oip.messages import ModelInferRequest
from serve_apps.oip.protobuf_codec import read_request, read_response, write_request, write_response
from serve_apps.tensors import InferRequest, InferResponse, RequestedOutput, Tensor
from tests.unit.oip.examples import EXAMPLES, same


def joined(parts: list[Any]) -> bytes:
    return b"".join(parts)


@pytest.mark.parametrize("datatype", EXAMPLES)
def test_every_datatype_survives_the_way_there_and_back(datatype: str) -> None:
    tensor = Tensor("x", datatype, EXAMPLES[datatype], {"flag": True})
    request = read_request(joined(write_request(InferRequest("m", (tensor, tensor), "3", id="7"))))
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "7")
    assert all(same(read, tensor) for read in request.inputs)
    response = read_response(joined(write_response(InferResponse("m", "3", (tensor,), "7", {"n": 2**64 - 1}))))
    assert same(response.outputs[0], tensor)
    assert response.parameters == {"n": 2**64 - 1}


def test_parameters_and_requested_outputs_are_read() -> None:
    own = {"ratio": 0.5, "text": "é"}
    parameters = {"priority": 2, "timeout": 1_500_000, **own}
    sent = InferRequest("m", (), parameters=parameters, outputs=(RequestedOutput("y", {"classification": 3}),))
    request = read_request(joined(write_request(sent)), now_s=10.0)
    assert dict(request.parameters) == own
    assert request.outputs == sent.outputs
    assert (request.priority, request.deadline_s) == (2, 11.5)


def test_a_header_may_name_an_earlier_deadline() -> None:
    body = joined(write_request(InferRequest("m", (), parameters={"timeout": 9_000_000})))
    assert read_request(body, {b"grpc-timeout": b"250m"}, now_s=1.0).deadline_s == 1.25
    assert read_request(joined(write_request(InferRequest("m", ()))), now_s=1.0).deadline_s == math.inf


TYPED: list[tuple[str, str, list[Any]]] = [
    ("BOOL", "bool_contents", [True, False]),
    ("UINT8", "uint_contents", [0, 255]),
    ("UINT16", "uint_contents", [0, 65535]),
    ("UINT32", "uint_contents", [0, 2**32 - 1]),
    ("UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("INT8", "int_contents", [-128, 127]),
    ("INT16", "int_contents", [-(2**15), 2**15 - 1]),
    ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("FP32", "fp32_contents", [1.5, math.inf]),
    ("FP64", "fp64_contents", [0.1, -2.0]),
    ("BYTES", "bytes_contents", [b"", b"\xff\x00"]),
]


def message_of(datatype: str, shape: list[int], **contents: list[Any]) -> Any:
    message = ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize(("datatype", "field", "values"), TYPED)
def test_typed_contents_are_read(datatype: str, field: str, values: list[Any]) -> None:
    (tensor,) = read_request(message_of(datatype, [2, 1], **{field: values}).SerializeToString()).inputs
    assert tensor.array.shape == (2, 1)
    assert tensor.array.reshape(-1).tolist() == values


def with_raw(message: Any, *raw: bytes) -> Any:
    message.raw_input_contents.extend(raw)
    return message


BAD: dict[str, tuple[Any, str]] = {
    "typed and raw at once": (with_raw(message_of("FP32", [1], fp32_contents=[1.0]), bytes(4)), "wrong_contents"),
    "more raw tensors than inputs": (with_raw(message_of("FP32", [1]), bytes(4), bytes(4)), "wrong_contents"),
    "contents of another type": (message_of("FP32", [1], fp64_contents=[1.0]), "wrong_contents"),
    "half floats as typed contents": (message_of("FP16", [1], fp32_contents=[1.0]), "wrong_contents"),
    "too few elements": (message_of("FP32", [2], fp32_contents=[1.0]), "wrong_data_size"),
    "no elements at all": (message_of("INT64", [2]), "wrong_data_size"),
    "a value outside of its type": (message_of("INT8", [1], int_contents=[128]), "wrong_value"),
    "an unknown datatype": (message_of("FP8", [1]), "unknown_datatype"),
    "a negative size": (message_of("FP32", [-1], fp32_contents=[1.0]), "wrong_shape"),
    "a shape of very many elements": (message_of("UINT8", [2**31 - 1] * 3), "wrong_shape"),
    "a shape of very many elements and none": (message_of("UINT8", [0, 2**31 - 1, 2**31 - 1]), "wrong_shape"),
    "too many dimensions": (message_of("UINT8", [1] * 33), "wrong_shape"),
    "truncated raw contents": (with_raw(message_of("FP32", [2]), bytes(7)), "wrong_data_size"),
    "a truncated element of BYTES": (with_raw(message_of("BYTES", [1]), b"\x05\x00\x00\x00abc"), "bad_bytes_tensor"),
    "bytes after the last element of BYTES": (with_raw(message_of("BYTES", [1]), b"\x01\x00\x00\x00abc"), "wrong_data_size"),
    "a boolean of two": (with_raw(message_of("BOOL", [1]), b"\x02"), "wrong_value"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_a_code(case: str) -> None:
    message, code = BAD[case]
    with pytest.raises(UserError) as refused:
        read_request(message.SerializeToString())
    assert refused.value.code == code


@pytest.mark.parametrize("body", [b"\x0a\x05m", b"\xff", b"\x0b", b"\x39\x00", b'{"inputs": []}', b"\x2a\x01\x00"])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(UserError) as refused:
        read_request(body)
    assert refused.value.code == "bad_protobuf"


def test_a_small_body_of_very_many_fields_is_refused() -> None:
    with pytest.raises(UserError, match="more than 4096 fields"):
        read_request(b"\x2a\x00" * 100_000)


def test_a_large_raw_tensor_is_not_copied() -> None:
    pixels = numpy.arange(2**18, dtype=numpy.uint8)
    body = joined(write_request(InferRequest("m", (Tensor("x", "UINT8", pixels),))))
    assert numpy.shares_memory(read_request(body).inputs[0].array, numpy.frombuffer(body, numpy.uint8))
    parts = write_response(InferResponse("m", "1", (Tensor("x", "UINT8", pixels),)))
    assert numpy.shares_memory(numpy.frombuffer(parts[-1], numpy.uint8), pixels)
