"""What the OpenAPI document says of a page beside what FastAPI finds by itself: its query, its body, its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fabric.api.schema import Refusal, SubmitRequest

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "refused; `code` says why"},
    "5XX": {"model": Refusal, "description": "broken, or not now"},
}
BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


def page(
    answer: type[BaseModel] | Mapping[str, Any] | None = None,
    *,
    query: type[BaseModel] | None = None,
    body: Mapping[str, Any] | None = None,
    status: int = 200,
) -> dict[str, Any]:
    """Keyword arguments of a FastAPI route."""
    extra: dict[str, Any] = {"security": [{"token": []}]}
    if query is not None:
        extra["parameters"] = parameters(query)
    if body is not None:
        extra["requestBody"] = {"required": True, "content": dict(body)}
    said: dict[str, Any] = {"description": "done"}
    if isinstance(answer, type):
        said["model"] = answer
    elif answer is not None:
        said.update(answer)
    return {"responses": {status: said, **ERRORS}, "openapi_extra": extra, "response_model": None, "status_code": status}


def parameters(kind: type[BaseModel]) -> list[dict[str, Any]]:
    properties = kind.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": kind.model_json_schema()}}


def jobs_body() -> dict[str, Any]:
    schema = SubmitRequest.model_json_schema()
    return {"application/json": {"schema": {"oneOf": [schema, {"type": "array", "items": schema, "maxItems": 1000}]}}}


def answers(**keys: str) -> dict[str, Any]:
    """A mapping with these keys, each with what it holds in words."""
    properties = {key: {"description": words} for key, words in keys.items()}
    return {"content": {"application/json": {"schema": {"type": "object", "properties": properties, "required": list(keys)}}}}
