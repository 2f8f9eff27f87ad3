"""Decides whether the forms that a model was rewritten into may answer in its place: they load, run where it runs, and agree with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import onnxruntime

from fabric.errors import ModelError
from serve_apps.runtimes.onnx import Runner, describe, open_session, session_options
from serve_apps.tensors import DTYPES, Array, TensorSpec

_TOLERANCE = {"FP16": 2e-2}
"""Of the largest value; others 1e-3. The forms add in another order, and sums of half precision differ in their last digits."""


def check_forms(file: Path, forms: Mapping[Path, onnxruntime.SessionOptions]) -> None:
    """Each form against the model itself, in one run on made-up inputs of one row.

    A model that cannot run on these (no example says what it takes), or gives other results each time, is loaded only.

    Raises: `ModelError` (`model_unreadable`).
    """
    session = open_session(file, session_options(num_threads=1))
    metadata = describe(session)
    model = Runner(session, metadata)
    inputs = {spec.name: _example(spec) for spec in metadata.inputs}
    expected = _answer(model, inputs)
    if expected is not None and not _agree(expected, _answer(model, inputs), metadata.outputs):
        expected = None
    del model, session
    for form, options in forms.items():
        other = open_session(form, options)
        if expected is not None and not _agree(expected, _answer(Runner(other, metadata), inputs), metadata.outputs):
            raise ModelError(f"{form.name} of {file} answers otherwise than the model itself", code="model_unreadable", path=str(file))


def _example(spec: TensorSpec) -> Array:
    shape = tuple(max(size, 1) for size in spec.shape)
    if spec.datatype == "BYTES":
        return numpy.full(shape, b"a", object)
    # 0.5 and not 0, which every weight takes to the same place; numbers of classes and of words start at 0.
    return numpy.full(shape, 0.5 if spec.datatype.startswith("FP") else 0, DTYPES[spec.datatype])


def _answer(runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
    try:
        return runner(inputs)
    except ModelError:
        return None


def _agree(expected: Mapping[str, Array], given: Mapping[str, Array] | None, specs: Sequence[TensorSpec]) -> bool:
    return given is not None and all(_is_near(expected[spec.name], given[spec.name], spec.datatype) for spec in specs)


def _is_near(expected: Array, given: Array, datatype: str) -> bool:
    if expected.shape != given.shape:
        return False
    if not datatype.startswith("FP"):
        # Whole numbers come of a comparison of sums (the nearest class), which may fall to either side.
        return True
    first, second = expected.astype(numpy.float64), given.astype(numpy.float64)
    largest = numpy.nanmax(numpy.abs(first), initial=0, where=numpy.isfinite(first))
    return bool(numpy.allclose(first, second, rtol=0, atol=_TOLERANCE.get(datatype, 1e-3) * max(largest, 1e-6), equal_nan=True))
