"""Reads a Triton model repository: a folder for each model, with `config.pbtxt` and a folder for each version.

How Triton would run a model (instances, batching, which versions) is not taken over: here its deploy says so.
Source: Triton Inference Server, "Model Repository" and "Model Configuration".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from fabric.errors import ModelError, UserError
from fabric.registry.signature import Signature
from fabric.tensor_spec import TensorSpec
from serve_apps.oip.messages import CLASSES
from serve_apps.registry.elsewhere import Found, Place, Say, kept_name
from serve_apps.registry.reading import ReadModel, read_model
from serve_apps.runtimes.formats import recognise

CONFIG = "config.pbtxt"
_FILES = ("model.onnx", "model.savedmodel", "model.pt", "model.pt2", "model.tflite")
_NOT_TAKEN = re.compile(
    r"^\s*(version_policy|instance_group|dynamic_batching|sequence_batching|optimization|model_warmup|ensemble_scheduling|parameters|"
    r"response_cache|model_transaction_policy)\b",
    re.MULTILINE,
)


def triton_models(place: Place, say: Say) -> Iterator[Found]:
    """Every version of every model of the repository (or of the one model that the folder is), the oldest first.

    Raises: UserError (`bad_triton_config`; `unknown_model` where the named one is not there; `bad_place` where there is none).
    """
    folders = _model_folders(Path(place.address))
    if place.name:
        folders = [folder for folder in folders if folder.name == place.name]
    if not folders:
        raise UserError(
            f"there is no {place.name or 'model'} in {place.address}", code="bad_place", hint="folders like resnet/1/model.onnx"
        )
    for folder in folders:
        yield from _versions(folder, place, say)


def read_config(text: str) -> tuple[Any, tuple[str, ...]]:
    """A `config.pbtxt` as a message of the protocol's `ModelConfig`, and what of it is not taken over.

    Raises: UserError (`bad_triton_config`).
    """
    config = CLASSES["ModelConfig"]()
    try:
        # The protocol's file has the members that clients ask for; a repository's may have others, which are passed over.
        text_format.Parse(text, config, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise UserError(f"{CONFIG} cannot be read: {error}", code="bad_triton_config") from None
    return config, tuple(dict.fromkeys(_NOT_TAKEN.findall(text)))


def _model_folders(folder: Path) -> list[Path]:
    if _is_model(folder):
        return [folder]
    return [part for part in sorted(folder.iterdir()) if part.is_dir() and _is_model(part)]


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or bool(_numbered(folder))


def _numbered(folder: Path) -> list[Path]:
    parts = (part for part in folder.iterdir() if part.is_dir() and part.name.isascii() and part.name.isdecimal() and int(part.name) > 0)
    return sorted(parts, key=lambda part: int(part.name))


def _versions(folder: Path, place: Place, say: Say) -> Iterator[Found]:
    config, left = read_config(_text(folder / CONFIG)) if (folder / CONFIG).is_file() else (CLASSES["ModelConfig"](), ())
    name = kept_name(config.name or folder.name)
    if left:
        say(f"{name}: not taken over from {CONFIG}: {', '.join(left)}")
    for version in _numbered(folder):
        if place.word not in ("", version.name):
            continue
        path = _model_in(version)
        if path is None:
            say(f"{name}: version {version.name} holds no file of a known format, and is left out")
            continue
        said = {"triton.version": version.name, **({"triton.backend": config.backend} if config.backend else {})}
        yield Found(name, version.name, _read(path, config, name, say), path.absolute().as_uri(), said)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}", code="bad_triton_config") from None


def _model_in(version: Path) -> Path | None:
    """The file or folder that is loaded. An ONNX model of several files is a folder `model.onnx` with a file of that name in it."""
    names = [version / name for name in _FILES] + sorted(version.iterdir())
    for path in names:
        inner = path / path.name
        if path.is_dir() and inner.is_file() and recognise(inner) is not None:
            return inner
        if path.exists() and recognise(path) is not None:
            return path
    return None


def _read(path: Path, config: Any, name: str, say: Say) -> ReadModel:
    """The file's own signature; where it says none, that of the configuration."""
    try:
        read = read_model(path)
    except ModelError as error:
        if error.code != "needs_signature":
            raise
        read = replace(read_model(path, loads=False), note=error.message)
    if read.signature is None and (config.input or config.output):
        return replace(read, signature=signature_of(config), note="")
    if read.note:
        say(f"{name}: what it takes and gives is not known: {read.note}")
    return read


def signature_of(config: Any) -> Signature:
    """With a batch dimension of any size in front where `max_batch_size` is above 0."""
    return Signature(_specs(config.input, config), _specs(config.output, config))


def _specs(tensors: Sequence[Any], config: Any) -> tuple[TensorSpec, ...]:
    kinds = CLASSES["ModelConfig"].DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    batch = (-1,) if config.max_batch_size > 0 else ()
    found = []
    for tensor in tensors:
        kind = kinds[tensor.data_type].name.removeprefix("TYPE_")
        found.append(TensorSpec(tensor.name, "BYTES" if kind == "STRING" else kind, (*batch, *tensor.dims), _is_optional(tensor)))
    return tuple(found)


def _is_optional(tensor: Any) -> bool:
    return bool(getattr(tensor, "optional", False))  # an output has no such member
