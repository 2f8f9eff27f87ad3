"""Tensors as raw little-endian bytes and back, as the binary extension and protobuf's raw contents carry them.

Invariants: a claimed shape is compared with the bytes that came before anything is allocated by it; an array that is read lies over
the bytes themselves, without a copy, and is read-only, unless they are not aligned for its elements.
`BYTES` is, for each element, its length as four bytes and the element.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from fabric.errors import UserError
from serve_apps.tensors import DTYPES, Array

Buffer = bytes | bytearray | memoryview

MAX_NAME_LENGTH = 512
MAX_RANK = 32
MAX_SIZE = 2**31 - 1
"""Of one dimension. The product of all is at most `MAX_ELEMENTS`, also where one of them is 0: numpy counts the others."""
MAX_ELEMENTS = 2**40
MAX_BYTES_ELEMENTS = 2**24

_LENGTH = struct.Struct("<I")


def checked_name(name: Any, what: str = "tensor") -> str:
    """Raises: UserError (`bad_name`)."""
    if type(name) is not str or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise UserError(f"the name of a {what} is a string of 1 to {MAX_NAME_LENGTH} characters", code="bad_name")
    return name


def checked_shape(name: str, shape: Iterable[Any]) -> tuple[int, ...]:
    """`shape` as a tuple of plain ints. Raises: UserError (`wrong_shape`)."""
    sizes = tuple(shape)
    if len(sizes) > MAX_RANK:
        raise UserError(f"tensor {name!r} has {len(sizes)} dimensions; at most {MAX_RANK} are taken", code="wrong_shape")
    for size in sizes:
        if type(size) is not int or not 0 <= size <= MAX_SIZE:
            raise UserError(f"tensor {name!r}: {_short(size)} in its shape is not a size from 0 to {MAX_SIZE}", code="wrong_shape")
    if math.prod(size for size in sizes if size) > MAX_ELEMENTS:
        raise UserError(f"tensor {name!r}: its shape names more than {MAX_ELEMENTS} elements", code="wrong_shape")
    return sizes


def checked_datatype(name: str, datatype: Any) -> str:
    """Raises: UserError (`unknown_datatype`)."""
    if type(datatype) is not str or datatype not in DTYPES:
        raise UserError(
            f"tensor {name!r}: {_short(datatype)} is not a datatype", code="unknown_datatype", hint=f"the datatypes are {', '.join(DTYPES)}"
        )
    return datatype


def read_tensor(name: str, datatype: str, shape: tuple[int, ...], data: Buffer) -> Array:
    """The array that `data` holds. `shape` and `datatype` are checked ones. Raises: UserError (`wrong_data_size`, `bad_bytes_tensor`)."""
    if datatype == "BYTES":
        return _read_bytes_tensor(name, shape, data)
    dtype = DTYPES[datatype]
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise UserError(
            f"tensor {name!r}: {datatype}{list(shape)} takes {needed} bytes, and {len(data)} were sent",
            code="wrong_data_size",
        )
    array: Array = numpy.frombuffer(data, dtype=dtype).reshape(shape) if needed else numpy.empty(shape, dtype)
    if datatype == "BOOL" and needed:
        return _as_booleans(name, array)
    return array if array.flags.aligned else array.copy()


def _as_booleans(name: str, array: Array) -> Array:
    # numpy takes any byte for a boolean, and computes nonsense with one that is neither 0 nor 1.
    if array.view(numpy.uint8).max() > 1:
        raise UserError(f"tensor {name!r}: a BOOL is a byte of 0 or 1", code="wrong_value")
    return array


def _read_bytes_tensor(name: str, shape: tuple[int, ...], data: Buffer) -> Array:
    count, end = math.prod(shape), len(data)
    if count > MAX_BYTES_ELEMENTS:
        raise UserError(f"tensor {name!r} has more than {MAX_BYTES_ELEMENTS} elements of BYTES", code="too_large")
    if end < 4 * count:
        raise UserError(
            f"tensor {name!r}: BYTES{list(shape)} takes at least {4 * count} bytes, and {end} were sent", code="wrong_data_size"
        )
    view, offset = memoryview(data), 0
    elements: list[bytes] = []
    read_length = _LENGTH.unpack_from
    for _ in range(count):
        start = offset + 4
        if start > end:
            raise _truncated(name, len(elements))
        offset = start + read_length(view, offset)[0]
        if offset > end:
            raise _truncated(name, len(elements))
        elements.append(bytes(view[start:offset]))
    if offset != end:
        raise UserError(f"tensor {name!r}: {end - offset} bytes follow its last element", code="wrong_data_size")
    return objects(elements, shape)


def objects(elements: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """An object array: numpy would make fixed-width strings of `elements`, and lose trailing zero bytes."""
    array = numpy.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def write_tensor(datatype: str, array: Array) -> Buffer:
    """The bytes of `array` in row-major order: a view of it where its memory is laid out so. Length-prefixed for `BYTES`."""
    if datatype == "BYTES":
        parts: list[bytes] = []
        for element in array.reshape(-1).tolist():
            content = as_bytes(element)
            parts.append(_LENGTH.pack(len(content)))
            parts.append(content)
        return b"".join(parts)
    if not array.size:
        return b""
    return numpy.ascontiguousarray(array, dtype=DTYPES[datatype]).reshape(-1).view(numpy.uint8).data


def as_bytes(element: Any) -> bytes:
    """One element of a `BYTES` tensor; text is UTF-8, as is what is neither text nor bytes, as text."""
    if isinstance(element, bytes):
        return element
    return (element if isinstance(element, str) else str(element)).encode("utf-8", "surrogatepass")


def _truncated(name: str, index: int) -> UserError:
    return UserError(f"tensor {name!r}: element {index} of BYTES is longer than what is left of the data", code="bad_bytes_tensor")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
