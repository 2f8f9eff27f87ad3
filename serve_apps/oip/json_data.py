"""A tensor's elements in JSON, flat or nested, checked into an array; and an array as elements.

Rules: elements are of their datatype's own JSON type (a boolean is no number, 1.0 no integer) and within its range; nesting is regular;
their number is the shape's. Nesting in another shape than the claimed one is taken in row-major order, as Triton takes it. FP16 and
BF16 have no JSON form. NaN and infinities have none either: they are refused in requests, and null in answers.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy

from fabric.errors import UserError
from serve_apps.oip.tensor_bytes import MAX_RANK, as_bytes, objects
from serve_apps.tensors import DTYPES, Array

_FLOATS = frozenset({float, int})
_TYPES: dict[str, frozenset[type]] = {
    datatype: frozenset({bool})
    if dtype.kind == "b"
    else frozenset({str})
    if dtype.kind == "O"
    else _FLOATS
    if dtype.kind == "f"
    else frozenset({int})
    for datatype, dtype in DTYPES.items()
    if datatype not in ("FP16", "BF16")
}
_FEW = 256
"""Up to so many numbers, Python compares them faster than numpy is asked to."""
_FP32_END = 2.0**128 - 2.0**103
"""What is below rounds to a finite FP32."""
_WORDS = {
    bool: "a boolean",
    str: "a string",
    float: "a number with a fraction",
    int: "a whole number",
    type(None): "null",
    dict: "an object",
    list: "an array",
}


def read_data(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """The array of the JSON value `data`. `shape` and `datatype` are checked ones.

    Raises: UserError (`wrong_data_size`, `wrong_value`, `ragged_data`, `no_json_form`).
    """
    types = _TYPES.get(datatype)
    if types is None:
        raise UserError(
            f"tensor {name!r}: receiving {datatype} as JSON is not supported", code="no_json_form", hint="send it as binary data"
        )
    if type(data) is not list:
        raise UserError(f"tensor {name!r}: data is not an array", code="wrong_value")
    found = set(map(type, data))
    if list in found:
        data = _flattened(name, data)
        found = set(map(type, data))
    count = math.prod(shape)
    if len(data) != count:
        raise UserError(f"tensor {name!r}: {datatype}{list(shape)} has {count} elements, and {len(data)} were sent", code="wrong_data_size")
    if not found <= types:
        wrong = next(iter(found - types))
        raise UserError(f"tensor {name!r}: {_WORDS.get(wrong, wrong.__name__)} is not {datatype}", code="wrong_value")
    if datatype == "BYTES":
        return objects([element.encode() for element in data], shape)
    return _numbers(name, datatype, data).reshape(shape)


def _flattened(name: str, data: list[Any]) -> list[Any]:
    """Level by level, each in C: every list of a level has the same length, and a level has lists only or none."""
    for _ in range(MAX_RANK):
        types = set(map(type, data))
        if list not in types:
            return data
        if len(types) > 1 or len(set(map(len, data))) > 1:
            raise UserError(f"tensor {name!r}: data is ragged", code="ragged_data", hint="all arrays of a level have the same length")
        data = list(chain.from_iterable(data))
    raise UserError(f"tensor {name!r}: data is nested more than {MAX_RANK} deep", code="ragged_data")


def _numbers(name: str, datatype: str, data: list[Any]) -> Array:
    dtype = DTYPES[datatype]
    if dtype.kind != "f":
        try:
            return numpy.array(data, dtype)
        except OverflowError:
            limits = numpy.iinfo(dtype)
            raise UserError(
                f"tensor {name!r}: a value is outside of {datatype}, {limits.min} to {limits.max}", code="wrong_value"
            ) from None
    if datatype == "FP64":
        return numpy.array(data, dtype)  # JSON's numbers, and orjson refuses larger ones
    if 0 < len(data) <= _FEW and min(data) > -_FP32_END and max(data) < _FP32_END:
        return numpy.array(data, dtype)
    with numpy.errstate(over="ignore"):
        array = numpy.array(data, dtype)
    if not numpy.isfinite(array).all():
        raise UserError(f"tensor {name!r}: a value is outside of {datatype}", code="wrong_value")
    return array


def write_data(name: str, datatype: str, array: Array) -> Any:
    """What orjson writes as the tensor's flat elements. Raises: UserError (`no_json_form`)."""
    if datatype == "BYTES":
        try:
            return [as_bytes(element).decode() for element in array.reshape(-1).tolist()]
        except UnicodeDecodeError:
            raise UserError(
                f"output {name!r} holds bytes that are not UTF-8", code="no_json_form", hint="ask for it with binary_data: true"
            ) from None
    if datatype not in _TYPES:
        raise UserError(
            f"output {name!r}: sending {datatype} as JSON is not supported", code="no_json_form", hint="ask for it with binary_data: true"
        )
    return numpy.ascontiguousarray(array, DTYPES[datatype]).reshape(-1)
