"""Checks: liveness, readiness, server and model metadata, over REST."""

from __future__ import annotations

import http.client
from typing import Any

from serve_apps.oip.conformance.check import RECOMMENDED, Group, Skipped, expect
from serve_apps.oip.conformance.rest import Reply, excerpt
from serve_apps.oip.conformance.target import Target
from serve_apps.oip.conformance.values import WIDTHS

UNKNOWN = "no-such-model-f3a9"

HEALTH = Group("health", "REST: Health")
METADATA = Group("metadata", "REST: Server Metadata, Model Metadata")


@HEALTH.check("live")
def live(target: Target) -> None:
    """GET v2/health/live answers 200"""
    answers_200(target.rest.get("/v2/health/live"))


@HEALTH.check("ready")
def ready(target: Target) -> None:
    """GET v2/health/ready answers 200"""
    answers_200(target.rest.get("/v2/health/ready"))


@HEALTH.check("body", level=RECOMMENDED)
def body(target: Target) -> None:
    """The body of a health answer is empty or the object of the specification"""
    for path, keys in (("/v2/health/live", {"live"}), ("/v2/health/ready", {"ready", "live"})):
        reply = target.rest.get(path)
        holds = not reply.body or bool(keys & set(document_of(reply)))
        expect(holds, f"an empty body, or an object with {' or '.join(sorted(keys))}", excerpt(reply.body))


@HEALTH.check("model_ready", section="REST: Model Ready")
def model_ready(target: Target) -> None:
    """GET v2/models/NAME/ready answers 200 for a model that serves"""
    answers_200(target.rest.get(f"{target.any_model().path}/ready"))


@HEALTH.check("version_ready", section="REST: Model Ready")
def version_ready(target: Target) -> None:
    """GET v2/models/NAME/versions/VERSION/ready answers 200"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    answers_200(target.rest.get(f"{model.path}/versions/{model.versions[-1]}/ready"))


@HEALTH.check("unknown_model_not_ready", section="REST: Model Ready")
def unknown_model_not_ready(target: Target) -> None:
    """An unknown model is not ready: an error status, with the error body"""
    target.rest.get(f"/v2/models/{UNKNOWN}/ready").error()


@METADATA.check("server")
def server(target: Target) -> None:
    """GET v2 gives name, version and the list of extensions"""
    reply = target.rest.get("/v2")
    answers_200(reply)
    found = document_of(reply)
    for key in ("name", "version"):
        expect(isinstance(found.get(key), str), f"text under {key!r}", excerpt(reply.body))
    extensions = found.get("extensions")
    holds = isinstance(extensions, list) and all(isinstance(each, str) for each in extensions)
    expect(holds, "a list of texts under 'extensions'", excerpt(reply.body))


@METADATA.check("content_type", level=RECOMMENDED)
def content_type(target: Target) -> None:
    """Metadata come as application/json"""
    found = target.rest.get("/v2").headers.get("content-type", "")
    expect(found.startswith("application/json"), "Content-Type: application/json", found or "none")


@METADATA.check("model")
def model_metadata(target: Target) -> None:
    """GET v2/models/NAME gives name, platform, inputs and outputs with known datatypes"""
    for model in some_models(target):
        check_metadata(target.rest.get(model), model.rpartition("/")[2])


@METADATA.check("version")
def version_metadata(target: Target) -> None:
    """GET v2/models/NAME/versions/VERSION gives the metadata of each version that is listed"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    for version in model.versions:
        check_metadata(target.rest.get(f"{model.path}/versions/{version}"), model.name)


@METADATA.check("unknown_model")
def unknown_model(target: Target) -> None:
    """The metadata of an unknown model: an error status, with the error body"""
    target.rest.get(f"/v2/models/{UNKNOWN}").error()


@METADATA.check("unknown_model_404", level=RECOMMENDED)
def unknown_model_404(target: Target) -> None:
    """The metadata of an unknown model: 404"""
    reply = target.rest.get(f"/v2/models/{UNKNOWN}")
    expect(reply.status == 404, "404", f"{reply.status} {excerpt(reply.body)}")


@METADATA.check("unknown_version")
def unknown_version(target: Target) -> None:
    """The metadata of an unknown version: an error status, with the error body"""
    model = target.any_model()
    if not model.versions:
        raise Skipped("the model's metadata name no versions")
    target.rest.get(f"{model.path}/versions/987654321").error()


def some_models(target: Target) -> list[str]:
    """The paths of up to 20 models; Raises: `Skipped` where none is known."""
    if not target.models:
        raise Skipped("no model of this server is known; name one with --model")
    return [model.path for model in list(target.models.values())[:20]]


def answers_200(reply: Reply) -> None:
    expect(reply.status == http.client.OK, "200", f"{reply.status} {excerpt(reply.body)}")


def document_of(reply: Reply) -> dict[str, Any]:
    found = reply.json()
    expect(isinstance(found, dict), "a JSON object", excerpt(reply.body))
    return dict(found)


def check_metadata(reply: Reply, name: str) -> None:
    answers_200(reply)
    found = document_of(reply)
    expect(found.get("name") == name, f"the name {name!r}", repr(found.get("name")))
    expect(isinstance(found.get("platform"), str), "text under 'platform'", excerpt(reply.body))
    expect(isinstance(found.get("versions") or [], list), "'versions' is a list", excerpt(reply.body))
    for part in ("inputs", "outputs"):
        expect(isinstance(found.get(part), list), f"a list under {part!r}", excerpt(reply.body))
        for tensor in found[part]:
            known = tensor.get("datatype") in WIDTHS or tensor.get("datatype") == "BF16"
            expect(isinstance(tensor.get("name"), str) and known, "tensors with a name and a datatype of the protocol", repr(tensor))
            sizes = tensor.get("shape")
            expect(
                isinstance(sizes, list) and all(isinstance(size, int) and size >= -1 for size in sizes),
                "a shape, -1 where free",
                repr(tensor),
            )
