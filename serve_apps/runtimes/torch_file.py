"""Tells PyTorch's files apart by the names in their zip archive, without PyTorch.

TorchScript holds `constants.pkl` and `code/`; an exported program holds `models/` and an `archive_format` (or, before torch 2.8,
`serialized_exported_program.json`); weights alone hold `data.pkl` and neither.
"""

from __future__ import annotations

import zipfile
from pathlib import Path


def inner_names(path: Path) -> frozenset[str]:
    """The names in a zip archive, with and without their outermost folder; empty where the file is none."""
    if not path.is_file():
        return frozenset()
    with path.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":
            return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return frozenset()
    return frozenset(names) | {name.partition("/")[2] for name in names}


def is_torchscript(path: Path) -> bool:
    names = inner_names(path)
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def is_exported_program(path: Path) -> bool:
    names = inner_names(path)
    if "serialized_exported_program.json" in names:
        return True
    return "archive_format" in names and any(name.startswith("models/") for name in names)


def is_weights_alone(path: Path) -> bool:
    names = inner_names(path)
    return "data.pkl" in names and "constants.pkl" not in names
