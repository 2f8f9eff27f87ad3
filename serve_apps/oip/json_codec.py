"""Inference requests and answers as JSON with binary tensors behind it, as `POST …/infer` carries them.

A body is JSON, then the raw bytes of those tensors that say `binary_data_size`, in order. Unknown members are ignored, as Triton does,
and null stands for an absent member.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from fabric.errors import UserError
from serve_apps.oip import schedule
from serve_apps.oip.json_data import read_data, write_data
from serve_apps.oip.json_document import parse_object, read_flag, read_id, read_parameters
from serve_apps.oip.tensor_bytes import Buffer, checked_datatype, checked_name, checked_shape, read_tensor, write_tensor
from serve_apps.tensors import InferRequest, InferResponse, RequestedOutput, Tensor

MAX_TENSORS = 4096
_NO_HEADERS: Mapping[bytes, bytes] = {}
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def read_request(
    model_name: str,
    model_version: str,
    head: Buffer,
    binary: Buffer,
    headers: Mapping[bytes, bytes] = _NO_HEADERS,
    *,
    now_s: float | None = None,
) -> tuple[InferRequest, bool]:
    """The request of a body, and whether outputs that do not say otherwise are to be binary.

    `head`: its JSON; `binary`: what follows. Raises: UserError (`bad_json`, `bad_request`, `wrong_shape`, `wrong_data_size`, …).
    """
    document = parse_object(head)
    parameters = read_parameters(document)
    inputs = _read_inputs(document, memoryview(binary))
    request = InferRequest(
        model_name=model_name,
        inputs=inputs,
        model_version=model_version,
        id=read_id(document),
        parameters=schedule.of_model(parameters),
        outputs=_read_outputs(document),
        priority=schedule.priority(parameters),
        deadline_s=schedule.deadline_s(parameters, headers, now_s=time.monotonic() if now_s is None else now_s),
    )
    return request, read_flag(parameters, "binary_data_output", default=False)


def write_response(response: InferResponse, outputs: tuple[RequestedOutput, ...], *, binary: bool) -> tuple[list[Buffer], int | None]:
    """The parts of a body, and the length of its JSON where binary tensors follow, else None. Raises: UserError (`no_json_form`)."""
    own = {output.name: output.parameters for output in outputs if output.parameters}
    described: list[dict[str, Any]] = []
    parts: list[Buffer] = []
    is_any_binary = False
    for tensor in response.outputs:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.array.shape}
        if tensor.parameters:
            entry["parameters"] = dict(tensor.parameters)
        if read_flag(own[tensor.name], "binary_data", default=binary) if tensor.name in own else binary:
            data = write_tensor(tensor.datatype, tensor.array)
            entry.setdefault("parameters", {})["binary_data_size"] = len(data)
            is_any_binary = True
            if len(data):
                parts.append(data)
        else:
            entry["data"] = write_data(tensor.name, tensor.datatype, tensor.array)
        described.append(entry)
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model_name
    document["model_version"] = response.model_version
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = described
    head = orjson.dumps(document, option=_OPTIONS)
    return [head, *parts], len(head) if is_any_binary else None


def _read_inputs(document: Mapping[str, Any], binary: memoryview) -> tuple[Tensor, ...]:
    described = document.get("inputs")
    if type(described) is not list or not len(described) <= MAX_TENSORS:
        raise UserError(f"inputs is an array of at most {MAX_TENSORS} tensors", code="bad_request")
    offset = 0
    tensors = []
    for one in described:
        if type(one) is not dict:
            raise UserError("each of inputs is an object", code="bad_request")
        name = checked_name(one.get("name"))
        datatype = checked_datatype(name, one.get("datatype"))
        shape = one.get("shape")
        if type(shape) is not list:
            raise UserError(f"tensor {name!r}: shape is an array of sizes", code="wrong_shape")
        parameters = read_parameters(one)
        if parameters and "binary_data_size" in parameters:
            start, offset = offset, offset + _binary_size(name, one, parameters, len(binary) - offset)
            array = read_tensor(name, datatype, checked_shape(name, shape), binary[start:offset])
            parameters = {key: value for key, value in parameters.items() if key != "binary_data_size"}
        elif "shared_memory_region" in parameters:
            raise UserError(f"tensor {name!r}: this server has no shared memory regions", code="unsupported")
        else:
            array = read_data(name, datatype, checked_shape(name, shape), one.get("data"))
        tensors.append(Tensor(name, datatype, array, parameters))
    if offset != len(binary):
        raise UserError(f"{len(binary) - offset} bytes follow the last binary tensor", code="wrong_data_size")
    return tuple(tensors)


def _binary_size(name: str, described: Mapping[str, Any], parameters: Mapping[str, Any], left: int) -> int:
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise UserError(f"tensor {name!r}: binary_data_size is a number of bytes", code="bad_parameter")
    if "data" in described:
        raise UserError(f"tensor {name!r} has data beside binary_data_size", code="bad_request", hint="send it in one way")
    if size > left:
        raise UserError(
            f"tensor {name!r}: its {size} bytes of binary data are not all there, only {left} are",
            code="wrong_data_size",
            hint="is Inference-Header-Content-Length the length of the JSON?",
        )
    return size


def _read_outputs(document: Mapping[str, Any]) -> tuple[RequestedOutput, ...]:
    described = document.get("outputs")
    if not described:
        if described is None or described == []:
            return ()
    elif type(described) is list and len(described) <= MAX_TENSORS and all(type(one) is dict for one in described):
        outputs = tuple(RequestedOutput(checked_name(one.get("name"), "requested output"), read_parameters(one)) for one in described)
        for output in outputs:
            read_flag(output.parameters, "binary_data", default=False)
            if "shared_memory_region" in output.parameters:
                raise UserError(f"output {output.name!r}: this server has no shared memory regions", code="unsupported")
        return outputs
    raise UserError(f"outputs is an array of at most {MAX_TENSORS} objects", code="bad_request")
