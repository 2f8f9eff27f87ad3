"""How big the arguments of a call are, as a bucket: cheap enough for every call.

A bucket is a power of 4 of the bytes: 0 up to 256 B, 1 up to 1 KiB, 2 up to 4 KiB, … Containers count their length times
the size of their first element; nothing is ever iterated or copied. The size of what an ObjectRef stands for is not known
here: such a call is in the bucket `UNKNOWN`, and is predicted as the task's commonest one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNKNOWN = -1
SIZE_STEPS_PER_OCTAVE = 16
_SMALL = 8
_MAX_DEPTH = 4


def bucket_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The size bucket of a call's arguments."""
    return bucket(input_bytes(args, kwargs))


def bucket(num_bytes: int) -> int:
    """The bucket of arguments of so many bytes; `UNKNOWN` of an unknown size."""
    if num_bytes > 256:
        return max(0, ((num_bytes - 1).bit_length() - 7) // 2)
    return 0 if num_bytes >= 0 else UNKNOWN


def max_bytes(bucket: int) -> int:
    """The largest arguments that fall into a bucket; -1 for those of unknown size."""
    return -1 if bucket == UNKNOWN else 256 * 4**bucket


def size_step(num_bytes: int) -> int:
    """The size that stands for this one and all within 2 % of it, for what is decided finer than by buckets; -1 stays -1."""
    return num_bytes if num_bytes <= 1 else stepped(num_bytes, SIZE_STEPS_PER_OCTAVE)


def stepped(amount: float, per_octave: int) -> int:
    """The nearest of so many steps between each power of two and the next."""
    return round(math.exp2(round(math.log2(max(amount, 1.0)) * per_octave) / per_octave))


def input_bytes(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Roughly how many bytes a call's arguments hold; -1 where one stands for an object elsewhere."""
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
    return size


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
