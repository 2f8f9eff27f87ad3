"""ONNX models on CPU through onnxruntime: checks what goes in against what the model declares, then runs it.

Values are converted only where nothing is lost in kind: numbers to floats, integers to integers that hold them, never floats to
integers nor text to numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import onnxruntime

from fabric.errors import ModelError, nearest_hint
from serve_apps.runtimes import TensorSpec

Array = numpy.ndarray[Any, Any]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel:
    """One onnxruntime session. Safe to call from several threads."""

    def __init__(self, file: Path, *, num_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        # Left alone, onnxruntime takes every core of the machine for each replica.
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would count as CPU use and drive the autoscaler on idle replicas.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public root
            raise ModelError(f"onnxruntime cannot load {file}: {error}", code="model_unreadable", path=str(file)) from error
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run the model once on `inputs` (by name; lists or arrays); returns every output by name."""
        self._check_names(inputs)
        feed = {spec.name: _as_declared(spec, inputs[spec.name]) for spec in self.inputs}
        try:
            results = self._session.run(None, feed)
        except Exception as error:
            raise ModelError(f"the model failed on these inputs: {error}", code="inference_failed") from error
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _check_names(self, inputs: Mapping[str, Any]) -> None:
        known = [spec.name for spec in self.inputs]
        for name in inputs:
            if name not in known:
                raise ModelError(f"the model has no input {name!r}", code="unknown_input", hint=nearest_hint(name, known), name=name)
        for spec in self.inputs:
            if spec.name not in inputs:
                raise ModelError(f"input {spec.name!r} is missing", code="missing_input", hint=f"expected {spec}", name=spec.name)


def _spec(node: Any) -> TensorSpec:
    return TensorSpec(name=node.name, dtype=_DTYPES.get(node.type, node.type), shape=tuple(node.shape))


def _as_declared(spec: TensorSpec, value: Any) -> Array:
    """`value` as an array of the declared dtype and shape."""
    try:
        array = numpy.asarray(value)
    except ValueError as error:
        raise _wrong("shape", spec, "rows of different lengths") from error
    array = _with_dtype(spec, array)
    if len(array.shape) != len(spec.shape) or any(
        isinstance(declared, int) and declared != size for declared, size in zip(spec.shape, array.shape, strict=True)
    ):
        raise _wrong("shape", spec, f"[{', '.join(map(str, array.shape))}]")
    return array


def _with_dtype(spec: TensorSpec, array: Array) -> Array:
    if spec.dtype == "str":
        if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)):
            return array.astype(object)
        raise _wrong("dtype", spec, str(array.dtype))
    if spec.dtype not in _DTYPES.values():
        return array  # a kind of tensor that numpy has no name for: onnxruntime judges it
    wanted = numpy.dtype(spec.dtype)
    if array.dtype == wanted or array.size == 0:
        return array.astype(wanted)
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = numpy.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise _wrong("dtype", spec, f"{array.dtype} with values from {array.min()} to {array.max()}")
        return array.astype(wanted)
    if array.dtype.kind in "biuf" and numpy.can_cast(array.dtype, wanted, casting="same_kind"):
        return array.astype(wanted)
    raise _wrong("dtype", spec, "text" if array.dtype.kind == "U" else str(array.dtype))


def _wrong(what: str, spec: TensorSpec, got: str) -> ModelError:
    return ModelError(
        f"input {spec.name!r} has the wrong {what}: expected {spec}, got {got}",
        code=f"wrong_{what}",
        name=spec.name,
        expected=str(spec),
        got=got,
    )
