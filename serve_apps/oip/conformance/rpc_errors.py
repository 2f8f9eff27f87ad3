"""Checks: what ModelInfer does with a wrong request: a status that is not OK, the right one, a message, and it lives on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from serve_apps.oip.conformance.asking import judge, read_response, rpc_request
from serve_apps.oip.conformance.check import RECOMMENDED, REQUIRED, ROBUSTNESS, Group, Skipped, expect
from serve_apps.oip.conformance.health import UNKNOWN
from serve_apps.oip.conformance.rpc import Refused
from serve_apps.oip.conformance.target import Target

RPC_ERRORS = Group("grpc_errors", "GRPC: google.rpc.Status")


def first_input(**changes: Any) -> Callable[[Any], None]:
    """Changes of the first input's fields."""

    def change(request: Any) -> None:
        for name, value in changes.items():
            setattr(request.inputs[0], name, value)

    return change


def with_other_datatype(request: Any) -> None:
    request.inputs[0].datatype = "INT16" if request.inputs[0].datatype != "INT16" else "INT32"


def with_negative_size(request: Any) -> None:
    request.inputs[0].shape[0] = -1


def with_huge_shape(request: Any) -> None:
    request.inputs[0].shape[:] = [2**31] * len(request.inputs[0].shape)


def truncated(request: Any) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def without_inputs(request: Any) -> None:
    del request.inputs[:], request.raw_input_contents[:]


def without_contents(request: Any) -> None:
    del request.raw_input_contents[:]


INVALID = "INVALID_ARGUMENT"
LEFT_OPEN = ("wrong_datatype", "wrong_rank", "unknown_input")
"""No sentence of the specification demands that a server holds a request against the model's metadata."""

CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "unknown_model": ("NOT_FOUND", lambda request: setattr(request, "model_name", UNKNOWN)),
    "unknown_version": ("NOT_FOUND", lambda request: setattr(request, "model_version", "987654321")),
    "wrong_datatype": (INVALID, with_other_datatype),
    "unknown_datatype": (INVALID, first_input(datatype="FP99")),
    "wrong_rank": (INVALID, lambda request: request.inputs[0].shape.append(1)),
    "negative_size": (INVALID, with_negative_size),
    "truncated": (INVALID, truncated),
    "no_contents": (INVALID, without_contents),
    "raw_beside_typed": (INVALID, lambda request: request.raw_input_contents.append(b"1234")),
    "unknown_input": (INVALID, first_input(name=UNKNOWN)),
    "unknown_output": (INVALID, lambda request: request.outputs.add(name=UNKNOWN)),
    "no_inputs": (INVALID, without_inputs),
}
"""Name -> the status that fits, and what is done to a good ModelInferRequest."""


def broken(target: Target, name: str) -> Any:
    """A ModelInferRequest with one thing wrong."""
    model = target.any_model()
    if name == "unknown_version" and not model.versions:
        raise Skipped("the model's metadata name no versions")
    request = rpc_request(model, model.samples(target.size), is_raw=name != "raw_beside_typed")
    CHANGES[name][1](request)
    return request


@RPC_ERRORS.check("huge_shape", level=ROBUSTNESS)
def huge_shape(target: Target) -> None:
    """ModelInfer refuses a shape of more elements than any machine holds"""
    model = target.any_model()
    request = rpc_request(model, model.samples(target.size), is_raw=True)
    with_huge_shape(request)
    target.grpc().refused("ModelInfer", message=request)


def refused(target: Target, *, name: str) -> None:
    target.grpc().refused("ModelInfer", message=broken(target, name))


def refused_with(target: Target, *, name: str, code: str) -> None:
    found = target.grpc().refused("ModelInfer", message=broken(target, name))
    expect(found == code, code, found)


@RPC_ERRORS.check("metadata_unknown_model")
def metadata_unknown_model(target: Target) -> None:
    """ModelMetadata of an unknown model fails"""
    target.grpc().refused("ModelMetadata", {"name": UNKNOWN})


@RPC_ERRORS.check("ready_unknown_model", level=RECOMMENDED)
def ready_unknown_model(target: Target) -> None:
    """ModelReady of an unknown model says false, or fails with NOT_FOUND"""
    try:
        answer = target.grpc().call("ModelReady", {"name": UNKNOWN})
    except Refused as refused_call:
        expect(refused_call.code == "NOT_FOUND", "false, or NOT_FOUND", str(refused_call))
    else:
        expect(answer.ready is False, "ready: false", "true")


for _name, (_code, _) in CHANGES.items():
    _words = _name.replace("_", " ")
    _level = RECOMMENDED if _name in LEFT_OPEN else REQUIRED
    RPC_ERRORS.add(_name, f"ModelInfer refuses: {_words}", functools.partial(refused, name=_name), level=_level)
    RPC_ERRORS.add(
        f"{_name}_status",
        f"ModelInfer refuses {_words} with {_code}",
        functools.partial(refused_with, name=_name, code=_code),
        level=RECOMMENDED,
    )


@RPC_ERRORS.check("lives_on")
def lives_on(target: Target) -> None:
    """After all those the server answers as before"""
    rpc, model = target.grpc(), target.any_model()
    answer = rpc.call("ModelInfer", message=rpc_request(model, model.samples(target.size), is_raw=True))
    judge(model, read_response(answer), model.samples(target.size))
