"""Checks: the model repository, statistics and generate extensions over REST. Nothing is loaded or unloaded that the server has."""

from __future__ import annotations

import json
from typing import Any

from serve_apps.oip.conformance.asking import json_request
from serve_apps.oip.conformance.check import RECOMMENDED, Group, Skipped, expect, extension
from serve_apps.oip.conformance.health import UNKNOWN, answers_200, document_of
from serve_apps.oip.conformance.rest import Reply, excerpt
from serve_apps.oip.conformance.target import Model, Target

REPOSITORY = Group("repository", "Model Repository Extension", level=extension("model_repository"))
STATISTICS = Group("statistics", "Statistics Extension", level=extension("statistics"))
GENERATE = Group("generate", "Generate Extension", level=extension("generate"))

DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def index(target: Target, document: Any) -> list[dict[str, Any]]:
    reply = target.rest.post("/v2/repository/index", document)
    answers_200(reply)
    found = reply.json()
    is_list = isinstance(found, list) and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in found)
    expect(is_list, "a list of objects with a name", excerpt(reply.body))
    return list(found)


@REPOSITORY.check("index")
def repository_index(target: Target) -> None:
    """POST v2/repository/index lists the models with their states"""
    for model in index(target, {}):
        for key in ("version", "state", "reason"):
            expect(isinstance(model.get(key, ""), str), f"text under {key!r}", repr(model))


@REPOSITORY.check("index_without_body")
def index_without_body(target: Target) -> None:
    """The index needs no body"""
    reply = target.rest.send("POST", "/v2/repository/index")
    answers_200(reply)


@REPOSITORY.check("index_ready")
def index_ready(target: Target) -> None:
    """With "ready": true only models that serve are listed, and each of them is ready"""
    for model in index(target, {"ready": True})[:10]:
        answers_200(target.rest.get(f"/v2/models/{model['name']}/ready"))


@REPOSITORY.check("load_unknown")
def load_unknown(target: Target) -> None:
    """Loading a model that the repository has not fails with the error body"""
    target.rest.post(f"/v2/repository/models/{UNKNOWN}/load", {}).error()


@REPOSITORY.check("load_unknown_4xx", level=RECOMMENDED)
def load_unknown_4xx(target: Target) -> None:
    """Loading a model that the repository has not fails with 4xx"""
    reply = target.rest.post(f"/v2/repository/models/{UNKNOWN}/load", {})
    expect(400 <= reply.status < 500, "a status of 4xx", f"{reply.status} {excerpt(reply.body)}")


def counted(target: Target, model: Model) -> int:
    """The model's successful requests so far."""
    reply = target.rest.get(f"{model.path}/stats")
    answers_200(reply)
    return sum(int(each["inference_stats"]["success"]["count"]) for each in document_of(reply)["model_stats"])


@STATISTICS.check("model")
def model_statistics(target: Target) -> None:
    """GET v2/models/NAME/stats gives counts and nanoseconds"""
    model = target.any_model()
    reply = target.rest.get(f"{model.path}/stats")
    answers_200(reply)
    found = document_of(reply).get("model_stats")
    expect(isinstance(found, list) and bool(found), "a list under 'model_stats'", excerpt(reply.body))
    assert isinstance(found, list)
    for each in found:
        expect(each.get("name") == model.name, f"the name {model.name!r}", repr(each.get("name")))
        for key in ("last_inference", "inference_count", "execution_count"):
            expect(isinstance(each.get(key), int), f"a number under {key!r}", repr(each))
        for key in DURATIONS:
            duration = each["inference_stats"].get(key)
            holds = isinstance(duration, dict) and isinstance(duration.get("count"), int) and isinstance(duration.get("ns"), int)
            expect(holds, f"count and ns under inference_stats.{key}", repr(duration))
        expect(isinstance(each.get("batch_stats"), list), "a list under 'batch_stats'", repr(each))


@STATISTICS.check("all_models")
def all_statistics(target: Target) -> None:
    """GET v2/models/stats has every model that serves"""
    reply = target.rest.get("/v2/models/stats")
    answers_200(reply)
    names = {each.get("name") for each in document_of(reply)["model_stats"]}
    expect(target.any_model().name in names, f"{target.any_model().name!r} among them", repr(sorted(map(str, names))))


@STATISTICS.check("version")
def version_statistics(target: Target) -> None:
    """GET v2/models/NAME/versions/VERSION/stats answers"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    answers_200(target.rest.get(f"{model.path}/versions/{model.versions[-1]}/stats"))


@STATISTICS.check("counts")
def statistics_count(target: Target) -> None:
    """A request that succeeds is counted; so is none that was not made"""
    model = target.any_model()
    before = counted(target, model)
    for _ in range(3):
        target.rest.post(f"{model.path}/infer", json_request(model, model.samples(target.size)))
    gained = counted(target, model) - before
    expect(gained == 3, "3 more successes after 3 requests", f"{gained}")


@STATISTICS.check("unknown_model")
def unknown_statistics(target: Target) -> None:
    """The statistics of an unknown model: an error status, with the error body"""
    target.rest.get(f"/v2/models/{UNKNOWN}/stats").error()


def texts(target: Target) -> Model:
    """Raises: `Skipped` where no model has `text_input` and `text_output`."""
    for model in target.models.values():
        inputs, outputs = {each.name for each in model.inputs}, {each.name for each in model.outputs}
        if "text_input" in inputs and "text_output" in outputs and not model.refusal:
            return model
    raise Skipped("no model here has text_input and text_output")


def check_generated(document: Any, model: Model) -> None:
    expect(document.get("model_name") == model.name, f"model_name {model.name!r}", repr(document))
    expect(isinstance(document.get("text_output"), str), "text under 'text_output'", repr(document))


def events(reply: Reply) -> list[Any]:
    """The documents of a stream of server-sent events."""
    answers_200(reply)
    found = reply.headers.get("content-type", "")
    expect(found.startswith("text/event-stream"), "Content-Type: text/event-stream", found or "none")
    lines = reply.body.decode().replace("\r\n", "\n").split("\n\n")
    expect(all(line.startswith("data:") for line in lines if line), "events of 'data:' alone", excerpt(reply.body))
    return [json.loads(line.removeprefix("data:")) for line in lines if line]


@GENERATE.check("generate")
def generate(target: Target) -> None:
    """POST …/generate answers text with text"""
    model = texts(target)
    reply = target.rest.post(f"{model.path}/generate", {"text_input": "hello"})
    answers_200(reply)
    check_generated(document_of(reply), model)


@GENERATE.check("parameters")
def generate_parameters(target: Target) -> None:
    """POST …/generate takes parameters"""
    model = texts(target)
    answers_200(target.rest.post(f"{model.path}/generate", {"text_input": "hello", "parameters": {"temperature": 0.5, "stream": False}}))


@GENERATE.check("stream")
def generate_stream(target: Target) -> None:
    """POST …/generate_stream answers with server-sent events"""
    model = texts(target)
    documents = events(target.rest.post(f"{model.path}/generate_stream", {"text_input": "hello"}))
    expect(bool(documents), "at least one event", "none")
    for document in documents:
        check_generated(document, model)


@GENERATE.check("stream_unknown_model")
def stream_unknown_model(target: Target) -> None:
    """A stream that fails before it begins: an error status, with the error body"""
    texts(target)
    target.rest.post(f"/v2/models/{UNKNOWN}/generate_stream", {"text_input": "hello"}).error()


@GENERATE.check("no_text")
def no_text(target: Target) -> None:
    """Generation without text_input is refused with the error body"""
    target.rest.post(f"{texts(target).path}/generate", {}).error()
