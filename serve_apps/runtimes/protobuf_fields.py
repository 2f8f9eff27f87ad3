"""Walks the fields of a serialised protobuf message without its schema, skipping over what is in them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Source: protobuf.dev, "Encoding", wire types."""


def fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of each field between `at` and `end`. Raises: `ValueError` where this is no message."""
    while at < end:
        key, at = _varint(content, at, end)
        number, wire = key >> 3, key & 7
        start = at
        if wire == VARINT:
            _, at = _varint(content, at, end)
        elif wire == BYTES:
            size, start = _varint(content, at, end)
            at = start + size
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field runs past the end of the message")
        yield number, wire, start, at


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= end:
            break
        byte = content[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("not a varint")
