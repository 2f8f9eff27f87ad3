"""Checks: inference with JSON: ids, versions, parameters, requested outputs, and every datatype both nested and flat."""

from __future__ import annotations

import functools
import gzip
import json
from typing import Any

from serve_apps.oip.conformance.asking import json_request, judge, read_reply
from serve_apps.oip.conformance.check import RECOMMENDED, Group, Skipped, expect
from serve_apps.oip.conformance.rest import Reply, excerpt
from serve_apps.oip.conformance.target import Model, Target
from serve_apps.oip.conformance.values import IN_JSON

INFER = Group("infer", "REST: Inference")
DATATYPES = Group("json", "REST: Tensor Data")
TRANSPORT = Group("http", "REST: Inference; HTTP/1.1 (RFC 9112)", level=RECOMMENDED)


def asked(target: Target, model: Model, *, version: str = "", is_nested: bool = False, **rest: Any) -> Reply:
    """The reply to a fitting request."""
    place = f"{model.path}/versions/{version}" if version else model.path
    return target.rest.post(f"{place}/infer", json_request(model, model.samples(target.size), is_nested=is_nested, **rest))


@INFER.check("answers")
def answers(target: Target) -> None:
    """Each model answers a request that fits its metadata, with outputs that fit them too"""
    models = [model for model in target.models.values() if not model.refusal and model.is_json]
    if not models:
        target.any_model()
    for model in models:
        document, outputs = read_reply(asked(target, model))
        expect(document.get("model_name") == model.name, f"model_name {model.name!r}", repr(document.get("model_name")))
        judge(model, outputs, model.samples(target.size))


@INFER.check("id", section="REST: Inference Response JSON Object")
def id_echoed(target: Target) -> None:
    """The id of the request comes back"""
    for given in ("42", 'é/ ?"\\', "x" * 200):
        document, _ = read_reply(asked(target, target.any_model(), id=given))
        expect(document.get("id") == given, f"id {given!r}", repr(document.get("id")))


@INFER.check("no_id", section="REST: Inference Response JSON Object", level=RECOMMENDED)
def no_id(target: Target) -> None:
    """A request without an id gets none: no member, or an empty one"""
    document, _ = read_reply(asked(target, target.any_model()))
    expect(not document.get("id"), "no id", repr(document.get("id")))


@INFER.check("version", section="REST: Inference")
def version(target: Target) -> None:
    """A version can be asked for in the path, and the answer names it"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    document, outputs = read_reply(asked(target, model, version=model.versions[-1]))
    expect(
        document.get("model_version") == model.versions[-1], f"model_version {model.versions[-1]!r}", repr(document.get("model_version"))
    )
    judge(model, outputs, model.samples(target.size))


@INFER.check("version_without_asking", section="REST: Inference Response JSON Object")
def version_without_asking(target: Target) -> None:
    """A server that lists versions names the one that answered"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    document, _ = read_reply(asked(target, model))
    expect(document.get("model_version") in model.versions, f"one of {list(model.versions)}", repr(document.get("model_version")))


@INFER.check("requested_outputs", section="REST: Inference Request JSON Object")
def requested_outputs(target: Target) -> None:
    """Only the outputs that are asked for come back"""
    try:
        model = target.model_where("has two outputs", lambda each: each.is_json and len(each.outputs) > 1)
    except Skipped:
        model = target.any_model()
    for output in model.outputs:
        _, outputs = read_reply(asked(target, model, outputs=[{"name": output.name}]))
        judge(model, outputs, model.samples(target.size), names=[output.name])


@INFER.check("no_outputs_named", section="REST: Inference Request JSON Object", level=RECOMMENDED)
def no_outputs_named(target: Target) -> None:
    """An empty list of outputs means all of them"""
    model = target.any_model()
    judge(model, read_reply(asked(target, model, outputs=[]))[1], model.samples(target.size))


@INFER.check("parameters", section="REST: Parameters")
def parameters(target: Target) -> None:
    """Parameters of the request are taken: text, number, boolean"""
    model = target.any_model()
    given = {"a-text": "x", "a_number": 7, "a_flag": True}
    judge(model, read_reply(asked(target, model, parameters=given))[1], model.samples(target.size))


@INFER.check("inputs_in_any_order", section="REST: Inference Request JSON Object")
def inputs_in_any_order(target: Target) -> None:
    """Inputs are told apart by name, not by place"""
    model = target.model_where("has two inputs", lambda each: each.is_json and len(each.inputs) > 1)
    request = json_request(model, model.samples(target.size))
    _, one = read_reply(target.rest.post(f"{model.path}/infer", request))
    request["inputs"].reverse()
    _, other = read_reply(target.rest.post(f"{model.path}/infer", request))
    same_values = {name: array.tolist() for name, (_, array) in one.items()} == {name: array.tolist() for name, (_, array) in other.items()}
    expect(same_values, "the same outputs", "others")


@INFER.check("zero_elements", section="REST: Tensor Data", level=RECOMMENDED)
def zero_elements(target: Target) -> None:
    """A tensor of no elements goes through an identity model"""
    model = target.model_where(
        "is an identity with a free dimension", lambda each: each.is_identity and each.is_json and -1 in each.inputs[0].shape
    )
    sent = {each.name: each.sample(0, at_edges=True) for each in model.inputs}
    judge(model, read_reply(target.rest.post(f"{model.path}/infer", json_request(model, sent)))[1], sent)


def every_datatype(target: Target, *, datatype: str, is_nested: bool) -> None:
    model = target.model_of(datatype)
    if not model.is_json:
        raise Skipped(f"the model that takes {datatype} has tensors without a JSON form")
    judge(model, read_reply(asked(target, model, is_nested=is_nested))[1], model.samples(target.size))


for _datatype in IN_JSON:
    for _form in ("flat", "nested"):
        DATATYPES.add(
            f"{_datatype.lower()}_{_form}",
            f"{_datatype} as {_form} JSON data; an identity gives back the ends of its range",
            functools.partial(every_datatype, datatype=_datatype, is_nested=_form == "nested"),
        )


@TRANSPORT.check("keep_alive")
def keep_alive(target: Target) -> None:
    """Two requests go over one connection"""
    for _ in range(2):
        reply = asked(target, target.any_model())
        expect(reply.headers.get("connection", "").lower() != "close", "a connection that stays", "Connection: close")


@TRANSPORT.check("chunked")
def chunked(target: Target) -> None:
    """A body may come in chunks, without Content-Length"""
    model = target.any_model()
    body = json.dumps(json_request(model, model.samples(target.size))).encode()
    parts = iter([body[:10], body[10:]])
    reply = target.rest.send("POST", f"{model.path}/infer", parts, {"Content-Type": "application/json"})
    judge(model, read_reply(reply)[1], model.samples(target.size))


@TRANSPORT.check("gzip")
def gzipped(target: Target) -> None:
    """A body may be compressed: Content-Encoding: gzip, as tritonclient offers it"""
    model = target.any_model()
    body = gzip.compress(json.dumps(json_request(model, model.samples(target.size))).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    judge(model, read_reply(target.rest.send("POST", f"{model.path}/infer", body, headers))[1], model.samples(target.size))


@TRANSPORT.check("content_type")
def content_type(target: Target) -> None:
    """An answer without binary data comes as application/json"""
    found = asked(target, target.any_model()).headers.get("content-type", "")
    expect(found.startswith("application/json"), "Content-Type: application/json", found or "none")


@TRANSPORT.check("unknown_route")
def unknown_route(target: Target) -> None:
    """An unknown path answers 404"""
    reply = target.rest.get("/v2/no-such-route-f3a9")
    expect(reply.status == 404, "404", f"{reply.status} {excerpt(reply.body)}")


@TRANSPORT.check("wrong_method")
def wrong_method(target: Target) -> None:
    """GET of an infer path answers 405"""
    reply = target.rest.get(f"{target.any_model().path}/infer")
    expect(reply.status == 405, "405", f"{reply.status} {excerpt(reply.body)}")
