"""Small models that really compute, behind the `ServedModel` protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy

from fabric.errors import ModelError
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import DTYPES, Array, InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec, datatype_of

Arrays = dict[str, Array]


class Small:
    """`run`: from arrays by name to arrays by name; a list of them for a model that streams."""

    def __init__(
        self,
        name: str,
        inputs: str,
        outputs: str,
        run: Callable[[Arrays], Any],
        *,
        version: str = "1",
        max_batch_size: int = 0,
        **says: Any,
    ) -> None:
        self.metadata = ModelMetadata(name, (version,), "python_test", specs(inputs), specs(outputs), max_batch_size=max_batch_size, **says)
        self.version = version
        self.is_ready = True
        self.run = run
        self.seen: list[InferRequest] = []

    async def infer(self, request: InferRequest) -> InferResponse:
        return self._answer(request, self.run(self._arrays(request)))

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        results = self.run(self._arrays(request))
        for result in results if self.metadata.is_streaming else [results]:
            if isinstance(result, Exception):
                raise result
            await asyncio.sleep(0)
            yield self._answer(request, result)

    def statistics(self) -> Mapping[str, Any]:
        count = {"count": len(self.seen), "ns": 1000 * len(self.seen)}
        return {
            "last_inference": 0,
            "inference_count": len(self.seen),
            "execution_count": len(self.seen),
            "inference_stats": {"success": count},
            "batch_stats": [],
        }

    async def close(self) -> None:
        self.is_ready = False

    def _arrays(self, request: InferRequest) -> Arrays:
        self.seen.append(request)
        known = {spec.name: spec for spec in self.metadata.inputs}
        for tensor in request.inputs:
            if tensor.name not in known:
                raise ModelError(f"unknown input {tensor.name!r}", code="unknown_input")
            if tensor.datatype != known[tensor.name].datatype:
                raise ModelError(f"{tensor.name!r} is {tensor.datatype}", code="wrong_dtype")
            if not known[tensor.name].takes(tensor.array.shape):
                raise ModelError(f"{tensor.name!r} has the shape {tensor.array.shape}", code="wrong_shape")
        arrays = {tensor.name: tensor.array for tensor in request.inputs}
        missing = next((name for name in known if name not in arrays), None)
        if missing:
            raise ModelError(f"input {missing!r} is missing", code="missing_input")
        return arrays

    def _answer(self, request: InferRequest, result: Arrays) -> InferResponse:
        wanted = {output.name for output in request.outputs}
        if not wanted <= result.keys():
            raise ModelError("unknown output", code="unknown_output")
        declared = {spec.name: spec.datatype for spec in self.metadata.outputs}
        tensors = [Tensor(name, declared.get(name) or datatype_of(array), array) for name, array in result.items()]
        return InferResponse(self.metadata.name, self.version, tuple(t for t in tensors if not wanted or t.name in wanted))


def specs(text: str) -> tuple[TensorSpec, ...]:
    """`"x FP32 -1 4; y BYTES 1"`"""
    parsed = [one.split() for one in text.split(";") if one.strip()]
    return tuple(TensorSpec(name, datatype, tuple(map(int, shape))) for name, datatype, *shape in parsed)


def add(**options: Any) -> Small:
    return Small("add", "a FP32 -1 4; b FP32 -1 4", "sum FP32 -1 4; difference FP32 -1 4", _add, max_batch_size=8, **options)


def identity(datatype: str) -> Small:
    return Small(f"identity-{datatype.lower()}", f"x {datatype} -1 -1", f"y {datatype} -1 -1", lambda arrays: {"y": arrays["x"]})


def vector(datatype: str = "FP32") -> Small:
    return Small(f"vector-{datatype.lower()}", f"x {datatype} -1", f"y {datatype} -1", lambda arrays: {"y": arrays["x"]})


def shout() -> Small:
    """Text in capitals, one answer."""
    return Small("shout", "text BYTES 1", "loud BYTES 1", _shout, text_input="text", text_output="loud", kind="generate")


def spell() -> Small:
    """The letters of a text, one answer each; fails at an exclamation mark."""
    return Small(
        "spell", "text BYTES 1", "letter BYTES 1", _spell, text_input="text", text_output="letter", kind="generate", is_streaming=True
    )


def count_up() -> Small:
    """0, 1, … as numbers, one answer each."""
    return Small(
        "count", "n INT32 1", "i INT32 1", lambda a: [{"i": numpy.array([i], "<i4")} for i in range(int(a["n"][0]))], is_streaming=True
    )


def broken(error: Exception) -> Small:
    def run(_arrays: Arrays) -> Arrays:
        raise error

    return Small("broken", "x FP32 -1", "y FP32 -1", run)


def everything() -> list[Any]:
    identities = [identity(datatype) for datatype in DTYPES]
    return [add(), shout(), spell(), count_up(), vector(), *identities]


def _add(arrays: Arrays) -> Arrays:
    return {"sum": arrays["a"] + arrays["b"], "difference": arrays["a"] - arrays["b"]}


def _shout(arrays: Arrays) -> Arrays:
    return {"loud": objects([text.decode().upper().encode() for text in arrays["text"].tolist()], arrays["text"].shape)}


def _spell(arrays: Arrays) -> list[Any]:
    letters = arrays["text"].tolist()[0].decode()
    return [ModelError("no shouting", code="inference_failed") if c == "!" else {"letter": objects([c.encode()], (1,))} for c in letters]
