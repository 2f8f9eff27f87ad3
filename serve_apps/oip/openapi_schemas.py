"""The schemas of the OpenAPI document: the forms of requests and answers, as the codecs read and write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_apps.oip.tensor_bytes import MAX_NAME_LENGTH, MAX_RANK, MAX_SIZE
from serve_apps.tensors import DTYPES

Form = dict[str, Any]

ERROR_STATUSES: Mapping[str, str] = {
    "400": "the request is wrong",
    "401": "a token is needed",
    "403": "this token may not",
    "404": "there is no such model or version",
    "413": "the body is too large",
    "429": "too many requests; see Retry-After",
    "500": "the model failed",
    "501": "not supported",
    "503": "not ready; see Retry-After",
    "504": "the deadline has passed",
}


def _object(properties: Form, *required: str, **more: Any) -> Form:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


def _array(items: Form, **more: Any) -> Form:
    return {"type": "array", "items": items, **more}


def _ref(name: str) -> Form:
    return {"$ref": f"#/components/schemas/{name}"}


def _optional(form: Form) -> Form:
    return {"oneOf": [form, {"type": "null"}]} if "$ref" in form else {**form, "type": [form["type"], "null"]}


_TEXT: Form = {"type": "string"}
_COUNT: Form = {"type": "integer", "minimum": 0}
_NAME: Form = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
_DATATYPE: Form = {"type": "string", "enum": list(DTYPES)}
_SHAPE = _array({"type": "integer", "minimum": 0, "maximum": MAX_SIZE}, maxItems=MAX_RANK)
_NULLABLE_TEXT: Form = {"type": ["string", "null"]}
_PLAIN_VALUES: Form = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SPEC = _object({"name": _TEXT, "datatype": _DATATYPE, "shape": _array({"type": "integer"})}, "name", "datatype", "shape")
_DURATION = _object({"count": _COUNT, "ns": _COUNT}, "count", "ns")

SCHEMAS: Form = {
    "Error": _object({"error": _TEXT, "code": _TEXT, "hint": _TEXT}, "error"),
    "PlainError": _object({"error": _object({"code": _TEXT, "message": _TEXT, "hint": _NULLABLE_TEXT}, "code", "message")}, "error"),
    "Live": _object({"live": {"type": "boolean"}}, "live"),
    "Ready": _object({"ready": {"type": "boolean"}}, "ready"),
    "Status": _object({"status": _TEXT}, "status"),
    "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}, "ready"),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)}, "name", "version", "extensions"),
    "ModelMetadata": _object(
        {"name": _TEXT, "versions": _array(_TEXT), "platform": _TEXT, "inputs": _array(_SPEC), "outputs": _array(_SPEC)},
        "name",
        "platform",
        "inputs",
        "outputs",
    ),
    "ModelConfig": _object({"name": _TEXT, "platform": _TEXT, "max_batch_size": _COUNT, "input": _array({"type": "object"})}, "name"),
    "Statistics": _object(
        {
            "model_stats": _array(
                _object(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": {"type": "object", "additionalProperties": _DURATION},
                        "batch_stats": _array({"type": "object"}),
                    },
                    "name",
                    "version",
                )
            )
        },
        "model_stats",
    ),
    "Parameters": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "properties": {
            "priority": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "description": "1 is the highest, 0 the model's default"},
            "timeout": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "description": "microseconds; 0: none"},
            "binary_data_output": {"type": "boolean"},
        },
    },
    "TensorData": {
        "type": "array",
        "description": "elements in row-major order, flat or nested as the shape",
        "items": {"anyOf": [{"type": ["number", "string", "boolean"]}, _ref("TensorData")]},
    },
    "InputParameters": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "properties": {"binary_data_size": {**_COUNT, "description": "bytes of this tensor behind the JSON, instead of data"}},
    },
    "OutputParameters": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "properties": {
            "binary_data": {"type": "boolean"},
            "classification": {**_COUNT, "maximum": 2**31 - 1, "description": "as its so many greatest values"},
        },
    },
    "Input": _object(
        {
            "name": _NAME,
            "datatype": _DATATYPE,
            "shape": _SHAPE,
            "data": _ref("TensorData"),
            "parameters": _optional(_ref("InputParameters")),
        },
        "name",
        "datatype",
        "shape",
    ),
    "InferRequest": _object(
        {
            "id": _optional(_TEXT),
            "parameters": _optional(_ref("Parameters")),
            "inputs": _array(_ref("Input"), maxItems=4096),
            "outputs": _optional(
                _array(_object({"name": _NAME, "parameters": _optional(_ref("OutputParameters"))}, "name"), maxItems=4096)
            ),
        },
        "inputs",
    ),
    "Output": _object(
        {
            "name": _TEXT,
            "datatype": _DATATYPE,
            "shape": _SHAPE,
            "data": {"type": "array", "items": {"type": ["number", "string", "boolean", "null"]}},
            "parameters": {"type": "object"},
        },
        "name",
        "datatype",
        "shape",
    ),
    "InferResponse": _object(
        {"id": _TEXT, "model_name": _TEXT, "model_version": _TEXT, "parameters": {"type": "object"}, "outputs": _array(_ref("Output"))},
        "model_name",
        "model_version",
        "outputs",
    ),
    "GenerateRequest": _object(
        {"id": _optional(_TEXT), "text_input": {}, "parameters": _optional({"type": "object"})},
        description="`text_input`, and whatever else names an input of the model; all others are parameters",
    ),
    "GenerateResponse": _object(
        {"id": _TEXT, "model_name": _TEXT, "model_version": _TEXT, "text_output": _TEXT}, "model_name", "model_version"
    ),
    "PredictRequest": {"type": "object", "description": "the arguments of predict, by name"},
    "PredictResponse": _object({"result": {}}, "result"),
    "RepositoryIndexRequest": _object({"ready": {"type": "boolean", "description": "only models that are ready"}}),
    "RepositoryIndex": _array(_object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT}, "name", "state", "reason")),
    "RepositoryChange": _object({"parameters": _optional(_PLAIN_VALUES)}),
}
