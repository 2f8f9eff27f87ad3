"""How the kit finds a server's extensions and models before the checks run."""

from __future__ import annotations

import fnmatch
import http.client
from collections.abc import Sequence
from typing import Any

from serve_apps.oip.conformance.asking import json_request
from serve_apps.oip.conformance.check import Failed
from serve_apps.oip.conformance.rest import Reply, excerpt
from serve_apps.oip.conformance.target import Model, Signature, Target
from serve_apps.oip.conformance.values import WIDTHS


def discover(target: Target, *, names: Sequence[str] = (), identities: Sequence[str] = ()) -> None:
    """Fill in extensions and models: those named, or those of the repository index. `identities` may have wildcards.

    Raises: OSError, `http.client.HTTPException` where nothing answers at the URL.
    """
    metadata = document(target.rest.get("/v2"))
    target.extensions = tuple(str(each) for each in metadata.get("extensions") or ()) if isinstance(metadata, dict) else ()
    plain_names = [name for name in identities if not any(sign in name for sign in "*?[")]
    found = [*names, *plain_names] if names else [*plain_names, *indexed(target)]
    for name in dict.fromkeys(found):
        signature = document(target.rest.get(f"/v2/models/{name}"))
        model = read_model(name, signature)
        if model is not None:
            model.is_identity = any(fnmatch.fnmatchcase(name, each) for each in identities)
            target.models[name] = model


def indexed(target: Target) -> list[str]:
    """Names from the repository index, if the server has one."""
    reply = document(target.rest.post("/v2/repository/index", {}))
    return [str(each["name"]) for each in reply if isinstance(each, dict) and "name" in each] if isinstance(reply, list) else []


def document(reply: Reply) -> Any:
    """The JSON of a good answer; None where it is none: discovery goes on, the checks will say so."""
    try:
        return reply.json() if reply.status == 200 else None
    except Failed:
        return None


def read_model(name: str, metadata: Any) -> Model | None:
    """None where the metadata cannot be used to make a request."""
    try:
        inputs, outputs = (
            tuple(Signature(str(each["name"]), str(each["datatype"]), tuple(map(int, each["shape"]))) for each in metadata[part])
            for part in ("inputs", "outputs")
        )
    except (KeyError, TypeError, ValueError):
        return None
    if not inputs or any(each.datatype not in WIDTHS for each in (*inputs, *outputs)):
        return None
    return Model(name, tuple(str(each) for each in metadata.get("versions") or ()), inputs, outputs)


def set_aside(target: Target) -> None:
    """Mark the models that do not answer a fitting request: their faults would be found again in every check."""
    for model in target.models.values():
        if not model.is_json:
            continue
        try:
            reply = target.rest.post(f"{model.path}/infer", json_request(model, model.samples(target.size)))
        except (OSError, http.client.HTTPException) as error:
            model.refusal = f"{type(error).__name__}: {error}"
        else:
            model.refusal = "" if reply.status == 200 else f"{reply.status} {excerpt(reply.body, 200)}"
