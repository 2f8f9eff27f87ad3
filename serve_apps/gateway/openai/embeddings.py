"""`/v1/embeddings`: which texts are asked for in which form, and the vectors in that form. Source: OpenAI's API reference, "Embeddings"."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import orjson

from fabric.errors import ModelError, UserError
from serve_apps.gateway.openai import fields
from serve_apps.gateway.openai.usage import usage
from serve_apps.oip.answer import JSON, Answer
from serve_apps.tensors import Array, InferResponse, ModelMetadata

_FLOATS = frozenset({"FP16", "FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """`dimensions`: how many of each vector's are wanted, None for all."""

    model: str
    texts: Sequence[str]
    is_base64: bool
    dimensions: int | None


def read_embeddings(document: fields.Document) -> EmbeddingsRequest:
    """Raises: UserError with `param`."""
    form = document.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise fields.wrong("encoding_format", "encoding_format is float or base64")
    texts = fields.texts(document, "input")
    if not all(texts):
        raise fields.wrong("input", "input holds an empty text")
    return EmbeddingsRequest(fields.text(document, "model"), texts, form == "base64", fields.count(document, "dimensions"))


def check_embeds(metadata: ModelMetadata) -> None:
    """Raises: UserError (`unsupported_model`)."""
    if metadata.kind != "embeddings":
        raise UserError(f"model {metadata.name!r} gives no embeddings", code="unsupported_model", param="model")


def write_embeddings(request: EmbeddingsRequest, responses: Sequence[InferResponse], metadata: ModelMetadata) -> Answer:
    """`responses`: in the order of the texts. Raises: ModelError, UserError (`invalid_value`: more dimensions than there are)."""
    vectors = numpy.concatenate([_vectors(response, metadata) for response in responses])
    if len(vectors) != len(request.texts):
        raise ModelError(f"model {metadata.name!r} gave {len(vectors)} vectors for {len(request.texts)} texts", code="inference_failed")
    if request.dimensions is not None:
        vectors = _shortened(vectors, request.dimensions)
    data = [{"object": "embedding", "index": i, "embedding": _written(vector, request.is_base64)} for i, vector in enumerate(vectors)]
    form = {"object": "list", "data": data, "model": request.model, "usage": usage(responses, has_completion=False)}
    return Answer(200, [JSON], [orjson.dumps(form, option=orjson.OPT_SERIALIZE_NUMPY)])


def _vectors(response: InferResponse, metadata: ModelMetadata) -> Array:
    """float32[texts, dimensions]: the first output of floats; one vector per row."""
    tensor = next((tensor for tensor in response.outputs if tensor.datatype in _FLOATS), None)
    if tensor is None:
        raise ModelError(f"model {metadata.name!r} gave no vector", code="inference_failed")
    array = tensor.array if tensor.array.ndim > 1 else tensor.array.reshape(1, -1)
    return numpy.ascontiguousarray(array.reshape(len(array), -1), dtype="<f4")


def _shortened(vectors: Array, dimensions: int) -> Array:
    """The first dimensions, at length 1 again, as OpenAI shortens. Raises: UserError."""
    if dimensions > vectors.shape[1]:
        raise fields.wrong("dimensions", f"dimensions is {dimensions}, and the model has {vectors.shape[1]}")
    cut = vectors[:, :dimensions]
    lengths = numpy.linalg.norm(cut, axis=1, keepdims=True)
    return numpy.asarray(cut / numpy.where(lengths > 0, lengths, 1.0), dtype="<f4")


def _written(vector: Array, is_base64: bool) -> Any:
    return base64.b64encode(vector.tobytes()).decode() if is_base64 else vector
