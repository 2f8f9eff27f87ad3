"""The OpenAPI document of everything that can be asked over REST. It names no model: what a model takes, its metadata say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from serve_apps.gateway.openapi_schemas import ANYTHING, SCHEMAS, Schema, ref
from serve_apps.oip.openapi import document as protocol_document

_OPENAI_BAD = ("400", "401", "403", "404", "413", "422", "429", "500", "501", "503", "504")
_WORDS = {
    "400": "the request is wrong", "401": "no token, or one that opens nothing", "403": "this token may not",
    "404": "no such model or version",
    "413": "the body is too large", "422": "the model cannot take it", "429": "too much is waiting: come back after `Retry-After`",
    "500": "the model or the server failed", "501": "not supported", "503": "no replica answers: come back after `Retry-After`",
    "504": "the deadline has passed",
}  # fmt: skip


@lru_cache(maxsize=4)
def openapi_document(version: str) -> Mapping[str, Any]:
    """`version`: of the server. The same object each time: not to be changed."""
    protocol = protocol_document()
    return {
        **protocol,
        "info": {
            "title": "tierfabric serving",
            "version": version or "0",
            "description": "Models by the Open Inference Protocol (v2), and by OpenAI's API where they take or give text.",
        },
        "tags": [*protocol["tags"], {"name": "openai"}, {"name": "server"}],
        "paths": {**protocol["paths"], **_openai_paths(), **_own_paths()},
        "components": {
            "schemas": {**protocol["components"]["schemas"], **SCHEMAS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "from `fabric token create`"}},
        },
    }


def _own_paths() -> dict[str, Any]:
    told = _told("server", "What became of a model's answer", None, bad=("400", "401", "403", "404", "413", "429"))
    told["responses"]["202"] = told["responses"].pop("200")
    body = {"required": True, "content": {"application/json": {"schema": ref("Feedback")}}}
    return {
        "/v2/models/{model}/feedback": _with_model({"post": {**told, "requestBody": body}}),
        "/metrics": {"get": _text("server", "Metrics of the gateway and all replicas, for Prometheus", "text/plain")},
        "/openapi.json": {"get": _text("server", "This document", "application/json", bad=())},
        "/docs": {"get": _text("server", "This document as a page", "text/html", bad=())},
    }


def _openai_paths() -> dict[str, Any]:
    return {
        "/v1/models": {"get": _told("openai", "All models", "ModelList", bad=("401", "403"), error="OpenAiError")},
        "/v1/models/{model}": _with_model({"get": _told("openai", "One model", "Model", bad=("401", "403", "404"), error="OpenAiError")}),
        "/v1/embeddings": {"post": _asked("Vectors of texts", "EmbeddingsRequest", "Embeddings")},
        "/v1/completions": {"post": _streamed(_asked("Text that goes on", "CompletionRequest", "Completion"))},
        "/v1/chat/completions": {"post": _streamed(_asked("The next message of a chat", "ChatRequest", "Completion"))},
    }


def _told(tag: str, words: str, answer: str | None, *, bad: tuple[str, ...], error: str = "Error") -> Schema:
    refused = {status: _answer(_WORDS[status], error) for status in bad}
    return {"tags": [tag], "summary": words, "responses": {"200": _answer("done", answer), **refused}}


def _asked(words: str, body: str, answer: str | None) -> Schema:
    return {
        **_told("openai", words, answer, bad=_OPENAI_BAD, error="OpenAiError"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref(body)}}},
    }


def _streamed(operation: Schema) -> Schema:
    content = operation["responses"]["200"].setdefault("content", {})
    content["text/event-stream"] = {"schema": {}}
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
