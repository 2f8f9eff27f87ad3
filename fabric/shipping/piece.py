"""Pages of a database as one object of the store: compressed, and checked before any of it is believed."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fabric.errors import FabricError, RuntimeFault

_MAGIC = b"tfpages1"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Label:
    """What a piece is of. `timeline`: one unbroken sequence of changes. `base` and `part` (0: it is none of a base), or the number of
    a `change`. A piece that lies in another's place is not taken for it."""

    timeline: str
    base: int
    part: int = 0
    change: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """`pages`: their bytes by number, from 1. `num_pages`: how many the database has behind this piece."""

    label: Label
    page_bytes: int
    num_pages: int
    pages: Mapping[int, bytes]

    def pack(self) -> bytes:
        head = json.dumps({**asdict(self.label), "page_bytes": self.page_bytes, "num_pages": self.num_pages}).encode()
        numbers = sorted(self.pages)
        packer = zlib.compressobj(1)
        body = [packer.compress(part) for part in (_LENGTH.pack(len(head)), head, _LENGTH.pack(len(numbers)))]
        body.append(packer.compress(struct.pack(f"<{len(numbers)}I", *numbers)))
        body += [packer.compress(self.pages[number]) for number in numbers]
        packed = b"".join((*body, packer.flush()))
        return _MAGIC + hashlib.sha256(packed).digest() + packed


def unpack(body: bytes, label: Label, name: str) -> Piece:
    """Raises: RuntimeFault (`copy_corrupt`) for anything but the piece with this label. `name` is for the message."""
    start = len(_MAGIC) + _DIGEST_BYTES
    if not body.startswith(_MAGIC) or hashlib.sha256(body[start:]).digest() != body[len(_MAGIC) : start]:
        raise corrupt(f"{name} is not what was stored there")
    raw = memoryview(zlib.decompress(body[start:]))
    (head_bytes,) = _LENGTH.unpack_from(raw)
    head = json.loads(bytes(raw[_LENGTH.size : _LENGTH.size + head_bytes]))
    page_bytes, num_pages = head.pop("page_bytes"), head.pop("num_pages")
    if Label(**head) != label:
        raise corrupt(f"{name} is a piece of something else")
    at = _LENGTH.size + head_bytes
    (count,) = _LENGTH.unpack_from(raw, at)
    at += _LENGTH.size
    numbers = struct.unpack_from(f"<{count}I", raw, at)
    at += 4 * count
    pages = {number: bytes(raw[at + index * page_bytes : at + (index + 1) * page_bytes]) for index, number in enumerate(numbers)}
    return Piece(label, page_bytes, num_pages, pages)


def corrupt(message: str) -> FabricError:
    return RuntimeFault(
        message, code="copy_corrupt", hint="an earlier copy is used where there is one; is the store's disk, or somebody else, changing it?"
    )
