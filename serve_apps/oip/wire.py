"""The outermost level of a protobuf message, read and written by hand, so that large raw tensors are not copied through protobuf.

Only what protobuf's wire format defines: a message is a sequence of (tag, value), the order of different fields is free, and a
message split in two parses as one. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from fabric.errors import UserError

MAX_FIELDS = 4096
"""At the outermost level, in one message: each input, output, parameter and raw tensor is one. Bounds what a small body may become."""

_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}


def split(body: memoryview, number: int) -> tuple[list[memoryview], list[memoryview]]:
    """What is not field `number` of the message `body`, as parts to be joined, and the values of that field; all are views.

    Raises: UserError (`bad_protobuf`) for what is no message, or one of more than `MAX_FIELDS` fields.
    """
    others: list[memoryview] = []
    values: list[memoryview] = []
    start, end = 0, len(body)
    for _ in range(MAX_FIELDS):
        if start == end:
            return others, values
        tag, offset = _varint(body, start)
        if tag == (number << 3 | _LENGTH_DELIMITED):
            length, offset = _varint(body, offset)
            stop = _within(offset + length, end)
            values.append(body[offset:stop])
        else:
            stop = _within(_end_of(body, tag, offset), end)
            others.append(body[start:stop])
        start = stop
    raise UserError(f"the message has more than {MAX_FIELDS} fields", code="bad_protobuf")


def header_of(number: int, length: int) -> bytes:
    """What goes before `length` bytes to make them field `number`."""
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(length)


def _end_of(body: memoryview, tag: int, offset: int) -> int:
    kind = tag & 7
    if kind == _LENGTH_DELIMITED:
        length, offset = _varint(body, offset)
        return offset + length
    if kind == 0:
        return _varint(body, offset)[1]
    if kind in _FIXED_BYTES:
        return offset + _FIXED_BYTES[kind]
    raise UserError("the body is not a protobuf message", code="bad_protobuf")


def _varint(body: memoryview, offset: int) -> tuple[int, int]:
    value = shift = 0
    for byte in body[offset : offset + 10]:
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7
    raise UserError("the body is not a protobuf message: it ends within a number", code="bad_protobuf")


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _within(stop: int, end: int) -> int:
    if stop > end:
        raise UserError("the body is not a whole protobuf message: it ends within a field", code="bad_protobuf")
    return stop
