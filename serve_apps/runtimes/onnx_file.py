"""Reads of an ONNX file, without its library, whether it is one and which files its weights lie in.

The walk skips over the contents of fields, so it costs the same for a model of any size.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from fabric.errors import ModelError
from serve_apps.runtimes.protobuf_fields import BYTES, VARINT, fields

_GRAPH = 7
# ModelProto: field number -> wire type. Source: onnx.proto3, message ModelProto.
_MODEL_FIELDS = {
    1: VARINT,  # ir_version
    2: BYTES,  # producer_name
    3: BYTES,  # producer_version
    4: BYTES,  # domain
    5: VARINT,  # model_version
    6: BYTES,  # doc_string
    _GRAPH: BYTES,
    8: BYTES,  # opset_import
    14: BYTES,  # metadata_props
    20: BYTES,  # training_info
    25: BYTES,  # functions
    26: BYTES,  # configuration
}
# Message -> {field number: the message in it}. Only the way to tensors. Source: onnx.proto3.
_TO_TENSORS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


def is_onnx(file: Path) -> bool:
    """Whether the file is, field by field, a serialised ONNX ModelProto with a graph in it."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            seen = set()
            for number, wire, _, _ in fields(content, 0, len(content)):
                if _MODEL_FIELDS.get(number) != wire:
                    return False
                seen.add(number)
        except ValueError:
            return False
    return _GRAPH in seen


def weight_files(file: Path) -> list[Path]:
    """The files beside an ONNX file that hold weights of it (external data), sorted.

    Raises: `ModelError` (`model_unreadable`) where one is missing, or lies outside of the model's folder.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        locations = sorted(set(_locations(content, "model", 0, len(content))))
    folder = file.absolute().parent
    found = []
    for location in locations:
        beside = Path(os.path.normpath(folder / location))
        # By name only: whether a link may lead elsewhere (in a hub's cache each does) onnxruntime judges as it loads.
        if not beside.is_relative_to(folder) or not beside.is_file():
            raise ModelError(
                f"{file} keeps weights in {location!r}, which is not a file in {folder}",
                code="model_unreadable",
                hint="copy it together with the files that lie beside it",
                path=str(file),
            )
        found.append(beside)
    return found


def _locations(content: mmap.mmap, message: str, start: int, end: int) -> Iterator[str]:
    inside = _TO_TENSORS[message]
    for number, wire, at, stop in fields(content, start, end):
        kind = inside.get(number)
        if kind is None or wire != BYTES:
            continue
        if kind != "external":
            yield from _locations(content, kind, at, stop)
            continue
        entry = {field: content[a:b] for field, _, a, b in fields(content, at, stop)}
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode()
