"""Decides whether two versions' answers to one request agree, and how far they are apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy

from serve_apps.tensors import Array

RTOL = 1e-2
_LEAST_NORM = 1e-12


class Comparison(NamedTuple):
    """`drift`: relative L2 distance, the mean over rows and outputs of floats; None where there are none."""

    agrees: bool
    drift: float | None


def compare(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Comparison:
    """Outputs by name. Whole numbers and texts agree where they are equal. A row of floats (its last axis) agrees where its greatest entry
    is the same one, or, of a single entry, where that is within `RTOL`. Answers agree where all outputs do."""
    agrees = ours.keys() == theirs.keys()
    drifts: list[float] = []
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one.shape != other.shape or (one.dtype.kind == "f") != (other.dtype.kind == "f"):
            agrees = False
        elif one.dtype.kind != "f":
            agrees = agrees and bool(numpy.array_equal(one, other))
        elif one.size:
            rows, others = _rows(one), _rows(other)
            agrees = agrees and _do_rows_agree(rows, others)
            drifts.append(_drift(rows, others))
    return Comparison(agrees, sum(drifts) / len(drifts) if drifts else None)


def _rows(array: Array) -> Array:
    """float64[rows, entries]"""
    return numpy.asarray(array, dtype=numpy.float64).reshape(-1, array.shape[-1] if array.ndim else 1)


def _do_rows_agree(rows: Array, others: Array) -> bool:
    if rows.shape[1] >= 2:
        return bool((rows.argmax(axis=1) == others.argmax(axis=1)).all())
    return bool(numpy.isclose(rows, others, rtol=RTOL, atol=1e-9, equal_nan=True).all())


def _drift(rows: Array, others: Array) -> float:
    """What is not finite in one of them counts as a whole norm apart, unless both have the same there."""
    with numpy.errstate(invalid="ignore"):
        apart = numpy.linalg.norm(numpy.where(rows == others, 0.0, rows - others), axis=1)
    norms = numpy.maximum(numpy.linalg.norm(rows, axis=1), numpy.linalg.norm(others, axis=1))
    with numpy.errstate(invalid="ignore"):
        relative = apart / numpy.maximum(norms, _LEAST_NORM)
    return float(numpy.where(numpy.isfinite(relative), relative, 1.0).mean())
