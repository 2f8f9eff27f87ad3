"""The protocol's datatypes as the kit sends and reads them: sample values, JSON data, binary data, typed contents."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import numpy

from serve_apps.oip.conformance.check import Failed, expect

Array = numpy.ndarray[Any, Any]

WIDTHS: dict[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BYTES": "O",
}  # fmt: skip
"""Source: Open Inference Protocol, "Tensor Data Types": the 13 datatypes."""

CONTENTS: dict[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Datatype -> its field of InferTensorContents. FP16 has none: it is raw only."""

IN_JSON = tuple(name for name in WIDTHS if name != "FP16")


def edges(datatype: str) -> list[Any]:
    """Values at which converters go wrong: the ends of the range, integers beyond 2**53, text beyond ASCII."""
    if datatype == "BOOL":
        return [True, False]
    if datatype == "BYTES":
        return [b"a", b"", "é€😀".encode(), b'"\\\n', b"x" * 300]
    if datatype.startswith("FP"):
        info = numpy.finfo(WIDTHS[datatype])
        return [0.0, -1.5, 0.1, float(info.max), float(info.min), float(info.tiny)]
    whole = numpy.iinfo(WIDTHS[datatype])
    return [int(whole.min), int(whole.max), 1, int(whole.max) - 1]


def plain(datatype: str) -> list[Any]:
    """Values that most models take: a small index, a fraction, a word."""
    known: dict[str, list[Any]] = {"BOOL": [True], "BYTES": [b"hello"]}
    return known.get(datatype, [0.5, 0.25] if datatype.startswith("FP") else [1])


def filled(datatype: str, shape: tuple[int, ...], values: list[Any]) -> Array:
    """An array of that shape with the values in turn."""
    flat = numpy.empty(math.prod(shape), dtype=WIDTHS[datatype])
    for index, value in zip(range(flat.size), itertools.cycle(values), strict=False):
        flat[index] = value
    return flat.reshape(shape)


def to_json(array: Array, *, is_nested: bool) -> Any:
    """JSON data; BYTES as text. Raises: UnicodeDecodeError for bytes that are no text."""
    listed = array if is_nested else array.reshape(-1)
    if array.dtype != object:
        return listed.tolist()
    texts = numpy.empty(listed.shape, dtype=object)
    texts.reshape(-1)[:] = [value.decode() for value in listed.reshape(-1)]
    return texts.tolist()


def to_bytes(array: Array) -> bytes:
    """Binary data; each BYTES element behind its length in 4 bytes. Source: binary tensor data extension."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(value)) + value for value in array.reshape(-1))


def from_json(datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """Raises: `Failed` where the data are not what the datatype and the shape say."""
    flat: list[Any] = []
    _flatten(data, flat)
    expect(len(flat) == math.prod(shape), f"{math.prod(shape)} elements for the shape {list(shape)}", f"{len(flat)}")
    kind: tuple[type, ...] = {"BOOL": (bool,), "BYTES": (str,)}.get(datatype, (int, float) if datatype.startswith("FP") else (int,))
    wrong = [value for value in flat if not isinstance(value, kind) or (isinstance(value, bool) and datatype != "BOOL")]
    expect(not wrong, f"JSON data of {datatype}", f"{wrong[:1]}")
    return filled(datatype, shape, [value.encode() for value in flat] if datatype == "BYTES" else flat)


def from_bytes(datatype: str, shape: tuple[int, ...], content: bytes) -> Array:
    """Raises: `Failed` where the bytes are too few or too many."""
    count = math.prod(shape)
    if datatype != "BYTES":
        width = numpy.dtype(WIDTHS[datatype]).itemsize
        expect(len(content) == count * width, f"{count * width} bytes for {datatype}{list(shape)}", f"{len(content)} bytes")
        return numpy.frombuffer(content, dtype=WIDTHS[datatype]).reshape(shape)
    values, at = [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at)
        values.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(content) or len(values) != count:
        raise Failed(f"{count} elements of BYTES, each behind its length", f"{len(values)} in {len(content)} bytes")
    return filled(datatype, shape, values)


def same(one: Array, other: Array) -> bool:
    """Equal in shape, dtype and every element, to the bit for floats."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return list(one.reshape(-1)) == list(other.reshape(-1)) if one.dtype == object else one.tobytes() == other.tobytes()


def _flatten(data: Any, into: list[Any]) -> None:
    if not isinstance(data, list):
        into.append(data)
        return
    for each in data:
        _flatten(each, into)
