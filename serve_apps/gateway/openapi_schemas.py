"""The bodies of OpenAI's routes as JSON Schema, for the OpenAPI document. Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object", "additionalProperties": True}

_NAME: Schema = {"type": "string", "minLength": 1}
_STOP: Schema = {"oneOf": [TEXT, _array(TEXT)]}
_SAMPLING: dict[str, Schema] = {
    "max_tokens": COUNT, "temperature": NUMBER, "top_p": NUMBER, "seed": {"type": "integer"}, "stop": _STOP, "stream": FLAG, "user": TEXT,
}  # fmt: skip
_USAGE = _object(("prompt_tokens", "total_tokens"), prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
_MESSAGE = _object(("role",), role={"type": "string", "enum": ["system", "developer", "user", "assistant"]}, content={})

SCHEMAS: Mapping[str, Schema] = {
    "OpenAiError": _object(("error",), error=_object(("message", "type"), message=TEXT, type=TEXT, param={}, code={})),
    "Model": _object(("id", "object", "created", "owned_by"), id=TEXT, object=TEXT, created=COUNT, owned_by=TEXT),
    "ModelList": _object(("object", "data"), object=TEXT, data=_array(ref("Model"))),
    "EmbeddingsRequest": _object(
        ("model", "input"),
        model=_NAME, input={"oneOf": [_NAME, {**_array(_NAME), "minItems": 1}]},
        encoding_format={"type": "string", "enum": ["float", "base64"]}, dimensions={"type": "integer", "minimum": 1}, user=TEXT,
    ),
    "Embeddings": _object(("object", "data", "model", "usage"), object=TEXT, data=_array(ANYTHING), model=TEXT, usage=_USAGE),
    "CompletionRequest": _object(
        ("model", "prompt"), model=_NAME, prompt={"oneOf": [TEXT, _array(TEXT)]}, **_SAMPLING
    ),
    "Completion": _object(("id", "object", "choices"), id=TEXT, object=TEXT, choices=_array(ANYTHING), model=TEXT, usage=_USAGE),
    "Feedback": _object(
        ("metric", "value"), metric={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"}, value=NUMBER, version=_NAME,
        user_key=_NAME,
    ),
    "ChatRequest": _object(("model", "messages"), model=_NAME, messages={**_array(_MESSAGE), "minItems": 1}, **_SAMPLING),
}  # fmt: skip
