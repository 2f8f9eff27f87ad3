"""What a server says of itself and its models, as plain JSON: metadata, configuration, index, statistics.

The forms are Triton's, and the protobuf messages are read from the same forms, so that REST and gRPC cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format

from serve_apps.oip import messages
from serve_apps.oip.dataplane import EXTENSIONS, DataPlane, IndexEntry
from serve_apps.tensors import ModelMetadata, TensorSpec

Form = Mapping[str, Any]


def server_metadata(plane: DataPlane) -> Form:
    return {"name": plane.server_name, "version": plane.server_version, "extensions": list(EXTENSIONS)}


def model_metadata(metadata: ModelMetadata) -> Form:
    return {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "platform": metadata.platform,
        "inputs": [_tensor(spec) for spec in metadata.inputs],
        "outputs": [_tensor(spec) for spec in metadata.outputs],
    }


def model_config(metadata: ModelMetadata) -> Form:
    """Triton's model configuration as far as it means something here. Dimensions without the batch's."""
    config: dict[str, Any] = {
        "name": metadata.name,
        "platform": metadata.platform,
        "backend": metadata.platform.partition("_")[0],
        "version_policy": {"latest": {"num_versions": max(1, len(metadata.versions))}},
        "max_batch_size": metadata.max_batch_size,
        "input": [{**_config_tensor(spec, metadata), **({"optional": True} if spec.is_optional else {})} for spec in metadata.inputs],
        "output": [_config_tensor(spec, metadata) for spec in metadata.outputs],
    }
    if metadata.max_batch_size > 0:
        config["dynamic_batching"] = {}
    if metadata.is_streaming:
        config["model_transaction_policy"] = {"decoupled": True}
    return config


def repository_index(entries: Iterable[IndexEntry]) -> list[Form]:
    return [{"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason} for entry in entries]


def statistics(models: Sequence[Form]) -> Form:
    return {"model_stats": list(models)}


def as_message(name: str, form: Form) -> bytes:
    """A form as the serialized protobuf message `name`; what the message has no field for is left out."""
    message = json_format.ParseDict(form, messages.CLASSES[name](), ignore_unknown_fields=True, descriptor_pool=messages.POOL)
    return bytes(message.SerializeToString())


def _tensor(spec: TensorSpec) -> Form:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec, metadata: ModelMetadata) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[1:] if metadata.max_batch_size > 0 else spec.shape)}
