"""Checks: the classification, schedule policy and model configuration extensions over REST."""

from __future__ import annotations

from serve_apps.oip.conformance.asking import json_request, judge, read_reply
from serve_apps.oip.conformance.check import Group, expect, extension
from serve_apps.oip.conformance.health import UNKNOWN, answers_200, document_of
from serve_apps.oip.conformance.rest import excerpt
from serve_apps.oip.conformance.target import Model, Target

CLASSIFICATION = Group("classification", "Classification Extension", level=extension("classification"))
SCHEDULE = Group("schedule", "Schedule Policy Extension", level=extension("schedule_policy"))
CONFIGURATION = Group("configuration", "Model Configuration Extension", level=extension("model_configuration"))


def of_numbers(target: Target) -> Model:
    """Raises: `Skipped`."""
    return target.model_where(
        "gives numbers as FP32", lambda each: each.is_json and each.outputs[0].datatype == "FP32" and each.outputs[0].shape
    )


@CLASSIFICATION.check("top")
def top(target: Target) -> None:
    """An output with the parameter classification comes as BYTES, each `value:index` or `value:index:label`"""
    model = of_numbers(target)
    wanted = [{"name": model.outputs[0].name, "parameters": {"classification": 1}}]
    reply = target.rest.post(f"{model.path}/infer", json_request(model, model.samples(target.size), outputs=wanted))
    _, answers = read_reply(reply)
    datatype, array = answers[model.outputs[0].name]
    expect(datatype == "BYTES", "BYTES", datatype)
    for each in array.reshape(-1):
        value, _, rest = each.decode().partition(":")
        float(value)
        expect(rest.partition(":")[0].isdecimal(), "value:index", each.decode())


@SCHEDULE.check("taken")
def schedule_taken(target: Target) -> None:
    """A request may have a priority and a timeout in microseconds"""
    model = target.any_model()
    request = json_request(model, model.samples(target.size), parameters={"priority": 1, "timeout": 20_000_000})
    judge(model, read_reply(target.rest.post(f"{model.path}/infer", request))[1], model.samples(target.size))


@CONFIGURATION.check("model")
def configuration(target: Target) -> None:
    """GET v2/models/NAME/config gives the name, max_batch_size, inputs and outputs"""
    model = target.any_model()
    reply = target.rest.get(f"{model.path}/config")
    answers_200(reply)
    found = document_of(reply)
    expect(found.get("name") == model.name, f"the name {model.name!r}", repr(found.get("name")))
    expect(isinstance(found.get("max_batch_size"), int), "a number under 'max_batch_size'", excerpt(reply.body))
    for key, known in (("input", model.inputs), ("output", model.outputs)):
        names = [each.get("name") for each in found.get(key) or ()]
        expect(names == [each.name for each in known], f"{[each.name for each in known]} under {key!r}", repr(names))
        expect(all(str(each.get("data_type")).startswith("TYPE_") for each in found[key]), "data types as TYPE_FP32", excerpt(reply.body))


@CONFIGURATION.check("unknown_model")
def unknown_configuration(target: Target) -> None:
    """The configuration of an unknown model: an error status, with the error body"""
    target.rest.get(f"/v2/models/{UNKNOWN}/config").error()
