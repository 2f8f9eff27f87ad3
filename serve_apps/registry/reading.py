"""What is registered of a model file: which files it is, what kind it is, and what it takes and gives.

The signature is found by loading the file here, as a replica would. Where its framework is not installed here it stays unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fabric.artefacts import digest_of
from fabric.errors import ModelError, UserError
from fabric.registry.signature import Signature
from fabric.registry.version import ModelFile
from serve_apps.load_model import load_model
from serve_apps.runtimes.formats import Format, recognise
from serve_apps.source import parts_of

SERVICE = "python"
"""The framework of a version that is a service class: its one file is the pickled source of it."""


@dataclass(frozen=True, slots=True)
class ReadModel:
    """`parts`: where each of `files` lies. `note`: why `signature` is None, if it is."""

    framework: str
    files: tuple[ModelFile, ...]
    parts: tuple[Path, ...]
    main: str
    signature: Signature | None
    note: str = ""


def read_model(path: Path, *, loads: bool = True, is_trusted: bool | None = None) -> ReadModel:
    """`loads` False: nothing is loaded, and the signature is not known. `is_trusted`: as of `load_model`.

    Raises: ModelError (`model_not_found`, `unknown_model_format`, `model_unreadable`, `unsafe_model`, `needs_signature`).
    """
    named, main = parts_of(path)
    files = tuple(ModelFile(name, digest_of(part), part.stat().st_size) for name, part in named)
    found = recognise(path)
    if found is None:
        load_model(path, is_trusted=False)  # tells what the file is instead
        raise ModelError(f"{path} is no model that is known", code="unknown_model_format", path=str(path))
    signature, note = _signature(path, is_trusted) if loads else (None, "it was not loaded")
    return ReadModel(word_for(found), files, tuple(part for _, part in named), main, signature, note)


def word_for(found: Format) -> str:
    """`TensorFlow SavedModel` -> `tensorflow-savedmodel`."""
    return re.sub(r"[^a-z0-9]+", "-", found.name.lower()).strip("-")


def _signature(path: Path, is_trusted: bool | None) -> tuple[Signature | None, str]:
    try:
        with load_model(path, is_trusted=is_trusted) as model:
            return Signature(model.inputs, model.outputs), ""
    except UserError as error:
        if error.code != "missing_package":
            raise
        return None, error.message
