"""Typed tensor contents and parameters of the protobuf messages, checked into arrays and plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from fabric.errors import UserError
from serve_apps.oip.schedule import MAX_PARAMETERS
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import DTYPES, Array

FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which repeated field holds the elements. FP16 and BF16 have none: they travel raw. Source: Open Inference Protocol, "Tensor Data"."""

_WIDER = {"uint_contents": numpy.uint32, "int_contents": numpy.int32}


def read_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    """The array of an `InferTensorContents`. Raises: UserError (`wrong_contents`, `wrong_data_size`, `wrong_value`)."""
    field = FIELDS.get(datatype)
    if field is None:
        raise UserError(f"tensor {name!r}: {datatype} has no typed contents", code="wrong_contents", hint="send it as raw_input_contents")
    for other, _ in contents.ListFields():
        if other.name != field:
            raise UserError(f"tensor {name!r} is {datatype} and belongs in {field}, not in {other.name}", code="wrong_contents")
    elements = getattr(contents, field)
    if len(elements) != math.prod(shape):
        raise UserError(
            f"tensor {name!r}: {datatype}{list(shape)} has {math.prod(shape)} elements, and {len(elements)} were sent",
            code="wrong_data_size",
        )
    if datatype == "BYTES":
        return objects(elements, shape)
    dtype = DTYPES[datatype]
    array = numpy.array(elements, dtype=_WIDER.get(field, dtype)).reshape(shape)
    return array if array.dtype == dtype else _narrowed(name, datatype, array, dtype)


def _narrowed(name: str, datatype: str, array: Array, dtype: numpy.dtype[Any]) -> Array:
    limits = numpy.iinfo(dtype)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise UserError(f"tensor {name!r}: a value is outside of {datatype}, {limits.min} to {limits.max}", code="wrong_value")
    return array.astype(dtype)


def read_parameters(parameters: Any) -> dict[str, Any]:
    """A map of `InferParameter` as plain values. Raises: UserError (`bad_parameter`)."""
    if not parameters:
        return {}
    if len(parameters) > MAX_PARAMETERS:
        raise UserError(f"more than {MAX_PARAMETERS} parameters", code="bad_parameter")
    plain = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise UserError(f"parameter {key!r} has no value", code="bad_parameter")
        plain[key] = getattr(parameter, choice)
    return plain


def write_parameters(parameters: Mapping[str, Any], target: Any) -> None:
    """Fill a map of `InferParameter`; what has no form there goes as text."""
    for key, value in parameters.items():
        parameter = target[key]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**64:
            setattr(parameter, "int64_param" if value < 2**63 else "uint64_param", value)
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = str(value)
