"""Carries arrays into torch and back, runs a torch callable on them, and names what comes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import torch

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.refusals import failed, unsupported
from serve_apps.tensors import Array, TensorSpec

_log = logging.getLogger(__name__)
DATATYPES = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.uint16: "UINT16",
    torch.uint32: "UINT32",
    torch.uint64: "UINT64",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}


def from_array(array: Array, datatype: str) -> torch.Tensor:
    """A tensor over the array's own memory, or over a copy where that is read-only: torch cannot promise not to write to it."""
    tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else numpy.array(array, order="C"))
    return tensor.view(torch.bfloat16) if datatype == "BF16" else tensor


def to_array(tensor: torch.Tensor) -> Array:
    """An array over the tensor's own memory; BF16 as uint16."""
    array: Array = (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy(force=True)
    return array


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """A mapping's tensors by their keys, a named tuple's by its fields, others as `output_0`, `output_1`, …

    Raises: `ModelError` (`unsupported_signature`) for what is no tensor.
    """
    if isinstance(result, torch.Tensor) and result.dtype in DATATYPES:
        return {"output_0": result}
    named: dict[str, Any]
    if isinstance(result, Mapping):
        named = {str(name): value for name, value in result.items()}
    elif isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [f"output_{place}" for place in range(len(result))]
        named = dict(zip(names, result, strict=True))
    else:
        named = {"output_0": result}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
            raise unsupported(f"output {name!r}", str(getattr(value, "dtype", type(value).__name__)))
    return named


class Caller:
    """Runs `call(*tensors)` in inference mode, in the precision that was asked for. Outputs keep the dtype that they are declared in."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[TensorSpec], options: LoadOptions) -> None:
        self._call = call
        self._inputs = [(spec.name, spec.datatype) for spec in inputs]
        self._autocast = autocast_dtype(options)
        self._declared: dict[str, torch.dtype] = {}

    def declare(self, outputs: Sequence[TensorSpec]) -> None:
        self._declared = {spec.name: DTYPES[spec.datatype] for spec in outputs}

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        try:
            tensors = [from_array(arrays[name], datatype) for name, datatype in self._inputs if name in arrays]
            return {name: to_array(self._as_declared(name, tensor)) for name, tensor in self.run(tensors).items()}
        except ModelError:
            raise
        except Exception as error:
            raise failed(error) from error

    def run(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            if self._autocast is None:
                return named_outputs(self._call(*tensors))
            with torch.autocast("cpu", dtype=self._autocast):
                return named_outputs(self._call(*tensors))

    def _as_declared(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        declared = self._declared.get(name)
        return tensor if declared is None or self._autocast is None else tensor.to(declared)


def autocast_dtype(options: LoadOptions) -> torch.dtype | None:
    """The dtype in which torch shall multiply, or None for the file's. `auto` takes bf16 where the flavor is faster in it.

    fp16 is never chosen by `auto`: its range is too small for some models, and only their authors know which.
    """
    if options.precision == "auto":
        return torch.bfloat16 if "bf16" in options.fast_dtypes else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)


def check_precision(options: LoadOptions, weights: Mapping[str, torch.Tensor]) -> None:
    """`fp32` can be had of a file of fp32 only. Raises: `ModelError` (`unsupported_precision`)."""
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if options.precision == "fp32" and dtypes - {torch.float32}:
        held = ", ".join(sorted(DATATYPES.get(dtype, str(dtype)) for dtype in dtypes))
        raise ModelError(
            f"the file holds weights in {held}, which cannot be run in fp32",
            code="unsupported_precision",
            hint="export the model in fp32, or leave precision out",
        )


def set_threads(num_threads: int) -> None:
    """For the whole process: torch knows no threads of one model."""
    torch.set_num_threads(num_threads)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:
            # Too late once torch has run something; these threads only serve a model's own `fork`.
            _log.info("interop_threads_stay num=%d", torch.get_num_interop_threads())
