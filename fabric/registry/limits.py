"""Whether what is to be registered is sound and of a size that the registry keeps. Checked once, at its door."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fabric.errors import UserError
from fabric.registry.names import check_name
from fabric.registry.signature import Signature
from fabric.registry.version import ModelFile, NewVersion

MAX_FILES = 10_000
MAX_PATH, MAX_SOURCE, MAX_WHY, MAX_KEY = 512, 2048, 1024, 128
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 64, 128, 512
MAX_METRICS, MAX_METRIC = 256, 128
MAX_SETTINGS_BYTES = 64 * 1024
MAX_TENSORS, MAX_RANK = 1024, 32
_FRAMEWORK = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_new(name: str, new: NewVersion) -> None:
    """Raises: UserError (`bad_name`, `bad_framework`, `bad_files`, `bad_metadata`, `bad_metrics`, `bad_signature`, `bad_settings`, …)."""
    check_name(name)
    if not _FRAMEWORK.fullmatch(new.framework):
        raise UserError(f"framework {new.framework[:80]!r} is not a word", code="bad_framework", hint="as onnx or scikit-learn")
    _check_files(new.files, new.main)
    check_text("source", new.source, MAX_SOURCE)
    check_text("key", new.key, MAX_KEY)
    check_metadata(new.metadata)
    check_metrics(new.metrics)
    if new.signature is not None:
        check_signature(new.signature)
    _check_settings(new.settings)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises: UserError (`bad_metadata`)."""
    if len(metadata) > MAX_METADATA:
        raise UserError(f"{len(metadata)} entries of metadata", code="bad_metadata", hint=f"up to {MAX_METADATA}; more belongs in a file")
    for key, value in metadata.items():
        if not key:
            raise UserError("an entry of metadata has no name", code="bad_metadata")
        check_text("metadata", key, MAX_METADATA_KEY)
        check_text("metadata", value, MAX_METADATA_VALUE)


def check_metrics(metrics: Mapping[str, float | None]) -> None:
    """Raises: UserError (`bad_metrics`)."""
    if len(metrics) > MAX_METRICS:
        raise UserError(f"{len(metrics)} metrics", code="bad_metrics", hint=f"up to {MAX_METRICS}")
    for name, value in metrics.items():
        if not name:
            raise UserError("a metric has no name", code="bad_metrics")
        check_text("metrics", name, MAX_METRIC)
        if value is not None and not math.isfinite(value):
            raise UserError(f"metric {name!r} is {value}", code="bad_metrics", hint="a finite number")


def check_signature(signature: Signature) -> None:
    """Raises: UserError (`bad_signature`)."""
    for side in (signature.inputs, signature.outputs):
        names = [spec.name for spec in side]
        if len(names) > MAX_TENSORS or len(set(names)) != len(names):
            raise UserError("a signature names each tensor once", code="bad_signature", hint=f"up to {MAX_TENSORS} on each side")
        for spec in side:
            check_text("signature", spec.name, 512)
            check_text("signature", spec.datatype, 32)
            if len(spec.shape) > MAX_RANK or any(size < -1 or size >= 2**63 for size in spec.shape):
                raise UserError(f"tensor {spec.name!r} has no such shape", code="bad_signature", hint="sizes, -1 for any")


def check_text(what: str, text: str, most: int) -> str:
    """PostgreSQL refuses NUL and half a surrogate pair, which SQLite takes: both are to refuse the same.

    Raises: UserError (`bad_<what>`).
    """
    is_text = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    if len(text) > most or not is_text:
        raise UserError(f"{what} {text[:40]!r} is too long, or no text", code=f"bad_{what}", hint=f"up to {most} characters")
    return text


def _check_files(files: Sequence[ModelFile], main: str) -> None:
    if not 1 <= len(files) <= MAX_FILES:
        raise UserError(f"a model of {len(files)} files", code="bad_files", hint=f"1 to {MAX_FILES:,}")
    paths = {file.path for file in files}
    for file in files:
        check_text("files", file.path, MAX_PATH)
        # The path is written to when the model is fetched or deployed: it must stay below its folder.
        if any(part in ("", ".", "..") for part in file.path.split("/")) or "\\" in file.path:
            raise UserError(f"{file.path[:80]!r} is not a path below a model's folder", code="bad_files", hint="variables/weights.bin")
        if not _DIGEST.fullmatch(file.digest):
            raise UserError(f"{file.digest[:80]!r} is not a digest", code="bad_files", hint="64 hexadecimal digits")
    if len(paths) != len(files) or any(_is_folder_of(path, paths) for path in paths):
        raise UserError("two files of the model have one path", code="bad_files")
    if main and main not in paths:
        raise UserError(f"{main[:80]!r} is none of the model's files", code="bad_files", hint="leave it empty where the folder is loaded")


def _is_folder_of(path: str, paths: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:depth]) in paths for depth in range(1, len(parts)))


def _check_settings(settings: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"settings have no JSON form: {error}", code="bad_settings") from None
    if size > MAX_SETTINGS_BYTES:
        raise UserError(f"settings of {size:,} bytes", code="bad_settings", hint=f"up to {MAX_SETTINGS_BYTES:,}")
