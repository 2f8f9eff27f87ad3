"""Reads which model a serialized ModelInferRequest asks for, and leaves the rest of the message unread.

Invariants: tensors are stepped over, never copied or parsed; the answer is the one that protobuf itself would give, whatever the order
of the fields. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from fabric.errors import UserError

MAX_FIELDS = 4096
"""As at the replicas, which refuse more."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NAME_TAG, _VERSION_TAG = 0x0A, 0x12


def infer_target(message: bytes) -> tuple[str, str]:
    """`model_name` and `model_version`, empty where absent. Raises: UserError (`bad_protobuf`)."""
    name, version = b"", b""
    at, size = 0, len(message)
    for _ in range(MAX_FIELDS):
        if at >= size:
            break
        tag, at = _varint(message, at)
        start, at = _value(message, tag & 7, at)
        if at > size:
            raise _bad("it ends within a field")
        # Of a field that stands twice the last one holds: no early end.
        if tag == _NAME_TAG:
            name = message[start:at]
        elif tag == _VERSION_TAG:
            version = message[start:at]
        elif tag < 8:
            raise _bad("field number 0")
    else:
        raise _bad(f"it has more than {MAX_FIELDS} fields")
    try:
        return name.decode(), version.decode()
    except UnicodeDecodeError as error:
        raise _bad("a name is not UTF-8") from error


def _value(message: bytes, kind: int, at: int) -> tuple[int, int]:
    """Where the value of a field begins and where it ends."""
    if kind == _LENGTH:
        length, at = _varint(message, at)
        return at, at + length
    if kind == _VARINT:
        return at, _varint(message, at)[1]
    if kind in (_FIXED64, _FIXED32):
        return at, at + (8 if kind == _FIXED64 else 4)
    raise _bad(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(at + 10, len(message))):
        byte = message[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise _bad("it ends within a number")


def _bad(why: str) -> UserError:
    return UserError(f"the message is not a ModelInferRequest: {why}", code="bad_protobuf")
