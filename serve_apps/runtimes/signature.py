"""Decides whether what is given to a model fits what it declares, and converts it where nothing is lost.

Values are converted only where nothing is lost in kind: numbers to floats, integers to integers that hold them, never floats to
integers nor text to numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy

from fabric.errors import ModelError, nearest_hint
from serve_apps.runtimes.text_arrays import encoded
from serve_apps.tensors import DTYPES, Array, TensorSpec


class Signature:
    """The inputs of one model, ready to be compared with."""

    def __init__(self, specs: tuple[TensorSpec, ...]) -> None:
        self.specs = specs
        self._wanted = {spec.name: (DTYPES[spec.datatype], len(spec.shape), _fixed(spec.shape), spec) for spec in specs}

    def check(self, inputs: Mapping[str, Array]) -> None:
        """That `inputs` are arrays of exactly the declared names, dtypes and shapes. About a microsecond for one input.

        Raises: `ModelError` (`unknown_input`, `missing_input`, `wrong_dtype`, `wrong_shape`).
        """
        wanted = self._wanted
        for name, array in inputs.items():
            declared = wanted.get(name)
            if declared is None:
                self._refuse_name(name)
            dtype, rank, fixed, spec = declared
            given = array.dtype
            # Nearly always the very same object; to compare two costs as much as all the rest.
            if given is not dtype and given != dtype:
                raise wrong("dtype", spec, str(given))
            shape = array.shape
            if len(shape) != rank:
                raise wrong("shape", spec, _listed(shape))
            for axis, size in fixed:
                if shape[axis] != size:
                    raise wrong("shape", spec, _listed(shape))
        if len(inputs) < len(wanted):
            self._refuse_missing(inputs)

    def convert(self, inputs: Any) -> dict[str, Array]:
        """`inputs` (lists or arrays by name; one alone for a model of one input) as arrays that `check` would pass.

        Raises: as `check`.
        """
        if not isinstance(inputs, Mapping):
            if len(self.specs) != 1:
                names = ", ".join(spec.name for spec in self.specs)
                raise ModelError(
                    f"the model has {len(self.specs)} inputs: name them", code="missing_input", hint=f'infer({{"…": …}}): {names}'
                )
            inputs = {self.specs[0].name: inputs}
        for name in inputs:
            if name not in self._wanted:
                self._refuse_name(name)
        self._refuse_missing(inputs)
        return {spec.name: _as_declared(spec, inputs[spec.name]) for spec in self.specs if spec.name in inputs}

    def _refuse_name(self, name: str) -> NoReturn:
        raise ModelError(f"the model has no input {name!r}", code="unknown_input", hint=nearest_hint(name, self._wanted), name=name)

    def _refuse_missing(self, inputs: Mapping[str, Any]) -> None:
        for spec in self.specs:
            if spec.name not in inputs and not spec.is_optional:
                raise ModelError(f"input {spec.name!r} is missing", code="missing_input", hint=f"expected {spec}", name=spec.name)


def _fixed(shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(axis, size) of each dimension that is not free."""
    return tuple((axis, size) for axis, size in enumerate(shape) if size >= 0)


def wrong(what: str, spec: TensorSpec, got: str) -> ModelError:
    """The error of an input whose `what` (`dtype`, `shape`) is not the declared one."""
    return ModelError(
        f"input {spec.name!r} has the wrong {what}: expected {spec}, got {got}",
        code=f"wrong_{what}",
        name=spec.name,
        expected=str(spec),
        got=got,
    )


def _as_declared(spec: TensorSpec, value: Any) -> Array:
    """`value` as an array of the declared dtype and shape."""
    try:
        array = numpy.asarray(value)
    except ValueError as error:
        raise wrong("shape", spec, "rows of different lengths") from error
    array = _as_bytes(spec, array) if spec.datatype == "BYTES" else _as_numbers(spec, array)
    if not spec.takes(array.shape):
        raise wrong("shape", spec, _listed(array.shape))
    return array


def _as_bytes(spec: TensorSpec, array: Array) -> Array:
    """Text as the bytes of its UTF-8."""
    items = array.astype(object)
    if array.dtype.kind not in "USO" or not all(isinstance(item, str | bytes) for item in items.flat):
        raise wrong("dtype", spec, str(array.dtype))
    return encoded(items)


def _as_numbers(spec: TensorSpec, array: Array) -> Array:
    wanted = DTYPES[spec.datatype]
    if array.dtype == wanted and spec.datatype != "BF16":
        return array
    if array.dtype.kind in "biuf":
        if spec.datatype == "BF16":
            return array if array.dtype == wanted else to_bf16(array)
        if array.size == 0:
            return array.astype(wanted)
        if array.dtype.kind in "iu" and wanted.kind in "iu":
            limits = numpy.iinfo(wanted)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise wrong("dtype", spec, f"{array.dtype} with values from {array.min()} to {array.max()}")
            return array.astype(wanted)
        if numpy.can_cast(array.dtype, wanted, casting="same_kind"):
            return array.astype(wanted)
    raise wrong("dtype", spec, "text" if array.dtype.kind == "U" else str(array.dtype))


def to_bf16(array: Array) -> Array:
    """Floats as BF16 (uint16), rounded to the nearest even; NaN stays NaN."""
    single = numpy.ascontiguousarray(array, numpy.float32)
    bits = single.view(numpy.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)
    return numpy.where(numpy.isnan(single), numpy.uint16(0x7FC0), rounded)


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
