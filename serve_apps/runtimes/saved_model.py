"""TensorFlow SavedModels: the signature `serving_default`, or the only one there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy
import tensorflow

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.refusals import closed, failed, refuse_precision, unreadable, unsupported
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

_log = logging.getLogger(__name__)
_DEFAULT = "serving_default"
_DATATYPES = {
    "bool": "BOOL",
    "string": "BYTES",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class SavedModel:
    """One signature of one SavedModel. Safe to call from several threads."""

    def __init__(self, loaded: Any, signature: Any) -> None:
        # A signature does not keep alive what it was loaded with, its variables among them.
        self._loaded = loaded
        self._signature = signature
        self.metadata = _describe(signature)
        self._datatypes = {spec.name: spec.datatype for spec in (*self.metadata.inputs, *self.metadata.outputs)}

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        refuse_precision(options, "a SavedModel")
        _set_threads(options.num_threads)
        try:
            loaded = tensorflow.saved_model.load(str(path))
            signatures = dict(loaded.signatures)
        except Exception as error:
            raise unreadable("tensorflow", path, error) from error
        chosen = signatures.get(_DEFAULT) or (next(iter(signatures.values())) if len(signatures) == 1 else None)
        if chosen is None:
            raise ModelError(
                f"{path} has no signature {_DEFAULT!r} (it has: {', '.join(sorted(signatures)) or 'none'})",
                code="needs_signature",
                hint="tf.saved_model.save(model, path, signatures={'serving_default': …})",
            )
        return cls(loaded, chosen)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._signature is None:
            raise closed()
        try:
            given = {name: self._tensor(name, array) for name, array in inputs.items()}
            made = self._signature(**given)
        except Exception as error:
            raise failed(error) from error
        return {name: self._array(name, made[name]) for name in (spec.name for spec in self.metadata.outputs)}

    def close(self) -> None:
        self._loaded = self._signature = None

    def _tensor(self, name: str, array: Array) -> Any:
        if self._datatypes[name] == "BF16":
            return tensorflow.bitcast(tensorflow.constant(array), tensorflow.bfloat16)
        return tensorflow.constant(array)

    def _array(self, name: str, tensor: Any) -> Array:
        array = tensor.numpy()
        if self._datatypes[name] == "BF16":
            return array.view(numpy.uint16)  # type: ignore[no-any-return]
        # A scalar text comes as plain bytes.
        return array if isinstance(array, numpy.ndarray) else numpy.array(array, object)


def _set_threads(num_threads: int) -> None:
    """For the whole process, and before TensorFlow has run anything."""
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(num_threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        _log.info("tensorflow_threads_stay num=%d", tensorflow.config.threading.get_intra_op_parallelism_threads())


def _describe(signature: Any) -> ModelMetadata:
    _, given = signature.structured_input_signature
    made = dict(sorted(signature.structured_outputs.items()))
    shapes = [_dimensions(name, spec) for name, spec in (*given.items(), *made.items())]
    return ModelMetadata(
        name="",
        versions=(),
        platform="tensorflow_savedmodel",
        inputs=tuple(_spec("input", name, spec) for name, spec in given.items()),
        outputs=tuple(_spec("output", name, spec) for name, spec in made.items()),
        max_batch_size=max_batch_size(shapes),
    )


def _dimensions(name: str, spec: Any) -> list[int | None]:
    if spec.shape.rank is None:
        raise unsupported(repr(name), "tensor of any number of dimensions", "export it with an input_signature that says how many")
    return list(spec.shape.as_list())


def _spec(side: str, name: str, spec: Any) -> TensorSpec:
    kind = spec.dtype.name
    if kind not in _DATATYPES:
        raise unsupported(f"{side} {name!r}", kind)
    return TensorSpec(name, _DATATYPES[kind], tuple(-1 if size is None else size for size in _dimensions(name, spec)))
