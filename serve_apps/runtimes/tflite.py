"""TensorFlow Lite models through LiteRT, which is small and has kernels for CPUs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy
from ai_edge_litert.interpreter import Interpreter

from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.refusals import closed, failed, refuse_precision, unreadable, unsupported
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

_DATATYPES = {
    numpy.bool_: "BOOL",
    numpy.float16: "FP16",
    numpy.float32: "FP32",
    numpy.float64: "FP64",
    **{getattr(numpy, f"{sign}int{bits}"): f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class TfLite:
    """One interpreter. It has one set of buffers, so that calls from several threads take turns."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._lock = threading.Lock()
        named = _names(interpreter)
        self._inputs = {named.get(("inputs", at["index"]), at["name"]): at for at in interpreter.get_input_details()}
        self._outputs = {named.get(("outputs", at["index"]), at["name"]): at for at in interpreter.get_output_details()}
        self._shapes = {name: tuple(at["shape"]) for name, at in self._inputs.items()}
        self._is_allocated = False
        self.metadata = ModelMetadata(
            name="",
            versions=(),
            platform="tensorflow_lite",
            inputs=tuple(_spec("input", name, at) for name, at in self._inputs.items()),
            outputs=tuple(_spec("output", name, at) for name, at in self._outputs.items()),
            max_batch_size=max_batch_size([_dimensions(at) for at in (*self._inputs.values(), *self._outputs.values())]),
        )

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        refuse_precision(options, "a TensorFlow Lite model")
        try:
            # Given a path, the interpreter maps the file: its weights are one copy for all processes of the node.
            interpreter = Interpreter(model_path=str(path), num_threads=options.num_threads)
        except Exception as error:
            raise unreadable("ai-edge-litert", path, error) from error
        return cls(interpreter)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            if self._interpreter is None:
                raise closed()
            try:
                self._resize(inputs)
                for name, array in inputs.items():
                    self._interpreter.set_tensor(self._inputs[name]["index"], numpy.ascontiguousarray(array))
                self._interpreter.invoke()
                # `get_tensor` copies: the buffers are written to by the next call.
                return {name: self._interpreter.get_tensor(at["index"]) for name, at in self._outputs.items()}
            except (ValueError, RuntimeError) as error:
                self._is_allocated = False
                raise failed(error) from error

    def close(self) -> None:
        with self._lock:
            self._interpreter = None

    def _resize(self, inputs: Mapping[str, Array]) -> None:
        """Buffers for inputs of these shapes; they stay for the next call of the same shapes."""
        for name, array in inputs.items():
            if array.shape != self._shapes[name]:
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], array.shape, strict=True)
                self._shapes[name] = array.shape
                self._is_allocated = False
        if not self._is_allocated:
            self._interpreter.allocate_tensors()
            self._is_allocated = True


def _names(interpreter: Interpreter) -> dict[tuple[str, int], str]:
    """(side, index of the tensor) -> the name that the model's first signature gives it; the tensor's own may be `serving_default_x:0`."""
    listed = interpreter.get_signature_list()
    if not listed:
        return {}
    runner = interpreter.get_signature_runner(next(iter(listed)))
    sides: dict[str, Any] = {"inputs": runner.get_input_details(), "outputs": runner.get_output_details()}
    return {(side, at["index"]): name for side, details in sides.items() for name, at in details.items()}


def _dimensions(at: Mapping[str, Any]) -> list[int]:
    signature = at["shape_signature"]
    return [int(size) for size in (signature if len(signature) else at["shape"])]


def _spec(side: str, name: str, at: Mapping[str, Any]) -> TensorSpec:
    if at["dtype"] not in _DATATYPES:
        raise unsupported(f"{side} {name!r}", at["dtype"].__name__)
    return TensorSpec(name, _DATATYPES[at["dtype"]], tuple(_dimensions(at)))
