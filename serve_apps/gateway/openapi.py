"""The OpenAPI document of everything that can be asked over REST. It names no model: what a model takes, its metadata say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from serve_apps.gateway.openapi_schemas import ANYTHING, SCHEMAS, Schema, ref

_BAD = ("400", "401", "403", "413")
_MODEL_BAD = ("400", "401", "403", "404")
_INFER_BAD = (*_MODEL_BAD, "413", "422", "429", "500", "501", "503", "504")
_OPENAI_BAD = ("400", "401", "403", "404", "413", "422", "429", "500", "501", "503", "504")
_WORDS = {
    "400": "the request is wrong", "401": "no token, or one that opens nothing", "403": "this token may not",
    "404": "no such model or version",
    "413": "the body is too large", "422": "the model cannot take it", "429": "too much is waiting: come back after `Retry-After`",
    "500": "the model or the server failed", "501": "not supported", "503": "no replica answers: come back after `Retry-After`",
    "504": "the deadline has passed",
}  # fmt: skip
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@lru_cache(maxsize=4)
def openapi_document(version: str) -> Mapping[str, Any]:
    """`version`: of the server. The same object each time: not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tierfabric serving",
            "version": version or "0",
            "description": "Models by the Open Inference Protocol (v2), and by OpenAI's API where they take or give text.",
        },
        "paths": {**_server_paths(), **_model_paths(), **_openai_paths()},
        "security": [{"token": []}, {}],
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "from `fabric token create`"}},
        },
    }


def _server_paths() -> dict[str, Any]:
    return {
        "/v2": {"get": _told("server", "What the server is", "ServerMetadata", bad=("401", "403"))},
        "/v2/health/live": {"get": _told("server", "Whether the server lives", "Live", bad=())},
        "/v2/health/ready": {"get": _told("server", "Whether the server takes requests", "Ready", bad=("400",))},
        "/v2/models/stats": {"get": _told("server", "Counts and durations of all models", "Statistics", bad=("401", "403"))},
        "/v2/repository/index": {
            "post": _asked("repository", "All models and their states", "IndexRequest", "Index", bad=_BAD, is_optional=True)
        },
        "/v2/repository/models/{model}/load": _with_model({"post": _loading("Load a model")}),
        "/v2/repository/models/{model}/unload": _with_model({"post": _loading("Unload a model")}),
        "/metrics": {"get": _text("server", "Metrics of the gateway and all replicas, for Prometheus", "text/plain")},
        "/openapi.json": {"get": _text("server", "This document", "application/json", bad=())},
        "/docs": {"get": _text("server", "This document as a page", "text/html", bad=())},
    }


def _model_paths() -> dict[str, Any]:
    verbs: dict[str, Any] = {
        "": {"get": _told("models", "What a model takes and gives", "ModelMetadata", bad=_MODEL_BAD)},
        "/ready": {"get": _told("models", "Whether a model answers", "ModelReady", bad=_MODEL_BAD)},
        "/config": {"get": _told("models", "A model's configuration in Triton's form", None, bad=_MODEL_BAD)},
        "/stats": {"get": _told("models", "Counts and durations of a model", "Statistics", bad=_MODEL_BAD)},
        "/infer": {"post": _infer()},
        "/generate": {"post": _asked("inference", "Text in, text out", "GenerateRequest", "GenerateResponse", bad=_INFER_BAD)},
        "/generate_stream": {"post": _streamed(_asked("inference", "As generate, as events", "GenerateRequest", None, bad=_INFER_BAD))},
    }
    paths: dict[str, Any] = {}
    for verb, operations in verbs.items():
        paths[f"/v2/models/{{model}}{verb}"] = _with_model(operations)
        paths[f"/v2/models/{{model}}/versions/{{version}}{verb}"] = _with_model(operations, "version")
    predict = _asked("inference", "Call a model service with named arguments", None, None, bad=_INFER_BAD)
    return {**paths, "/{model}/predict": _with_model({"post": predict})}


def _openai_paths() -> dict[str, Any]:
    def asked(words: str, body: str, answer: str | None) -> Schema:
        return _asked("openai", words, body, answer, bad=_OPENAI_BAD, error="OpenAiError")

    return {
        "/v1/models": {"get": _told("openai", "All models", "ModelList", bad=("401", "403"), error="OpenAiError")},
        "/v1/models/{model}": _with_model({"get": _told("openai", "One model", "Model", bad=("401", "403", "404"), error="OpenAiError")}),
        "/v1/embeddings": {"post": asked("Vectors of texts", "EmbeddingsRequest", "Embeddings")},
        "/v1/completions": {"post": _streamed(asked("Text that goes on", "CompletionRequest", "Completion"))},
        "/v1/chat/completions": {"post": _streamed(asked("The next message of a chat", "ChatRequest", "Completion"))},
    }


def _told(tag: str, words: str, answer: str | None, *, bad: tuple[str, ...], error: str = "Error") -> Schema:
    refused = {status: _answer(_WORDS[status], error) for status in bad}
    return {"tags": [tag], "summary": words, "responses": {"200": _answer("done", answer), **refused}}


def _asked(
    tag: str, words: str, body: str | None, answer: str | None, *, bad: tuple[str, ...], error: str = "Error", is_optional: bool = False
) -> Schema:
    schema = ref(body) if body else ANYTHING
    return {
        **_told(tag, words, answer, bad=bad, error=error),
        "requestBody": {"required": not is_optional, "content": {"application/json": {"schema": schema}}},
    }


def _infer() -> Schema:
    operation = _asked("inference", "Run a model on tensors, as JSON or binary", "InferRequest", "InferResponse", bad=_INFER_BAD)
    operation["requestBody"]["content"] |= _BINARY
    operation["responses"]["200"]["content"] |= _BINARY
    length = {"type": "integer", "minimum": 0}
    operation["parameters"] = [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "bytes of JSON before the binary tensors",
            "schema": length,
        }
    ]
    return operation


def _loading(words: str) -> Schema:
    operation = _asked("repository", words, "LoadRequest", None, bad=(*_MODEL_BAD, "413", "501", "503"), is_optional=True)
    operation["responses"]["200"] = {"description": "done"}
    return operation


def _streamed(operation: Schema) -> Schema:
    content = operation["responses"]["200"].setdefault("content", {})
    content["text/event-stream"] = {"schema": {"type": "string"}}
    return operation


def _text(tag: str, words: str, kind: str, bad: tuple[str, ...] = ("401", "403")) -> Schema:
    operation = _told(tag, words, None, bad=bad)
    operation["responses"]["200"]["content"] = {kind: {"schema": {"type": "string"} if kind != "application/json" else ANYTHING}}
    return operation


def _answer(words: str, schema: str | None) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": ref(schema) if schema else {}}}}


def _with_model(operations: Schema, *more: str) -> Schema:
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in ("model", *more)]
    return {**operations, "parameters": named}
