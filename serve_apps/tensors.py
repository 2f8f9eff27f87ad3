"""The nouns of inference: tensors, requests, answers, and what a model says of itself. Every protocol and every runtime meets here.

Datatypes are those of the Open Inference Protocol (`FP32`, `BYTES`, …); arrays are numpy's. `BYTES` is an object array of `bytes`,
`BF16` a uint16 array of the upper halves of float32.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy

from fabric.tensor_spec import TensorSpec as TensorSpec

if TYPE_CHECKING:
    from fabric.api.tokens import Principal

Array = numpy.ndarray[Any, Any]

DTYPES: Mapping[str, numpy.dtype[Any]] = {
    "BOOL": numpy.dtype(numpy.bool_),
    "UINT8": numpy.dtype(numpy.uint8),
    "UINT16": numpy.dtype("<u2"),
    "UINT32": numpy.dtype("<u4"),
    "UINT64": numpy.dtype("<u8"),
    "INT8": numpy.dtype(numpy.int8),
    "INT16": numpy.dtype("<i2"),
    "INT32": numpy.dtype("<i4"),
    "INT64": numpy.dtype("<i8"),
    "FP16": numpy.dtype("<f2"),
    "FP32": numpy.dtype("<f4"),
    "FP64": numpy.dtype("<f8"),
    "BYTES": numpy.dtype(object),
    "BF16": numpy.dtype("<u2"),
}
"""Source: Open Inference Protocol, "Tensor Data Types"; BF16 is Triton's."""

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items() if datatype != "BF16"}


def datatype_of(array: Array) -> str:
    """The protocol's name for an array's dtype; text (`U`, `S`) and objects are `BYTES`. Raises: KeyError for what has none."""
    return "BYTES" if array.dtype.kind in "USO" else _DATATYPES[array.dtype]


@dataclass(slots=True)
class Tensor:
    """One named array of a request or an answer; `array.shape` is its shape."""

    name: str
    datatype: str
    array: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model says of itself. `platform`: as `onnx_onnxv1`. `max_batch_size` 0: its inputs have no batch dimension.

    `is_streaming`: one request may have several answers. `text_input`, `text_output`: the names of the tensors that `generate` and
    the OpenAI dialect use, empty where the model has none. `kind`: `tensors`, `embeddings` or `generate`. `has_side_effects`: it does
    more than answer, so no request is sent to it twice.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    is_streaming: bool = False
    text_input: str = ""
    text_output: str = ""
    kind: str = "tensors"
    has_side_effects: bool = False


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class _Ids:
    """Unique among all processes, without a system call for each: 80 random bits of the process, then a count. A fork draws anew."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._prefix, self._next = os.urandom(10).hex(), itertools.count().__next__

    def __call__(self) -> str:
        return f"{self._prefix}{self._next():012x}"


new_request_id = _Ids()


@dataclass(slots=True)
class InferRequest:
    """`priority`: 1 is the highest, 0 the model's default (Triton's schedule_policy). `deadline_s`: monotonic, infinite if none.

    `outputs` empty: all. `id` empty: the caller gave none, and gets none back; `request_id` always names the request in logs and usage.
    """

    model_name: str
    inputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()
    priority: int = 0
    deadline_s: float = math.inf
    principal: Principal | None = None
    request_id: str = field(default_factory=new_request_id)

    def remaining_s(self, now_s: float | None = None) -> float:
        return self.deadline_s - (time.monotonic() if now_s is None else now_s)


@dataclass(slots=True)
class InferResponse:
    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
