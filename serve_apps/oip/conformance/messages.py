"""The protocol's protobuf messages, written down from the specification as a table and built in a descriptor pool of their own.

Not the server's definitions: a wrong field number there must fail a check here. And not protobuf's default pool, in which client
libraries of the protocol register the same names.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"/{PACKAGE}.GRPCInferenceService/"

_TENSOR = "name:1 string, datatype:2 string, shape:3 int64*, parameters:4 <InferParameter>, contents:5 InferTensorContents"
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")

MESSAGES: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1 bool",
    "ModelReadyRequest": "name:1 string, version:2 string",
    "ModelReadyResponse": "ready:1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1 string, version:2 string, extensions:3 string*",
    "ModelMetadataRequest": "name:1 string, version:2 string",
    "TensorMetadata": "name:1 string, datatype:2 string, shape:3 int64*",
    "ModelMetadataResponse": "name:1 string, versions:2 string*, platform:3 string, inputs:4 TensorMetadata*, outputs:5 TensorMetadata*",
    "InferParameter": "bool_param:1 bool?, int64_param:2 int64?, string_param:3 string?, double_param:4 double?, uint64_param:5 uint64?",
    "InferTensorContents": "bool_contents:1 bool*, int_contents:2 int32*, int64_contents:3 int64*, uint_contents:4 uint32*, "
    "uint64_contents:5 uint64*, fp32_contents:6 float*, fp64_contents:7 double*, bytes_contents:8 bytes*",
    "InferInputTensor": _TENSOR,
    "InferOutputTensor": _TENSOR,
    "InferRequestedOutputTensor": "name:1 string, parameters:2 <InferParameter>",
    "ModelInferRequest": "model_name:1 string, model_version:2 string, id:3 string, parameters:4 <InferParameter>, "
    "inputs:5 InferInputTensor*, outputs:6 InferRequestedOutputTensor*, raw_input_contents:7 bytes*",
    "ModelInferResponse": "model_name:1 string, model_version:2 string, id:3 string, parameters:4 <InferParameter>, "
    "outputs:5 InferOutputTensor*, raw_output_contents:6 bytes*",
    "ModelStreamInferResponse": "error_message:1 string, infer_response:2 ModelInferResponse",
    "ModelStatisticsRequest": "name:1 string, version:2 string",
    "StatisticDuration": "count:1 uint64, ns:2 uint64",
    "InferStatistics": ", ".join(f"{name}:{number} StatisticDuration" for number, name in enumerate(_DURATIONS, 1)),
    "InferBatchStatistics": "batch_size:1 uint64, compute_input:2 StatisticDuration, compute_infer:3 StatisticDuration, "
    "compute_output:4 StatisticDuration",
    "ModelStatistics": "name:1 string, version:2 string, last_inference:3 uint64, inference_count:4 uint64, execution_count:5 uint64, "
    "inference_stats:6 InferStatistics, batch_stats:7 InferBatchStatistics*",
    "ModelStatisticsResponse": "model_stats:1 ModelStatistics*",
    "RepositoryIndexRequest": "repository_name:1 string, ready:2 bool",
    "ModelIndex": "name:1 string, version:2 string, state:3 string, reason:4 string",
    "RepositoryIndexResponse": "models:1 ModelIndex*",
}
"""Message -> its fields as `name:number type`; `*` is repeated, `?` one of the parameter's choices, `<T>` a map from string to T.

Nested messages stand at the top level: on the wire a message's name does not show.
Source: open_inference_grpc.proto; Triton's grpc_service.proto for statistics, repository and streaming.
"""

METHODS: dict[str, tuple[str, str]] = {
    **{name: (f"{name}Request", f"{name}Response") for name in (
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStatistics", "RepositoryIndex")},
    "ModelStreamInfer": ("ModelInferRequest", "ModelStreamInferResponse"),
}  # fmt: skip

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")


def _add_field(message: Any, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_REPEATED if kind[-1] in "*>" else _FIELD.LABEL_OPTIONAL)
    bare = kind.strip("*?<>")
    if kind.startswith("<"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", bare)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{message.name}.{entry.name}"
    elif bare in _SCALARS:
        field.type = getattr(_FIELD, f"TYPE_{bare.upper()}")
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{bare}"
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _built() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="conformance.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for each in filter(None, fields.split(", ")):
            place, kind = each.split()
            field_name, number = place.split(":")
            _add_field(message, int(number), field_name, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _built()
"""Name -> message class."""
