"""The models of `cases` as services: what our server answers with where Triton has its Python backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import numpy
from numpy.typing import NDArray

from serve_apps.declare import Shape
from serve_apps.model_service import ModelService

SCALARS: dict[str, Any] = {
    "BOOL": numpy.bool_, "UINT8": numpy.uint8, "UINT16": numpy.uint16, "UINT32": numpy.uint32, "UINT64": numpy.uint64,
    "INT8": numpy.int8, "INT16": numpy.int16, "INT32": numpy.int32, "INT64": numpy.int64,
    "FP16": numpy.float16, "FP32": numpy.float32, "FP64": numpy.float64, "BYTES": numpy.object_,
}  # fmt: skip


def identity(datatype: str, *sizes: int | None) -> ModelService:
    """`INPUT0` -> `OUTPUT0`, of that datatype and shape."""
    form = Annotated[numpy.ndarray[Any, numpy.dtype[SCALARS[datatype]]], Shape(*sizes)]  # type: ignore[name-defined]

    class Outputs(TypedDict):
        OUTPUT0: Any

    Outputs.__annotations__ = {"OUTPUT0": form}

    class Identity(ModelService):
        def predict(self, INPUT0: Any) -> Any:
            return {"OUTPUT0": INPUT0}

    Identity.predict.__annotations__ = {"INPUT0": form, "return": Outputs}
    return Identity()


Row = Annotated[NDArray[numpy.float32], Shape(None, 3)]
Vector = Annotated[NDArray[numpy.float32], Shape(None)]
Text = Annotated[NDArray[numpy.object_], Shape(1)]


class Sums(TypedDict):
    sum: Row
    difference: Row


class TextOut(TypedDict):
    text_output: Text


class VectorOut(TypedDict):
    OUTPUT0: Vector


class Add(ModelService):
    max_batch_size = 8

    def predict(self, a: Row, b: Row) -> Sums:
        return {"sum": a + b, "difference": a - b}


class EchoText(ModelService):
    text_input, text_output = "text_input", "text_output"

    def predict(self, text_input: Text) -> TextOut:
        return {"text_output": text_input}


class Words(ModelService):
    text_input, text_output = "text_input", "text_output"

    def predict(self, text_input: Text) -> Iterator[TextOut]:
        for word in text_input[0].split():
            yield {"text_output": numpy.array([word], dtype=object)}


class Failing(ModelService):
    def predict(self, INPUT0: Vector) -> VectorOut:
        raise ValueError("it fails always")


def services() -> dict[str, ModelService]:
    """Name -> service."""
    return {
        **{f"identity_{datatype.lower()}": identity(datatype, None, None) for datatype in SCALARS},
        "add": Add(),
        "vector": identity("FP32", None),
        "echo_text": EchoText(),
        "words": Words(),
        "failing": Failing(),
    }
