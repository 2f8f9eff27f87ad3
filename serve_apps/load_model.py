"""Decides by a file's content which runtime loads it; a name or an extension never counts.

The check walks the outermost fields of the file and skips over their contents, so it costs the same for a model of any size.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from fabric.errors import ModelError
from serve_apps.runtimes import NUM_THREADS, Model

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH = 7
# ModelProto: field number -> wire type. Source: onnx.proto3, message ModelProto.
_ONNX_FIELDS = {
    1: _VARINT,  # ir_version
    2: _BYTES,  # producer_name
    3: _BYTES,  # producer_version
    4: _BYTES,  # domain
    5: _VARINT,  # model_version
    6: _BYTES,  # doc_string
    _GRAPH: _BYTES,
    8: _BYTES,  # opset_import
    14: _BYTES,  # metadata_props
    20: _BYTES,  # training_info
    25: _BYTES,  # functions
    26: _BYTES,  # configuration
}


def load_model(path: str | os.PathLike[str], *, num_threads: int | None = None) -> Model:
    """Load a model from a local file; relative paths start at the current directory.

    `num_threads` bounds the threads of one `infer`; left out, it is one per CPU of the replica (1 outside a replica).

    Raises: `ModelError` (`model_not_found`, `unknown_model_format`, `model_unreadable`).
    """
    file = Path(path).absolute()
    if not file.is_file():
        seen = "it is a directory" if file.is_dir() else "there is no such file"
        raise ModelError(
            f"no model at {file} on {socket.gethostname()}: {seen}",
            code="model_not_found",
            hint="a replica opens the file on its own machine: give a path that exists there",
            path=str(file),
        )
    if not is_onnx(file):
        raise _unknown_format(file)
    # Heavy on purpose only here: onnxruntime takes longer to import than all of this package.
    from serve_apps.runtimes.onnx import OnnxModel

    return OnnxModel(file, num_threads=num_threads or NUM_THREADS.get())


def is_onnx(file: Path) -> bool:
    """Whether the file is, field by field, a serialised ONNX ModelProto with a graph in it."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            seen = set()
            for number, wire in _fields(content):
                if _ONNX_FIELDS.get(number) != wire:
                    return False
                seen.add(number)
        except ValueError:
            return False
    return _GRAPH in seen


def _fields(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(field number, wire type) of each outermost field. Raises: `ValueError` where this is no protobuf."""
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, at = _varint(content, at)
        elif wire == _BYTES:
            size, at = _varint(content, at)
            at += size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field runs past the end of the file")
        yield number, wire


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(content):
            break
        byte = content[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("not a varint")


def _unknown_format(file: Path) -> ModelError:
    with file.open("rb") as opened:
        head = opened.read(16)
    return ModelError(
        f"{file} is not an ONNX model: it starts with {head!r}" if head else f"{file} is not an ONNX model: it is empty",
        code="unknown_model_format",
        hint="export the model to ONNX; its content decides, not its name",
        path=str(file),
        first_bytes=head.hex(),
    )
