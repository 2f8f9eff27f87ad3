"""Checks: what a server does with a wrong request over REST: an error status and body, 4xx for the caller's fault, and it lives on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from serve_apps.oip.conformance.asking import binary_request, json_request, judge, read_reply
from serve_apps.oip.conformance.check import RECOMMENDED, REQUIRED, ROBUSTNESS, Failed, Group, expect, extension
from serve_apps.oip.conformance.health import UNKNOWN
from serve_apps.oip.conformance.rest import Reply, excerpt
from serve_apps.oip.conformance.rpc_errors import LEFT_OPEN
from serve_apps.oip.conformance.target import Model, Target

ERRORS = Group("errors", "REST: Inference Response JSON Error Object")

Request = dict[str, Any]
Change = Callable[[Request], Any]


def tensor(**changes: Any) -> Change:
    """Changes of the first input; a value of None takes the member away."""

    def changed(request: Request) -> Any:
        first = {**request["inputs"][0], **changes}
        request["inputs"][0] = {name: value for name, value in first.items() if value is not None}
        return request

    return changed


def with_size(request: Request) -> Any:
    """One element too few for the shape."""
    request["inputs"][0]["data"] = request["inputs"][0]["data"][:-1]
    return request


def with_rank(request: Request) -> Any:
    first = request["inputs"][0]
    first["shape"] = [*first["shape"], 1]
    return request


def with_huge_shape(request: Request) -> Any:
    first = request["inputs"][0]
    first["shape"] = [2**31] * len(first["shape"])
    return request


def with_other_dtype(request: Request) -> Any:
    first = request["inputs"][0]
    first["datatype"] = "INT16" if first["datatype"] != "INT16" else "INT32"
    first["data"] = [1] * len(first["data"])
    return request


CHANGES: dict[str, tuple[str, Change]] = {
    "wrong_datatype": ("A datatype that the model does not take is refused", with_other_dtype),
    "unknown_datatype": ("A datatype that there is not is refused", tensor(datatype="FP99")),
    "too_few_elements": ("Fewer elements than the shape says are refused", with_size),
    "wrong_rank": ("A shape of another rank than the model's is refused", with_rank),
    "negative_size": ("A negative size in a shape is refused", tensor(shape=[-1, 2])),
    "shape_of_text": ("A shape that is no list of whole numbers is refused", tensor(shape="2,2")),
    "data_missing": ("An input without data is refused", tensor(data=None)),
    "data_of_another_kind": ("Objects where numbers or texts belong are refused", tensor(data=[{"a": 1}])),
    "name_missing": ("An input without a name is refused", tensor(name=None)),
    "unknown_input": ("An input that the model has not is refused", tensor(name=UNKNOWN)),
    "no_inputs": ("A request without inputs is refused", lambda request: {**request, "inputs": []}),
    "inputs_missing": ("A request without the member inputs is refused", lambda _: {"id": "1"}),
    "inputs_no_list": ("Inputs that are no list are refused", lambda _: {"inputs": 7}),
    "unknown_output": ("A requested output that the model has not is refused", lambda request: {**request, "outputs": [{"name": UNKNOWN}]}),
    "no_object": ("A request that is no object is refused", lambda _: [1, 2]),
}


def sent(target: Target, change: Change, path: str = "") -> Reply:
    model = target.any_model()
    request = change(json_request(model, model.samples(target.size)))
    return target.rest.post(path or f"{model.path}/infer", request)


def refused(reply: Reply) -> None:
    reply.error()


def by_the_caller(reply: Reply) -> None:
    """The status says whose fault it is."""
    expect(400 <= reply.status < 500, "a status of 4xx: the request is at fault", f"{reply.status} {excerpt(reply.body)}")


def both(name: str, says: str, reply: Callable[[Target], Reply], *, level: str = REQUIRED, section: str = "") -> None:
    """Two checks of one request: that it is refused in the right form, and that the status is 4xx."""

    def run(target: Target, judge_reply: Callable[[Reply], None]) -> None:
        judge_reply(reply(target))

    ERRORS.add(name, says, functools.partial(run, judge_reply=refused), level=level, section=section)
    needs = ERRORS.checks[-1].needs
    by_status = functools.partial(run, judge_reply=by_the_caller)
    ERRORS.add(f"{name}_4xx", f"{says}: with 4xx", by_status, level=RECOMMENDED, section=section, needs=needs)


def unknown_model(target: Target) -> Reply:
    return sent(target, lambda request: request, f"/v2/models/{UNKNOWN}/infer")


def unknown_version(target: Target) -> Reply:
    model = target.model_where("has versions", lambda each: each.is_json and each.versions)
    return target.rest.post(f"{model.path}/versions/987654321/infer", json_request(model, model.samples(target.size)))


def missing_input(target: Target) -> Reply:
    model = target.model_where("has two inputs", lambda each: each.is_json and len(each.inputs) > 1)
    request = json_request(model, model.samples(target.size))
    return target.rest.post(f"{model.path}/infer", {"inputs": request["inputs"][:1]})


def posted(target: Target, body: bytes) -> Reply:
    return target.rest.send("POST", f"{target.any_model().path}/infer", body, {"Content-Type": "application/json"})


both("unknown_model", "Inference on an unknown model is refused", unknown_model)
both("unknown_version", "Inference on an unknown version is refused", unknown_version)
both("missing_input", "A request that lacks an input of the model is refused", missing_input)
both("not_json", "A body that is no JSON is refused", functools.partial(posted, body=b'{"inputs": [nope'))
# Triton takes an empty body for a raw binary request of no bytes.
both("no_body", "An empty body is refused", functools.partial(posted, body=b""), level=RECOMMENDED)


def truncated(target: Target, *, cut: int, header: str = "") -> Reply:
    model = target.any_model()
    body, headers = binary_request(model, model.samples(target.size))
    if header:
        headers["Inference-Header-Content-Length"] = header
    return target.rest.send("POST", f"{model.path}/infer", body[: len(body) - cut] if cut >= 0 else body + b"x" * -cut, headers)


def wrong_binary_size(target: Target) -> Reply:
    model = target.any_model()
    body, headers = binary_request(model, model.samples(target.size))
    size = int(headers["Inference-Header-Content-Length"])
    request = json.loads(body[:size])
    request["inputs"][-1]["parameters"]["binary_data_size"] = -4
    head = json.dumps(request).encode()
    return target.rest.send(
        "POST", f"{model.path}/infer", head + body[size:], {**headers, "Inference-Header-Content-Length": str(len(head))}
    )


_BINARY = {"level": extension("binary_tensor_data"), "section": "Binary Tensor Data Extension"}
both("binary_truncated", "Binary data shorter than they say are refused", functools.partial(truncated, cut=1), **_BINARY)
both("binary_too_long", "Bytes behind the last binary tensor are refused", functools.partial(truncated, cut=-3), **_BINARY)
both(
    "binary_header_too_long",
    "A header length beyond the body is refused",
    functools.partial(truncated, cut=0, header="99999999"),
    **_BINARY,
)
both("binary_size_negative", "A negative binary_data_size is refused", wrong_binary_size, **_BINARY)


@ERRORS.check("unknown_model_404", level=RECOMMENDED)
def unknown_model_404(target: Target) -> None:
    """Inference on an unknown model: 404"""
    reply = unknown_model(target)
    expect(reply.status == 404, "404", f"{reply.status} {excerpt(reply.body)}")


@ERRORS.check("out_of_range", level=RECOMMENDED, section="REST: Tensor Data")
def out_of_range(target: Target) -> None:
    """A number that its datatype cannot hold is refused, not wrapped"""
    model = target.model_where("takes INT8", lambda each: each.is_json and each.inputs[0].datatype == "INT8")
    request = json_request(model, model.samples(target.size))
    request["inputs"][0]["data"][0] = 128
    by_the_caller(target.rest.post(f"{model.path}/infer", request))


for _name, (_says, _change) in CHANGES.items():
    both(_name, _says, functools.partial(sent, change=_change), level=RECOMMENDED if _name in LEFT_OPEN else REQUIRED)


DEEP = b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ERRORS.add("deep_json", "JSON nested 100,000 deep is refused", lambda target: refused(posted(target, DEEP)), level=ROBUSTNESS)
ERRORS.add(
    "huge_shape",
    "A shape of more elements than any machine holds is refused",
    lambda target: refused(sent(target, with_huge_shape)),
    level=ROBUSTNESS,
)


@ERRORS.check("lives_on")
def lives_on(target: Target) -> None:
    """After all those the server answers as before"""
    model = target.any_model()
    try:
        judge(model, answered(target, model), model.samples(target.size))
    except OSError as error:
        raise Failed("an answer", f"{type(error).__name__}: {error}") from None


def answered(target: Target, model: Model) -> Any:
    return read_reply(target.rest.post(f"{model.path}/infer", json_request(model, model.samples(target.size))))[1]
