"""Whether a file holds a pickled object, as joblib and pickle write it, and of which class; nothing of it is run."""

from __future__ import annotations

import bz2
import io
import lzma
import pickle
import pickletools
import zlib
from pathlib import Path

_HEAD_BYTES = 4096
"""The class of the outermost object is named in the first opcodes."""
_MAX_OPCODES = 40


def is_pickle(path: Path) -> bool:
    return pickled_class(path) is not None


def pickled_class(path: Path) -> str | None:
    """`module.Class` of the outermost object, or None where the file is no pickle of an object. Sees through joblib's compressions."""
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    content = _uncompressed(head)
    # Protocol 2 is from 2003; older ones have no mark at their start.
    if len(content) < 2 or content[0] != 0x80 or not 2 <= content[1] <= pickle.HIGHEST_PROTOCOL:
        return None
    return _first_class(content)


def _first_class(content: bytes) -> str | None:
    texts: list[str] = []
    try:
        for place, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(texts[-2:]) if len(texts) >= 2 else None
            if opcode.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT") and "UNICODE" not in opcode.name:
                return None
            if isinstance(argument, str):
                texts.append(argument)
            if place > _MAX_OPCODES:
                return None
    except ValueError:
        pass  # no opcode: not a pickle, or cut off
    return None


def _uncompressed(head: bytes) -> bytes:
    """As much as the first bytes tell of what joblib may have compressed; the bytes themselves where it has not."""
    try:
        if head.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(31).decompress(head)
        if head[:1] == b"\x78":
            return zlib.decompressobj().decompress(head)
        if head.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(head)
        if head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
            return lzma.LZMADecompressor().decompress(head)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        pass
    return head
