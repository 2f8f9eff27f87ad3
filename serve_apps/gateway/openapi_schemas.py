"""The bodies of the REST routes as JSON Schema, for the OpenAPI document. Source: the Open Inference Protocol; OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_apps.tensors import DTYPES

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
_DATATYPE: Schema = {"type": "string", "enum": list(DTYPES)}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE = _array({"type": "integer", "minimum": 0})
_DATA: Schema = {"type": "array", "items": {}, "description": "the elements in row-major order, flat or nested"}
_STOP: Schema = {"oneOf": [TEXT, _array(TEXT)]}
_SAMPLING: dict[str, Schema] = {
    "max_tokens": COUNT, "temperature": NUMBER, "top_p": NUMBER, "seed": {"type": "integer"}, "stop": _STOP, "stream": FLAG, "user": TEXT,
}  # fmt: skip
_USAGE = _object(("prompt_tokens", "total_tokens"), prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
_MESSAGE = _object(("role",), role={"type": "string", "enum": ["system", "developer", "user", "assistant"]}, content={})

SCHEMAS: Mapping[str, Schema] = {
    "Error": _object(("error",), error=TEXT, code=TEXT, hint=TEXT),
    "OpenAiError": _object(("error",), error=_object(("message", "type"), message=TEXT, type=TEXT, param={}, code={})),
    "ServerMetadata": _object(("name", "version", "extensions"), name=TEXT, version=TEXT, extensions=_array(TEXT)),
    "Live": _object(("live",), live=FLAG),
    "Ready": _object(("ready",), ready=FLAG),
    "ModelReady": _object(("name", "ready"), name=TEXT, ready=FLAG),
    "TensorMetadata": _object(("name", "datatype", "shape"), name=TEXT, datatype=_DATATYPE, shape=_array({"type": "integer"})),
    "ModelMetadata": _object(
        ("name", "platform", "inputs", "outputs"),
        name=TEXT, versions=_array(TEXT), platform=TEXT, inputs=_array(ref("TensorMetadata")), outputs=_array(ref("TensorMetadata")),
    ),
    "RequestInput": _object(
        ("name", "shape", "datatype"), name=_NAME, shape=_SHAPE, datatype=_DATATYPE, parameters=_PARAMETERS, data=_DATA,
    ),
    "RequestOutput": _object(("name",), name=_NAME, parameters=_PARAMETERS),
    "InferRequest": _object(
        ("inputs",), id=TEXT, parameters=_PARAMETERS, inputs=_array(ref("RequestInput")), outputs=_array(ref("RequestOutput"))
    ),
    "ResponseOutput": _object(
        ("name", "shape", "datatype"), name=TEXT, shape=_SHAPE, datatype=_DATATYPE, parameters=ANYTHING, data=_DATA,
    ),
    "InferResponse": _object(
        ("model_name", "outputs"),
        model_name=TEXT, model_version=TEXT, id=TEXT, parameters=ANYTHING, outputs=_array(ref("ResponseOutput")),
    ),
    "GenerateRequest": {**_object(id=TEXT, text_input=TEXT, parameters=_PARAMETERS), "additionalProperties": True},
    "GenerateResponse": {**_object(("model_name",), model_name=TEXT, model_version=TEXT, text_output={}), "additionalProperties": True},
    "Statistics": _object(("model_stats",), model_stats=_array(ANYTHING)),
    "IndexRequest": _object(ready=FLAG),
    "Index": _array(_object(("name",), name=TEXT, version=TEXT, state=TEXT, reason=TEXT)),
    "LoadRequest": _object(parameters=_PARAMETERS),
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
    "ChatRequest": _object(("model", "messages"), model=_NAME, messages={**_array(_MESSAGE), "minItems": 1}, **_SAMPLING),
}  # fmt: skip
