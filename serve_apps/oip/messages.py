"""The protobuf messages of the protocol, from `proto/inference.proto`, in a descriptor pool of their own.

Every client library of the protocol registers `inference.*` in protobuf's default pool, where a second registration fails the import.
Ours stays out of it, so a model's code may use any of those clients beside this server.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from fabric.errors import UserError

PACKAGE = "inference"


def _load() -> tuple[Any, dict[str, Any]]:
    files = descriptor_pb2.FileDescriptorSet.FromString((resources.files(__package__) / "proto" / "inference.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    classes = message_factory.GetMessageClassesForFiles([file.name for file in files.file], pool)
    return pool, {name.removeprefix(f"{PACKAGE}."): cls for name, cls in classes.items()}


POOL, CLASSES = _load()
SERVICE = POOL.FindServiceByName(f"{PACKAGE}.GRPCInferenceService")
"""The service's descriptor: `method.name`, `.input_type.name`, `.output_type.name`, `.client_streaming` for each of `SERVICE.methods`."""

ModelInferRequest = CLASSES["ModelInferRequest"]
ModelInferResponse = CLASSES["ModelInferResponse"]
ModelStreamInferResponse = CLASSES["ModelStreamInferResponse"]
ServerMetadataResponse = CLASSES["ServerMetadataResponse"]
ModelMetadataResponse = CLASSES["ModelMetadataResponse"]
ModelConfigResponse = CLASSES["ModelConfigResponse"]
ModelStatisticsResponse = CLASSES["ModelStatisticsResponse"]
RepositoryIndexResponse = CLASSES["RepositoryIndexResponse"]


def parse(name: str, body: bytes | bytearray | memoryview) -> Any:
    """The message `name` that `body` is. Raises: UserError (`bad_protobuf`)."""
    message = CLASSES[name]()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise UserError(f"the body is not a {name}", code="bad_protobuf") from None
    return message
