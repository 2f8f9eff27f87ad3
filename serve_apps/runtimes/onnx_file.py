"""Reads of an ONNX or MindIR file, without their libraries, whether it is one, and which files an ONNX model's weights lie in.

The walk skips over the contents of fields, so it costs the same for a model of any size.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
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


# MindIR's ModelProto numbers the same things alike, but its versions are text. Source: mind_ir.proto of MindSpore.
_MINDIR_FIELDS = {
    1: BYTES,  # ir_version
    2: BYTES,  # producer_name
    3: BYTES,  # producer_version
    4: BYTES,  # domain
    5: BYTES,  # model_version
    6: BYTES,  # doc_string
    _GRAPH: BYTES,
    8: BYTES,  # functions
    9: BYTES,  # preprocessor
    10: VARINT,  # little_endian
    11: BYTES,  # parallel
    12: BYTES,  # primitives
    13: VARINT,  # mind_ir_version
    14: BYTES,  # user_info
}


def is_onnx(file: Path) -> bool:
    """Whether the file is, field by field, a serialised ONNX ModelProto with a graph in it."""
    return _GRAPH in _outermost(file, _MODEL_FIELDS)


def is_mindir(file: Path) -> bool:
    """Whether the file is, field by field, a serialised MindIR ModelProto with a graph in it."""
    return {1, _GRAPH} <= _outermost(file, _MINDIR_FIELDS)


def _outermost(file: Path, known: Mapping[int, int]) -> set[int]:
    """The numbers of the outermost fields; empty where one of them is not `known` in its wire type."""
    if not file.is_file() or file.stat().st_size == 0:
        return set()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        seen = set()
        try:
            for number, wire, _, _ in fields(content, 0, len(content)):
                if known.get(number) != wire:
                    return set()
                seen.add(number)
        except ValueError:
            return set()
    return seen


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


def source_bytes(file: Path) -> int:
    """The size of an ONNX model, with the files of weights beside it. Raises: as `weight_files`."""
    return sum(part.stat().st_size for part in (file, *weight_files(file)))


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
