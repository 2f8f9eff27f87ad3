"""An array of every datatype, with its extremes, and small models that really compute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy

from serve_apps.tensors import DTYPES, Array, Tensor


def _extremes(datatype: str) -> Array:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return numpy.array([[b"", b"\xff\x00\xfe\x00", "é".encode()]], dtype=object)
    if dtype.kind == "b":
        return numpy.array([[True, False]])
    if dtype.kind == "f":
        info = numpy.finfo(dtype)
        return numpy.array([[info.min, info.max, 0.1], [numpy.nan, numpy.inf, -0.0]], dtype)
    limits = numpy.iinfo(dtype)
    return numpy.array([[limits.min], [limits.max], [1]], dtype)


EXAMPLES: Mapping[str, Array] = {datatype: _extremes(datatype) for datatype in DTYPES}


def same(left: Tensor, right: Tensor) -> bool:
    """Equal in name, datatype, shape and every bit."""
    if (left.name, left.datatype, left.array.shape, dict(left.parameters)) != (
        right.name, right.datatype, right.array.shape, dict(right.parameters),
    ):  # fmt: skip
        return False
    if left.datatype == "BYTES":
        return bool(left.array.tolist() == right.array.tolist())
    return left.array.dtype == right.array.dtype and left.array.tobytes() == right.array.tobytes()
