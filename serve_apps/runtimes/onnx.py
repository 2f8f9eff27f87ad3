"""ONNX models on CPU through onnxruntime."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy
import onnxruntime

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.refusals import closed, failed, refuse_precision, unreadable, unsupported
from serve_apps.runtimes.text_arrays import encoded
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

PROVIDERS = ["CPUExecutionProvider"]

_log = logging.getLogger(__name__)
_BF16 = 16  # TensorProto.DataType.BFLOAT16, which numpy has no name for
_DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def session_options(num_threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that shares its machine with others."""
    options = onnxruntime.SessionOptions()
    # Left alone, onnxruntime takes every core of the machine for each replica.
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would count as CPU use and drive the autoscaler on idle replicas.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def open_session(file: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Raises: `ModelError` (`model_unreadable`)."""
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=PROVIDERS)
    except Exception as error:  # onnxruntime's errors share no public root
        raise unreadable("onnxruntime", file, error) from error


class OnnxRuntime:
    """One onnxruntime session. Safe to call from several threads."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.metadata = describe(session)
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = Runner(session, self.metadata)

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        """The arithmetic stays as the file has it. Raises: `ModelError` (`model_unreadable`, `unsupported_precision`)."""
        refuse_precision(options, "an ONNX model")
        return cls(open_session(path, session_options(options.num_threads)))

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(inputs)

    def close(self) -> None:
        self._run = closed_runner


class Runner:
    """Calls one session; converts only text and BF16, which onnxruntime takes in other forms than the protocol's."""

    def __init__(self, session: onnxruntime.InferenceSession, metadata: ModelMetadata) -> None:
        self._session = session
        self._names = [spec.name for spec in metadata.outputs]
        self._datatypes = {spec.name: spec.datatype for spec in (*metadata.inputs, *metadata.outputs)}
        special = {"BYTES", "BF16"}.intersection(self._datatypes.values())
        if len(special) > 1:
            raise ModelError("onnxruntime cannot pass text and bfloat16 in one call", code="unsupported_signature")
        plainly: Callable[[Mapping[str, Array]], Iterable[Array]] = functools.partial(session.run, self._names)
        self._call = {"BYTES": self._with_text, "BF16": self._with_bf16}[special.pop()] if special else plainly

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._names, self._call(inputs), strict=True))
        except Exception as error:
            raise failed(error) from error

    def _with_text(self, inputs: Mapping[str, Array]) -> Iterable[Array]:
        feed = {name: _text(array) if array.dtype == object else array for name, array in inputs.items()}
        return [encoded(array) if array.dtype == object else array for array in self._session.run(self._names, feed)]

    def _with_bf16(self, inputs: Mapping[str, Array]) -> Iterable[Array]:
        feed = {name: _ort_value(array, self._datatypes[name]) for name, array in inputs.items()}
        values = self._session.run_with_ort_values(self._names, feed)
        return [_bits(value) if value.element_type() == _BF16 else value.numpy() for value in values]


def closed_runner(_inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Stands in for the runner of a closed model."""
    raise closed()


def _text(array: Array) -> Array:
    """onnxruntime would take bytes by their `repr`. Raises: `UnicodeDecodeError`."""
    return numpy.fromiter((item.decode() for item in array.flat), object, array.size).reshape(array.shape)


def _ort_value(array: Array, datatype: str) -> Any:
    if datatype == "BF16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(numpy.ascontiguousarray(array), _BF16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _bits(value: Any) -> Array:
    """A copy of a bfloat16 value as uint16: `numpy()` refuses it."""
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy.frombuffer(bytearray(content), numpy.uint16).reshape(value.shape())


def describe(session: onnxruntime.InferenceSession) -> ModelMetadata:
    """What a session declares. An output that is no tensor (a list of maps) is left out, as no protocol can carry it.

    Raises: `ModelError` (`unsupported_signature`) where an input, or every output, has a type without a name in the protocol.
    """
    given, made = session.get_inputs(), session.get_outputs()
    told = [node for node in made if node.type in _DATATYPES]
    lost = [node for node in made if node.type not in _DATATYPES]
    for node in [node for node in given if node.type not in _DATATYPES] or (lost if not told else []):
        hint = "scikit-learn: convert with options={'zipmap': False}" if "map(" in node.type else None
        raise unsupported(repr(node.name), node.type, hint)
    for node in lost:
        _log.warning("output_left_out name=%s type=%s", node.name, node.type)
    return ModelMetadata(
        name="",
        versions=(),
        platform="onnx_onnxv1",
        inputs=tuple(map(_spec, given)),
        outputs=tuple(map(_spec, told)),
        max_batch_size=max_batch_size([node.shape for node in (*given, *made)]),
    )


def _spec(node: Any) -> TensorSpec:
    return TensorSpec(node.name, _DATATYPES[node.type], tuple(size if isinstance(size, int) else -1 for size in node.shape))
