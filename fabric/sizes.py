"""How big the arguments of a call are, as a bucket: cheap enough for every call.

A bucket is a power of 4 of the bytes: 0 up to 256 B, 1 up to 1 KiB, 2 up to 4 KiB, … Containers count their length times
the size of their first element; nothing is ever iterated or copied. The size of what an ObjectRef stands for is not known
here: such a call is in the bucket `UNKNOWN`, and is predicted as the task's commonest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = -1
_SMALL = 8
_MAX_DEPTH = 4


def bucket_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The size bucket of a call's arguments."""
    size = 0
    for value in args:
        part = size_bytes(value)
        if part < 0:
            return UNKNOWN
        size += part
    if kwargs:
        for value in kwargs.values():
            part = size_bytes(value)
            if part < 0:
                return UNKNOWN
            size += part
    return max(0, ((size - 1).bit_length() - 7) // 2) if size > 256 else 0


def size_bytes(value: Any, depth: int = 0) -> int:
    """Roughly how many bytes a value holds; opaque things count as small, an ObjectRef as -1."""
    kind = type(value)
    if kind in _SCALARS:
        return _SMALL
    if kind is str or kind is bytes or kind is bytearray:
        return len(value)
    nbytes = getattr(value, "nbytes", None)
    if type(nbytes) is int:
        return nbytes
    size = getattr(value, "size", None)
    if type(size) is int:  # a data frame: its cells
        return int(size) * _SMALL
    if type(size) is tuple and len(size) == 2 and all(type(side) is int for side in size):  # a PIL image: RGB
        return int(size[0]) * int(size[1]) * 3
    if (kind is list or kind is tuple) and value and depth < _MAX_DEPTH:
        return len(value) * abs(size_bytes(value[0], depth + 1))
    if kind is dict and value and depth < _MAX_DEPTH:
        return len(value) * abs(size_bytes(next(iter(value.values())), depth + 1))
    return -1 if kind.__name__ == "ObjectRef" else _SMALL


_SCALARS = frozenset({int, float, bool, complex, type(None)})
