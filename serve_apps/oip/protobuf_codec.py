"""Inference requests and answers as protobuf: `ModelInferRequest` and `ModelInferResponse` to our nouns and back, in both directions.

Typed and raw contents are both read, never mixed in one message. What is written carries raw contents, also for typed requests, as
Triton does it. Raw tensors are not copied through protobuf: what is written is a list of parts, to be sent one after another or joined.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fabric.errors import UserError
from serve_apps.oip import schedule, wire
from serve_apps.oip.messages import ModelInferRequest, ModelInferResponse, parse
from serve_apps.oip.protobuf_tensors import read_contents, read_parameters, write_parameters
from serve_apps.oip.tensor_bytes import Buffer, checked_datatype, checked_name, checked_shape, read_tensor, write_tensor
from serve_apps.tensors import InferRequest, InferResponse, RequestedOutput, Tensor

RAW_INPUTS = 7
RAW_OUTPUTS = 6
MAX_TYPED_BYTES = 32 * 2**20
"""Of a message less its raw contents. Parsed, it takes many times its size, and raw contents do not."""

SMALL_BYTES = 4096
"""Up to here protobuf's own parser is the faster way, and few fields fit."""

_NO_HEADERS: Mapping[bytes, bytes] = {}


def read_request(body: Buffer, headers: Mapping[bytes, bytes] = _NO_HEADERS, *, now_s: float | None = None) -> InferRequest:
    """A serialized `ModelInferRequest`. `headers` (lower case) may name a deadline.

    Raises: UserError (`bad_protobuf`, `wrong_contents`, `wrong_shape`, `unknown_datatype`, `wrong_data_size`, `wrong_value`, …).
    """
    message, raw = _parse("ModelInferRequest", body, "raw_input_contents", RAW_INPUTS)
    parameters = read_parameters(message.parameters)
    return InferRequest(
        model_name=message.model_name,
        inputs=_read_tensors(message.inputs, raw, "raw_input_contents"),
        model_version=message.model_version,
        id=message.id,
        parameters=schedule.of_model(parameters),
        outputs=tuple(RequestedOutput(output.name, read_parameters(output.parameters)) for output in message.outputs),
        priority=schedule.priority(parameters),
        deadline_s=schedule.deadline_s(parameters, headers, now_s=time.monotonic() if now_s is None else now_s),
    )


def write_request(request: InferRequest) -> list[Buffer]:
    """The parts of a `ModelInferRequest` with raw contents: what a client sends. Its deadline goes as a timeout from now."""
    message = ModelInferRequest(model_name=request.model_name, model_version=request.model_version, id=request.id)
    parameters = dict(request.parameters)
    if request.priority:
        parameters["priority"] = request.priority
    if request.deadline_s < math.inf:
        parameters["timeout"] = max(1, int(request.remaining_s() * 1e6))
    write_parameters(parameters, message.parameters)
    for output in request.outputs:
        write_parameters(output.parameters, message.outputs.add(name=output.name).parameters)
    for tensor in request.inputs:
        _describe(tensor, message.inputs)
    return [message.SerializeToString(), *_raw_parts(request.inputs, RAW_INPUTS)]


def read_response(body: Buffer) -> InferResponse:
    """A serialized `ModelInferResponse`: what a client receives. Raises: as `read_request`."""
    message, raw = _parse("ModelInferResponse", body, "raw_output_contents", RAW_OUTPUTS)
    return InferResponse(
        model_name=message.model_name,
        model_version=message.model_version,
        outputs=_read_tensors(message.outputs, raw, "raw_output_contents"),
        id=message.id,
        parameters=read_parameters(message.parameters),
    )


def write_response(response: InferResponse) -> list[Buffer]:
    """The parts of a `ModelInferResponse`, with raw contents."""
    message = ModelInferResponse(model_name=response.model_name, model_version=response.model_version, id=response.id)
    if response.parameters:
        write_parameters(response.parameters, message.parameters)
    for tensor in response.outputs:
        _describe(tensor, message.outputs)
    return [message.SerializeToString(), *_raw_parts(response.outputs, RAW_OUTPUTS)]


def _parse(name: str, body: Buffer, raw_field: str, raw_number: int) -> tuple[Any, Sequence[Buffer]]:
    if len(body) <= SMALL_BYTES:
        message = parse(name, body)
        return message, getattr(message, raw_field)
    others, raw = wire.split(memoryview(body), raw_number)
    if sum(map(len, others)) > MAX_TYPED_BYTES:
        raise UserError(
            f"the message has more than {MAX_TYPED_BYTES} bytes besides raw contents",
            code="too_large",
            hint="send large tensors as raw_input_contents",
        )
    return parse(name, b"".join(others)), raw


def _read_tensors(described: Any, raw: Sequence[Buffer], field: str) -> tuple[Tensor, ...]:
    if raw and len(raw) != len(described):
        raise UserError(f"{field} has {len(raw)} entries for {len(described)} tensors", code="wrong_contents")
    return tuple(_read_tensor(tensor, raw[i] if raw else None, field) for i, tensor in enumerate(described))


def _read_tensor(described: Any, raw: Buffer | None, field: str) -> Tensor:
    name = checked_name(described.name)
    parameters = read_parameters(described.parameters)
    if "shared_memory_region" in parameters:
        raise UserError(f"tensor {name!r}: this server has no shared memory regions", code="unsupported")
    datatype = checked_datatype(name, described.datatype)
    shape = checked_shape(name, described.shape)
    if raw is None:
        array = read_contents(name, datatype, shape, described.contents)
    elif described.HasField("contents"):
        raise UserError(f"tensor {name!r} has contents beside {field}", code="wrong_contents", hint="send all tensors in one way")
    else:
        array = read_tensor(name, datatype, shape, raw)
    return Tensor(name, datatype, array, parameters)


def _describe(tensor: Tensor, target: Any) -> None:
    described = target.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
    if tensor.parameters:
        write_parameters(tensor.parameters, described.parameters)


def _raw_parts(tensors: Iterable[Tensor], number: int) -> Iterable[Buffer]:
    for tensor in tensors:
        data = write_tensor(tensor.datatype, tensor.array)
        yield wire.header_of(number, len(data))
        if len(data):
            yield data
