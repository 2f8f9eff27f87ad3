"""Puts texts into a model's text input, in as few requests as the input's shape and the batch size allow, and takes text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from fabric.errors import ModelError, UserError
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec


def requests_of(texts: Sequence[str], target_version: str, metadata: ModelMetadata, parameters: Mapping[str, Any]) -> list[InferRequest]:
    """Requests that hold the texts in order. Raises: UserError (`unsupported_model`) if the model has no text input."""
    spec = text_input(metadata)
    most = metadata.max_batch_size or (len(texts) if not spec.shape or spec.shape[0] < 0 else spec.shape[0])
    size = max(1, min(most, len(texts))) if spec.shape else 1
    groups = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [
        InferRequest(
            model_name=metadata.name,
            inputs=(Tensor(spec.name, "BYTES", _array(group, spec)),),
            model_version=target_version,
            parameters=parameters,
        )
        for group in groups
    ]


def text_input(metadata: ModelMetadata) -> TensorSpec:
    """Raises: UserError (`unsupported_model`)."""
    for spec in metadata.inputs:
        if spec.name == metadata.text_input and spec.datatype == "BYTES":
            return spec
    raise UserError(f"model {metadata.name!r} takes no text", code="unsupported_model", param="model")


def text_of(response: InferResponse, metadata: ModelMetadata) -> str:
    """The text of an answer; empty where this answer has none, as the last one of a stream. Raises: ModelError (`bad_output`)."""
    for tensor in response.outputs:
        if tensor.name == metadata.text_output:
            if tensor.datatype != "BYTES":
                raise ModelError(f"output {tensor.name!r} is {tensor.datatype} and no text", code="inference_failed")
            parts = [item if isinstance(item, bytes) else str(item).encode() for item in tensor.array.reshape(-1)]
            return b"".join(parts).decode("utf-8", "replace")
    return ""


def _array(group: Sequence[str], spec: TensorSpec) -> Any:
    array = numpy.array([text.encode() for text in group], dtype=object)
    if not spec.shape:
        return array.reshape(())
    return array.reshape((len(group), *(1 for _ in spec.shape[1:])))
