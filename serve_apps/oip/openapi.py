"""The OpenAPI document of the protocol's REST routes, as data; the gateway adds its own routes, and serves it.

What a member may be is what the codecs take, no more: the document is checked against the running app by sending what it allows and
what it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_apps.oip.openapi_schemas import ERROR_STATUSES, SCHEMAS

Form = dict[str, Any]

_JSON = "application/json"
_OCTETS = "application/octet-stream"
_TAGS = ("health", "models", "inference", "repository")
_MODEL_ERRORS = ("404", "503", "504")
"""Of a route about a model, which the gateway may have to wake."""
_MODEL: Form = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "a model's name",
}
_VERSION: Form = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "a version of it: 1, 2, …",
}
_HEADER_LENGTH: Form = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "bytes of JSON before the binary tensors; 0 where the body is one tensor and nothing else",
}
_TIMEOUT: Form = {
    "name": "x-request-timeout-ms",
    "in": "header",
    "schema": {"type": "number", "minimum": 0},
    "description": "after so many milliseconds no answer is wanted; 0: however long it takes",
}


def document(*, title: str = "tierfabric models", version: str = "1") -> Form:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": "The Open Inference Protocol v2 with Triton's extensions."},
        "tags": [{"name": name} for name in _TAGS],
        "paths": {
            **_server_paths(),
            **_model_paths("/v2/models/{model}", [_MODEL]),
            **_versioned(),
            **_repository_paths(),
            **_plain_paths(),
        },
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


def _server_paths() -> Form:
    return {
        "/v2": {"get": _get("what the server is", "ServerMetadata", tag="models")},
        "/v2/health/live": {"get": {**_get("whether the server runs", "Live", tag="health", errors=()), "security": []}},
        "/v2/health/ready": {
            "get": {**_get("whether all its models are ready", "Ready", tag="health", other={"400": "Ready"}), "security": []}
        },
        "/v2/models/stats": {"get": _get("statistics of all models", "Statistics", tag="models")},
    }


def _versioned() -> Form:
    return _model_paths("/v2/models/{model}/versions/{version}", [_MODEL, _VERSION])


def _model_paths(prefix: str, parameters: list[Form]) -> Form:
    def path(operation: str, form: Form, extra: tuple[Form, ...] = ()) -> Form:
        return {"parameters": parameters, operation: {**form, **({"parameters": list(extra)} if extra else {})}}

    return {
        prefix: path("get", _get("what the model takes and gives", "ModelMetadata", tag="models", errors=_MODEL_ERRORS)),
        f"{prefix}/ready": path("get", _get("whether it is ready", "ModelReady", tag="health", errors=("400",))),
        f"{prefix}/config": path("get", _get("Triton's model configuration", "ModelConfig", tag="models", errors=_MODEL_ERRORS)),
        f"{prefix}/stats": path("get", _get("its statistics", "Statistics", tag="models", errors=("400", *_MODEL_ERRORS))),
        f"{prefix}/infer": path("post", _infer(), (_HEADER_LENGTH, _TIMEOUT)),
        f"{prefix}/generate": path("post", _post("text in, text out", "GenerateRequest", "GenerateResponse"), (_TIMEOUT,)),
        f"{prefix}/generate_stream": path("post", _generate_stream(), (_TIMEOUT,)),
    }


def _repository_paths() -> Form:
    errors = ("400", "404", "413", "501", "503")
    change = {"schema": {"$ref": "#/components/schemas/RepositoryChange"}}
    paths: Form = {
        "/v2/repository/index": {
            "post": {
                **_operation("all models there are", "repository", {_JSON: _of("RepositoryIndex")}, errors=("400", "413")),
                "requestBody": {"content": {_JSON: _of("RepositoryIndexRequest")}},
            }
        }
    }
    for verb in ("load", "unload"):
        operation = _operation(f"{verb} a model", "repository", None, errors=errors)
        path = f"/v2/repository/models/{{model}}/{verb}"
        paths[path] = {"parameters": [_MODEL], "post": {**operation, "requestBody": {"content": {_JSON: change}}}}
    return paths


def _plain_paths() -> Form:
    predict = _post("the plain dialect: arguments by name, and the result", "PredictRequest", "PredictResponse", error="PlainError")
    health = _get("whether it is ready", "Status", tag="health", other={"503": "PlainError"}, errors=())
    return {
        "/{model}/predict": {"parameters": [_MODEL], "post": {**predict, "parameters": [_TIMEOUT]}},
        "/{model}/healthz": {"parameters": [_MODEL], "get": {**health, "security": []}},
    }


def _infer() -> Form:
    form = _post("run the model", "InferRequest", "InferResponse")
    form["description"] = "JSON, or JSON with the bytes of tensors behind it; see the binary tensor extension."
    binary = {"schema": {"type": "string", "format": "binary"}}
    form["requestBody"]["content"][_OCTETS] = binary
    form["responses"]["200"]["content"][_OCTETS] = binary
    return form


def _generate_stream() -> Form:
    form = _post("text in, texts as they come", "GenerateRequest", "GenerateResponse")
    form["description"] = "Server-sent events, each a `GenerateResponse`, or an `Error` where the model failed after the first."
    form["responses"]["200"]["content"] = {"text/event-stream": {"schema": {}}}
    return form


def _get(summary: str, schema: str, *, tag: str, errors: tuple[str, ...] = (), other: Mapping[str, str] | None = None) -> Form:
    form = _operation(summary, tag, {_JSON: _of(schema)}, errors=errors)
    for status, name in (other or {}).items():
        form["responses"][status] = {"description": ERROR_STATUSES[status], "content": {_JSON: _of(name)}}
    return form


def _post(summary: str, request: str, response: str, *, error: str = "Error") -> Form:
    errors = ("400", "404", "413", "429", "500", "501", "503", "504")
    form = _operation(summary, "inference", {_JSON: _of(response)}, errors=errors, error=error)
    form["requestBody"] = {"required": True, "content": {_JSON: _of(request)}}
    return form


def _operation(summary: str, tag: str, content: Form | None, *, errors: tuple[str, ...], error: str = "Error") -> Form:
    responses: Form = {"200": {"description": "done", **({"content": content} if content else {})}}
    for status in (*errors, "401", "403", "429"):
        responses[status] = {"description": ERROR_STATUSES[status], "content": {_JSON: _of(error)}}
    return {"summary": summary, "tags": [tag], "responses": responses}


def _of(schema: str) -> Form:
    return {"schema": {"$ref": f"#/components/schemas/{schema}"}}
