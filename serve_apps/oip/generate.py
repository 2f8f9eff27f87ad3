"""The generate extension: a JSON object of texts and values for a model's inputs, and its answers as objects of texts and values.

A member that names an input is that input, `text_input` is also the model's text input, all others are parameters; so are the members
of `parameters`. An output of one element is a plain value. Source: Triton's generate extension, and its server for the shapes.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import orjson

from fabric.errors import UserError
from serve_apps.oip import schedule
from serve_apps.oip.answer import error_form
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.json_data import read_data, write_data
from serve_apps.oip.json_document import parse_object, read_id
from serve_apps.oip.tensor_bytes import Buffer
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec

TEXT_INPUT = "text_input"
TEXT_OUTPUT = "text_output"

_PLAIN = (str, int, float, bool)


def read_generate(metadata: ModelMetadata, version: str, body: Buffer, headers: Mapping[bytes, bytes]) -> InferRequest:
    """Raises: UserError (`bad_json`, `bad_request`, `bad_parameter`, `wrong_shape`, `wrong_value`)."""
    document = parse_object(body)
    request_id = read_id(document)
    nested = document.pop("parameters", None) or {}
    if type(nested) is not dict:
        raise UserError("parameters is an object", code="bad_parameter")
    document.pop("id", None)
    specs = {spec.name: spec for spec in metadata.inputs}
    if TEXT_INPUT not in specs and metadata.text_input in specs:
        specs[TEXT_INPUT] = specs[metadata.text_input]
    tensors: list[Tensor] = []
    parameters: dict[str, Any] = {}
    for key, value in [*document.items(), *nested.items()]:
        if key in specs:
            tensors.append(_tensor(specs[key], value))
        elif isinstance(value, _PLAIN):
            parameters[key] = value
        elif value is not None:
            raise UserError(f"{key[:200]!r} is no input of the model, and no parameter's value either", code="bad_parameter")
    return InferRequest(
        model_name=metadata.name,
        inputs=tuple(tensors),
        model_version=version,
        id=request_id,
        parameters=schedule.of_model(parameters),
        priority=schedule.priority(parameters),
        deadline_s=schedule.deadline_s(parameters, headers, now_s=time.monotonic()),
    )


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    data = value if type(value) is list else [value]
    if any(type(element) is list for element in data):
        raise UserError(f"{spec.name!r} is a value or a flat array", code="wrong_shape")
    return Tensor(spec.name, spec.datatype, read_data(spec.name, spec.datatype, _shape(spec, len(data)), data))


def _shape(spec: TensorSpec, count: int) -> tuple[int, ...]:
    """The declared shape with `count` elements: the innermost free size takes what is left, the others are 1."""
    known = math.prod(size for size in spec.shape if size >= 0)
    left, odd = divmod(count, known) if known else (0, count)
    sizes = []
    for size in reversed(spec.shape):
        sizes.append(size if size >= 0 else left)
        left = left if size >= 0 else 1
    if odd or (left != 1 and known):
        raise UserError(f"{count} elements do not fit {spec}", code="wrong_shape")
    return tuple(reversed(sizes))


def write_generate(metadata: ModelMetadata, response: InferResponse) -> dict[str, Any]:
    """One answer as an object. Raises: UserError (`no_json_form`)."""
    form: dict[str, Any] = {"id": response.id} if response.id else {}
    form["model_name"] = response.model_name
    form["model_version"] = response.model_version
    if response.parameters:
        form["parameters"] = dict(response.parameters)
    for tensor in response.outputs:
        elements = write_data(tensor.name, tensor.datatype, tensor.array)
        if len(elements) == 1:
            elements = elements[0] if tensor.datatype == "BYTES" else elements[0].item()
        form[TEXT_OUTPUT if tensor.name == metadata.text_output else tensor.name] = elements
    return form


def joined(metadata: ModelMetadata, responses: Sequence[InferResponse]) -> dict[str, Any]:
    """All answers as one object: texts one after another. Raises: UserError (`several_answers`) where there is no text to join."""
    forms = [write_generate(metadata, response) for response in responses]
    if len(forms) == 1:
        return forms[0]
    texts = [form.get(TEXT_OUTPUT) for form in forms]
    if not forms or metadata.kind != "generate" or not all(isinstance(text, str) for text in texts):
        raise UserError(f"the model gave {len(forms)} answers, and generate is for one", code="several_answers", hint="use generate_stream")
    return {**forms[-1], TEXT_OUTPUT: "".join(map(str, texts))}


async def events(plane: DataPlane, metadata: ModelMetadata, request: InferRequest) -> AsyncGenerator[bytes]:
    """Server-sent events, one for each answer. Raises: as `DataPlane.infer`, before the first; a later error is an event."""
    num_answers = 0
    try:
        async for response in plane.stream(request):
            yield _as_event(write_generate(metadata, response))
            num_answers += 1
    except Exception as error:
        if not num_answers:
            raise
        yield _as_event(error_form(error))


def _as_event(form: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(form, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"
