"""Checks: the binary tensor data extension: input, output, both, mixed with JSON, the raw request."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy

from serve_apps.oip.conformance.asking import HEADER, Answers, binary_request, json_request, judge, read_reply, send_binary
from serve_apps.oip.conformance.check import Group, expect, extension
from serve_apps.oip.conformance.rest import Reply
from serve_apps.oip.conformance.target import Model, Target
from serve_apps.oip.conformance.values import WIDTHS, filled, to_bytes

BINARY = Group("binary", "Binary Tensor Data Extension", level=extension("binary_tensor_data"))


def checked(reply: Reply, model: Model, target: Target, *, is_binary: bool) -> tuple[dict[str, Any], Answers]:
    document, answers = read_reply(reply)
    judge(model, answers, model.samples(target.size))
    has_header = HEADER in reply.headers
    expect(
        has_header == is_binary, f"Inference-Header-Content-Length: {'given' if is_binary else 'absent'}", f"{reply.headers.get(HEADER)}"
    )
    return document, answers


@BINARY.check("input")
def binary_input(target: Target) -> None:
    """Binary inputs, JSON outputs"""
    model = target.any_model()
    reply = send_binary(target.rest, f"{model.path}/infer", binary_request(model, model.samples(target.size)))
    checked(reply, model, target, is_binary=False)


@BINARY.check("output")
def binary_output(target: Target) -> None:
    """JSON inputs, each output binary by its own parameter binary_data"""
    model = target.any_model()
    wanted = [{"name": each.name, "parameters": {"binary_data": True}} for each in model.outputs]
    reply = target.rest.post(f"{model.path}/infer", json_request(model, model.samples(target.size), outputs=wanted))
    checked(reply, model, target, is_binary=True)


@BINARY.check("all_outputs")
def all_outputs(target: Target) -> None:
    """The parameter binary_data_output makes every output binary"""
    model = target.any_model()
    request = json_request(model, model.samples(target.size), parameters={"binary_data_output": True})
    checked(target.rest.post(f"{model.path}/infer", request), model, target, is_binary=True)


@BINARY.check("output_overrides")
def output_overrides(target: Target) -> None:
    """binary_data of an output overrides binary_data_output"""
    model = target.any_model()
    wanted = [{"name": each.name, "parameters": {"binary_data": False}} for each in model.outputs]
    request = json_request(model, model.samples(target.size), parameters={"binary_data_output": True}, outputs=wanted)
    checked(target.rest.post(f"{model.path}/infer", request), model, target, is_binary=False)


@BINARY.check("mixed_outputs")
def mixed_outputs(target: Target) -> None:
    """Of two outputs one comes as JSON, one binary"""
    model = target.model_where("has two outputs", lambda each: each.is_json and len(each.outputs) > 1)
    wanted = [{"name": each.name, "parameters": {"binary_data": place == 0}} for place, each in enumerate(model.outputs)]
    request = json_request(model, model.samples(target.size), outputs=wanted)
    document, _ = checked(target.rest.post(f"{model.path}/infer", request), model, target, is_binary=True)
    in_json = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    expect(
        in_json == [each.name for each in model.outputs[1:]], f"JSON data for {[each.name for each in model.outputs[1:]]}", repr(in_json)
    )


@BINARY.check("mixed_inputs")
def mixed_inputs(target: Target) -> None:
    """Of two inputs one goes as JSON, one binary"""
    model = target.model_where("has two inputs", lambda each: each.is_json and len(each.inputs) > 1)
    for name in model.samples(target.size):
        request = binary_request(model, model.samples(target.size), in_json=[name])
        checked(send_binary(target.rest, f"{model.path}/infer", request), model, target, is_binary=False)


@BINARY.check("id")
def id_echoed(target: Target) -> None:
    """The id comes back in the JSON part of a binary answer"""
    model = target.any_model()
    request = binary_request(model, model.samples(target.size), id="b-7", parameters={"binary_data_output": True})
    document, _ = checked(send_binary(target.rest, f"{model.path}/infer", request), model, target, is_binary=True)
    expect(document.get("id") == "b-7", "id 'b-7'", repr(document.get("id")))


@BINARY.check("content_type")
def content_type(target: Target) -> None:
    """A binary answer comes as application/octet-stream"""
    model = target.any_model()
    request = json_request(model, model.samples(target.size), parameters={"binary_data_output": True})
    found = target.rest.post(f"{model.path}/infer", request).headers.get("content-type", "")
    expect(found.startswith("application/octet-stream"), "Content-Type: application/octet-stream", found or "none")


@BINARY.check("raw", section="Binary Tensor Data Extension: Raw Binary Request")
def raw(target: Target) -> None:
    """A body of nothing but one tensor: header length 0, the shape worked out, the output binary"""
    model = target.model_where(
        "has one input with at most one free dimension",
        lambda each: len(each.inputs) == 1 and each.inputs[0].datatype != "BYTES" and each.inputs[0].shape.count(-1) <= 1,
    )
    (array,) = model.samples(target.size).values()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    reply = target.rest.send("POST", f"{model.path}/infer", to_bytes(array), headers)
    checked(reply, model, target, is_binary=True)


@BINARY.check("large")
def large(target: Target) -> None:
    """8 MiB of FP32 go through an identity and back"""
    model = target.model_where(
        "is an identity of FP32 with a free dimension",
        lambda each: each.is_identity and [one.datatype for one in each.inputs] == ["FP32"] and -1 in each.inputs[0].shape,
    )
    (signature,) = model.inputs
    fixed = math.prod(size for size in signature.shape if size > 0)
    shape = tuple(2**21 // fixed if place == signature.shape.index(-1) else max(size, 1) for place, size in enumerate(signature.shape))
    array = numpy.arange(math.prod(shape), dtype="<f4").reshape(shape)
    request = binary_request(model, {signature.name: array}, parameters={"binary_data_output": True})
    _, answers = read_reply(send_binary(target.rest, f"{model.path}/infer", request))
    judge(model, answers, {signature.name: array})


def every_datatype(target: Target, *, datatype: str) -> None:
    model = target.model_of(datatype)
    request = binary_request(model, model.samples(target.size), parameters={"binary_data_output": True})
    checked(send_binary(target.rest, f"{model.path}/infer", request), model, target, is_binary=True)


for _datatype in WIDTHS:
    BINARY.add(
        _datatype.lower(),
        f"{_datatype} binary both ways; an identity gives back the ends of its range",
        functools.partial(every_datatype, datatype=_datatype),
    )


@BINARY.check("bytes_not_text")
def bytes_not_text(target: Target) -> None:
    """BYTES that are no text go through an identity"""
    model = target.model_where(
        "is an identity of BYTES", lambda each: each.is_identity and {one.datatype for one in each.inputs} == {"BYTES"}
    )
    sent = {each.name: filled("BYTES", each.sample(target.size, at_edges=True).shape, [b"\xff\x00\xfe", b""]) for each in model.inputs}
    request = binary_request(model, sent, parameters={"binary_data_output": True})
    judge(model, read_reply(send_binary(target.rest, f"{model.path}/infer", request))[1], sent)
