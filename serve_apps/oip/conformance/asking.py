"""Requests and answers of inference in each form: JSON, binary, typed and raw protobuf; and the judgement of what came back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from serve_apps.oip.conformance.check import expect
from serve_apps.oip.conformance.messages import CLASSES
from serve_apps.oip.conformance.rest import Reply, Rest, excerpt
from serve_apps.oip.conformance.target import Model
from serve_apps.oip.conformance.values import CONTENTS, Array, filled, from_bytes, from_json, same, to_bytes, to_json

HEADER = "inference-header-content-length"
Answers = dict[str, tuple[str, Array]]
"""Output name -> its datatype as the answer says, and its values."""


def datatype(model: Model, name: str) -> str:
    return next(each.datatype for each in model.inputs if each.name == name)


def json_request(model: Model, inputs: Mapping[str, Array], *, is_nested: bool = False, **rest: Any) -> dict[str, Any]:
    tensors = [
        {"name": name, "shape": list(array.shape), "datatype": datatype(model, name), "data": to_json(array, is_nested=is_nested)}
        for name, array in inputs.items()
    ]
    return {"inputs": tensors, **rest}


def binary_request(model: Model, inputs: Mapping[str, Array], *, in_json: Sequence[str] = (), **rest: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers; the inputs `in_json` stay JSON. Source: binary tensor data extension."""
    tensors, tail = [], b""
    for name, array in inputs.items():
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype(model, name)}
        if name in in_json:
            tensor["data"] = to_json(array, is_nested=False)
        else:
            content = to_bytes(array)
            tensor["parameters"] = {"binary_data_size": len(content)}
            tail += content
        tensors.append(tensor)
    head = json.dumps({"inputs": tensors, **rest}).encode()
    return head + tail, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def send_binary(rest: Rest, path: str, request: tuple[bytes, dict[str, str]]) -> Reply:
    body, headers = request
    return rest.send("POST", path, body, headers)


def rpc_request(model: Model, inputs: Mapping[str, Array], *, is_raw: bool, **rest: Any) -> Any:
    """A ModelInferRequest."""
    request = CLASSES["ModelInferRequest"](model_name=model.name, **rest)
    for name, array in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype(model, name), shape=array.shape)
        if is_raw:
            request.raw_input_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, CONTENTS[tensor.datatype]).extend(array.reshape(-1).tolist())
    return request


def read_reply(reply: Reply) -> tuple[dict[str, Any], Answers]:
    """The document of a good answer, and its outputs, JSON or binary. Raises: `Failed`."""
    expect(reply.status == 200, "200", f"{reply.status} {excerpt(reply.body)}")
    tail, head = b"", reply
    if HEADER in reply.headers:
        size = int(reply.headers[HEADER])
        head, tail = Reply(reply.status, reply.headers, reply.body[:size]), reply.body[size:]
    document = head.json()
    is_answer = isinstance(document, dict) and isinstance(document.get("outputs"), list)
    expect(is_answer, "an object with a list of outputs", excerpt(head.body))
    answers: Answers = {}
    for tensor in document["outputs"]:
        shape = tuple(tensor["shape"])
        if "data" in tensor:
            array = from_json(tensor["datatype"], shape, tensor["data"])
        else:
            width = (tensor.get("parameters") or {}).get("binary_data_size")
            expect(isinstance(width, int), f"data or binary_data_size in output {tensor['name']!r}", repr(tensor))
            array, tail = from_bytes(tensor["datatype"], shape, tail[:width]), tail[width:]
        answers[tensor["name"]] = (tensor["datatype"], array)
    expect(not tail, "no bytes behind the last output", f"{len(tail)} bytes")
    return document, answers


def read_response(response: Any) -> Answers:
    """The outputs of a ModelInferResponse, typed or raw. Raises: `Failed`."""
    raw = list(response.raw_output_contents)
    expect(
        not raw or len(raw) == len(response.outputs), "raw contents for every output or for none", f"{len(raw)} of {len(response.outputs)}"
    )
    answers: Answers = {}
    for index, tensor in enumerate(response.outputs):
        shape = tuple(tensor.shape)
        if raw:
            expect(not tensor.contents.ListFields(), "no typed contents beside raw ones", f"both for {tensor.name!r}")
            array = from_bytes(tensor.datatype, shape, raw[index])
        else:
            array = from_typed(tensor.datatype, shape, list(getattr(tensor.contents, CONTENTS[tensor.datatype])))
        answers[tensor.name] = (tensor.datatype, array)
    return answers


def from_typed(name: str, shape: tuple[int, ...], values: list[Any]) -> Array:
    """Raises: `Failed` where the count does not fit the shape."""
    expect(len(values) == math.prod(shape), f"{math.prod(shape)} elements for the shape {list(shape)}", f"{len(values)}")
    return filled(name, shape, values)


def judge(model: Model, answers: Answers, sent: Mapping[str, Array], *, names: Sequence[str] | None = None) -> None:
    """The outputs asked for and no others, each as the metadata say; the values too where the model is an identity. Raises: `Failed`."""
    expected = {each.name: each for each in model.outputs if names is None or each.name in names}
    expect(set(answers) == set(expected), f"the outputs {sorted(expected)}", f"{sorted(answers)}")
    for name, (given, array) in answers.items():
        output = expected[name]
        expect(given == output.datatype, f"{output.datatype} for {name!r}, as the metadata say", given)
        fits = len(array.shape) == len(output.shape) and all(size in (-1, had) for size, had in zip(output.shape, array.shape, strict=True))
        expect(fits, f"the shape {list(output.shape)} for {name!r}, as the metadata say", f"{list(array.shape)}")
    if model.is_identity:
        for signature, output in zip(model.inputs, model.outputs, strict=False):
            if output.name in answers:
                array = answers[output.name][1]
                is_same = same(array, sent[signature.name])
                expect(is_same, f"the values sent, {sent[signature.name].reshape(-1)[:8].tolist()}", f"{array.reshape(-1)[:8].tolist()}")
