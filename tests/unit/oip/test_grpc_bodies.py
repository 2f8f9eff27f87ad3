"""Protobuf bodies over HTTP, as the gateway forwards them."""

from __future__ import annotations

import struct
from typing import Any

import numpy
import pytest

from fabric.errors import RejectedError
from serve_apps.oip import messages
from serve_apps.oip.grpc_bodies import WANTS_FINAL
from serve_apps.oip.protobuf_codec import read_response, write_request
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import InferRequest, Tensor
from tests.unit.oip import models
from tests.unit.oip.server import Reply, Server


@pytest.fixture
def server() -> Server:
    return Server(models.everything())


def infer(server: Server, request: InferRequest, path: str = "/grpc/ModelInfer", **headers: str) -> Reply:
    return server.post(path, b"".join(write_request(request)), **headers)


def text(content: str) -> Tensor:
    return Tensor("text", "BYTES", objects([content.encode()], (1,)))


def frames(body: bytes) -> list[Any]:
    found = []
    while body:
        (length,) = struct.unpack_from(">I", body)
        found.append(messages.ModelStreamInferResponse.FromString(body[4 : 4 + length]))
        body = body[4 + length :]
    return found


def test_a_message_is_answered_with_a_message(server: Server) -> None:
    array = numpy.array([[1, 2, 3, 4]], "<f4")
    reply = infer(server, InferRequest("add", (Tensor("a", "FP32", array), Tensor("b", "FP32", array)), id="7"))
    assert (reply.status, reply.headers["grpc-status"]) == (200, "0")
    response = read_response(reply.body)
    assert (response.id, response.model_name, response.model_version) == ("7", "add", "1")
    assert {output.name: output.array.tolist() for output in response.outputs} == {"sum": [[2, 4, 6, 8]], "difference": [[0, 0, 0, 0]]}


def test_an_error_is_a_status_in_headers(server: Server) -> None:
    reply = infer(server, InferRequest("shout", (), id="7"))
    assert (reply.status, reply.headers["grpc-status"], reply.headers["fabric-code"]) == (400, "3", "missing_input")
    assert (reply.headers["grpc-message"], reply.body) == ("input 'text' is missing", b"")
    assert infer(server, InferRequest("nope", ())).headers["grpc-status"] == "5"
    assert infer(server, InferRequest("count", (Tensor("n", "INT32", numpy.array([1], "<i4")),))).headers["grpc-status"] == "12"
    assert server.post("/grpc/ModelInfer", b"\xff").headers["fabric-code"] == "bad_protobuf"


def test_a_message_in_headers_is_one_line_of_ascii() -> None:
    server = Server([models.broken(RejectedError("für\n€", code="queue_full", retry_after_s=5))])
    reply = infer(server, InferRequest("broken", (Tensor("x", "FP32", numpy.zeros(1, "<f4")),)))
    assert (reply.headers["grpc-message"], reply.headers["grpc-status"], reply.headers["retry-after"]) == ("f%C3%BCr%0A%E2%82%AC", "8", "5")


def test_each_answer_of_a_stream_is_a_frame(server: Server) -> None:
    reply = infer(server, InferRequest("spell", (text("ab"),), id="7"), "/grpc/ModelStreamInfer")
    found = frames(reply.body)
    assert [frame.infer_response.raw_output_contents[0] for frame in found] == [b"\x01\x00\x00\x00a", b"\x01\x00\x00\x00b"]
    assert {frame.infer_response.id for frame in found} == {"7"}
    assert [frame.infer_response.parameters["triton_final_response"].bool_param for frame in found] == [False, False]


def test_a_last_empty_answer_comes_where_it_is_asked_for(server: Server) -> None:
    request = InferRequest("spell", (text("ab"),), id="7", parameters={WANTS_FINAL: True})
    last = frames(infer(server, request, "/grpc/ModelStreamInfer").body)[-1].infer_response
    assert (last.id, len(last.outputs), last.parameters["triton_final_response"].bool_param) == ("7", 0, True)


def test_a_model_of_one_answer_streams_its_final_one(server: Server) -> None:
    (only,) = frames(infer(server, InferRequest("shout", (text("a"),)), "/grpc/ModelStreamInfer").body)
    assert only.infer_response.parameters["triton_final_response"].bool_param


def test_an_error_in_a_stream_is_a_frame_and_before_it_a_status(server: Server) -> None:
    late = frames(infer(server, InferRequest("spell", (text("a!"),), id="7"), "/grpc/ModelStreamInfer").body)
    assert [frame.error_message for frame in late] == ["", "no shouting"]
    assert late[1].infer_response.id == "7"
    early = infer(server, InferRequest("spell", (text("!"),)), "/grpc/ModelStreamInfer")
    assert (early.headers["grpc-status"], early.headers["grpc-message"]) == ("13", "no shouting")


def described(server: Server, method: str, name: str, version: str = "") -> Any:
    reply = server.post(f"/grpc/{method}", messages.CLASSES[f"{method}Request"](name=name, version=version).SerializeToString())
    assert reply.headers["grpc-status"] == "0"
    return messages.CLASSES[f"{method}Response"].FromString(reply.body)


def test_models_describe_themselves_as_in_rest(server: Server) -> None:
    assert described(server, "ModelReady", "add").ready
    assert not described(server, "ModelReady", "nope").ready
    metadata = described(server, "ModelMetadata", "add", "1")
    assert (metadata.platform, list(metadata.versions), list(metadata.inputs[0].shape)) == ("python_test", ["1"], [-1, 4])
    config = described(server, "ModelConfig", "spell").config
    assert (config.input[0].data_type, list(config.input[0].dims), config.model_transaction_policy.decoupled) == (13, [1], True)
    (stats,) = described(server, "ModelStatistics", "add").model_stats
    assert (stats.name, stats.inference_stats.success.count) == ("add", 0)
    assert server.post("/grpc/ModelMetadata", b"\x0a\x04nope").headers["grpc-status"] == "5"
