"""Models of text that really compute: vectors by hashed letter groups, and a writer that goes on by rote."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

import numpy

from fabric.errors import ModelError
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import InferRequest, InferResponse, Tensor
from tests.unit.oip.models import Arrays, Small

DIMENSIONS = 32


class Trigrams(Small):
    """`embed`: float32[texts, 32], the letter groups of three hashed into as many places, at length 1. Reports words as tokens."""

    def __init__(self, name: str = "embed", **options: Any) -> None:
        shape = options.pop("shape", "-1")
        super().__init__(
            name, f"text BYTES {shape}", f"vector FP32 -1 {DIMENSIONS}", _embed, text_input="text", kind="embeddings", **options
        )

    async def infer(self, request: InferRequest) -> InferResponse:
        response = await super().infer(request)
        words = sum(len(text.split()) for text in request.inputs[0].array.reshape(-1).tolist())
        response.parameters = {"prompt_tokens": words}
        return response


class Rote(Small):
    """`rote`: the words of the prompt again, one answer each, at most `max_tokens` of them; fails at the word `fail`."""

    def __init__(self, name: str = "rote", text_input: str = "prompt") -> None:
        says = {"text_input": text_input, "text_output": "said", "kind": "generate", "is_streaming": True}
        super().__init__(name, f"{text_input} BYTES 1", "said BYTES 1", dict, **says)

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        self.seen.append(request)
        words = request.inputs[0].array.reshape(-1)[0].decode().split()
        most = int(request.parameters.get("max_tokens", len(words)))
        counts = {"prompt_tokens": len(words), "completion_tokens": 0}
        for word in words[:most]:
            if word == "fail":
                raise ModelError("it was told to fail", code="inference_failed")
            counts["completion_tokens"] += 1
            said = Tensor("said", "BYTES", objects([(word + " ").encode()], (1,)))
            yield InferResponse(self.metadata.name, self.version, (said,), parameters={**counts})
        reason = "length" if most < len(words) else "stop"
        yield InferResponse(self.metadata.name, self.version, (), parameters={**counts, "finish_reason": reason})


def embedded(text: str) -> numpy.ndarray[Any, Any]:
    """What `embed` gives for one text."""
    vector = numpy.zeros(DIMENSIONS, "<f4")
    padded = f"  {text.lower()} "
    for start in range(len(padded) - 2):
        vector[zlib.crc32(padded[start : start + 3].encode()) % DIMENSIONS] += 1
    return vector / numpy.linalg.norm(vector)


def _embed(arrays: Arrays) -> Arrays:
    return {"vector": numpy.stack([embedded(text.decode()) for text in arrays["text"].reshape(-1).tolist()])}
