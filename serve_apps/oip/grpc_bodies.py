"""Protobuf bodies over HTTP, as the gateway forwards them from gRPC: the same messages, and the status in headers.

`POST /grpc/ModelInfer`: a `ModelInferRequest`, and a `ModelInferResponse` back. `POST /grpc/ModelStreamInfer`: one request, and a chunk
for each `ModelStreamInferResponse`: its length as four bytes, the greatest first, and the message. An error before the first answer is
one of `grpc-status` and `grpc-message`; a later one is a message with `error_message`.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from typing import Any

from serve_apps.oip import descriptions, messages
from serve_apps.oip.answer import Answer, Header
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.protobuf_codec import write_response
from serve_apps.oip.statuses import grpc_headers, message_of, status_of
from serve_apps.oip.tensor_bytes import Buffer
from serve_apps.oip.wire import header_of
from serve_apps.tensors import InferRequest, InferResponse

PROTOBUF: Header = (b"content-type", b"application/x-protobuf")
FRAMES: Header = (b"content-type", b"application/x-protobuf-frames")
FINAL = "triton_final_response"
WANTS_FINAL = "triton_enable_empty_final_response"

_LENGTH = struct.Struct(">I")
_INFER_RESPONSE = 2
"""The field of `ModelStreamInferResponse`."""


def message_answer(parts: list[Buffer]) -> Answer:
    return Answer(200, [PROTOBUF, (b"grpc-status", b"0")], parts)


def error_answer(error: BaseException) -> Answer:
    return Answer(status_of(error).http, [PROTOBUF, *grpc_headers(error)], [])


async def frames(plane: DataPlane, request: InferRequest) -> AsyncGenerator[bytes]:
    """Every answer, framed. Raises: as `DataPlane.infer`, before the first answer only."""
    is_streaming = plane.model(request.model_name, request.model_version).metadata.is_streaming
    num_answers = 0
    try:
        async for response in plane.stream(request):
            response.parameters = {**response.parameters, FINAL: not is_streaming}
            yield _frame(write_response(response))
            num_answers += 1
    except Exception as error:
        if not num_answers:
            raise
        yield _error_frame(request, error)
        return
    if is_streaming and request.parameters.get(WANTS_FINAL) is True:
        yield _frame(write_response(InferResponse(request.model_name, request.model_version, (), request.id, {FINAL: True})))


def _frame(parts: list[Buffer]) -> bytes:
    length = sum(map(len, parts))
    header = header_of(_INFER_RESPONSE, length)
    return b"".join([_LENGTH.pack(len(header) + length), header, *parts])


def _error_frame(request: InferRequest, error: BaseException) -> bytes:
    message = messages.ModelStreamInferResponse(error_message=message_of(error))
    message.infer_response.id = request.id
    message.infer_response.model_name = request.model_name
    message.infer_response.model_version = request.model_version
    message.infer_response.parameters[FINAL].bool_param = True
    content = message.SerializeToString()
    return bytes(_LENGTH.pack(len(content)) + content)


def describe(plane: DataPlane, method: str, body: bytes) -> Answer:
    """The calls that ask about a model: `ModelReady`, `ModelMetadata`, `ModelConfig`, `ModelStatistics`. Raises: as `DataPlane.model`."""
    name, version = _asked(method, body)
    if method == "ModelReady":
        form: Any = {"ready": plane.is_model_ready(name, version)}
    elif method == "ModelMetadata":
        form = descriptions.model_metadata(plane.metadata(name, version))
    elif method == "ModelConfig":
        form = {"config": descriptions.model_config(plane.metadata(name, version))}
    else:
        form = descriptions.statistics(plane.statistics(name, version))
    return message_answer([descriptions.as_message(f"{method}Response", form)])


def _asked(method: str, body: bytes) -> tuple[str, str]:
    message = messages.parse(f"{method}Request", body)
    return message.name, message.version
