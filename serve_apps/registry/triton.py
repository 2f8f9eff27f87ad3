"""Reads a Triton model repository: a folder for each model, with `config.pbtxt` and a folder for each version.

How Triton would run a model (instances, batching, which versions) is not taken over: here its deploy says so.
Source: Triton Inference Server, "Model Repository" and "Model Configuration".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fabric.errors import ModelError, UserError
from fabric.registry.signature import Signature
from fabric.tensor_spec import TensorSpec
from serve_apps.registry.elsewhere import Found, Place, Say, kept_name
from serve_apps.registry.pbtxt import Message, read_pbtxt
from serve_apps.registry.reading import ReadModel, read_model
from serve_apps.runtimes.formats import recognise

CONFIG = "config.pbtxt"
_FILES = ("model.onnx", "model.savedmodel", "model.pt", "model.pt2", "model.tflite")
_TAKEN = frozenset({"name", "platform", "backend", "max_batch_size", "input", "output", "default_model_filename"})


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


def read_config(text: str) -> tuple[Message, tuple[str, ...]]:
    """A `config.pbtxt`, and what of it is not taken over. Raises: UserError (`bad_triton_config`)."""
    try:
        config = read_pbtxt(text)
    except ValueError as error:
        raise UserError(f"{CONFIG} cannot be read: {error}", code="bad_triton_config") from None
    return config, tuple(key for key in config if key not in _TAKEN)


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
    config, left = read_config(_text(folder / CONFIG)) if (folder / CONFIG).is_file() else ({}, ())
    name = kept_name(_word(config, "name") or folder.name)
    if left:
        say(f"{name}: not taken over from {CONFIG}: {', '.join(left)}")
    for version in _numbered(folder):
        if place.word not in ("", version.name):
            continue
        path = _model_in(version, _word(config, "default_model_filename"))
        if path is None:
            say(f"{name}: version {version.name} holds no file of a known format, and is left out")
            continue
        said = {"triton.version": version.name}
        said |= {f"triton.{key}": _word(config, key) for key in ("backend", "platform") if _word(config, key)}
        yield Found(name, version.name, _read(path, config, name, say), path.absolute().as_uri(), said)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}", code="bad_triton_config") from None


def _model_in(version: Path, named: str) -> Path | None:
    """The file or folder that is loaded. An ONNX model of several files is a folder `model.onnx` with a file of that name in it."""
    own = [version / Path(named).name] if named else []
    for path in (*own, *(version / name for name in _FILES), *sorted(version.iterdir())):
        inner = path / path.name
        if path.is_dir() and inner.is_file() and recognise(inner) is not None:
            return inner
        if path.exists() and recognise(path) is not None:
            return path
    return None


def _read(path: Path, config: Message, name: str, say: Say) -> ReadModel:
    """The file's own signature; where it says none, that of the configuration."""
    try:
        read = read_model(path)
    except ModelError as error:
        if error.code != "needs_signature":
            raise
        read = replace(read_model(path, loads=False), note=error.message)
    if read.signature is None and ("input" in config or "output" in config):
        return replace(read, signature=signature_of(config), note="")
    if read.note:
        say(f"{name}: what it takes and gives is not known: {read.note}")
    return read


def signature_of(config: Message) -> Signature:
    """With a batch dimension of any size in front where `max_batch_size` is above 0. Raises: UserError (`bad_triton_config`)."""
    is_batched = any(isinstance(size, int) and size > 0 for size in config.get("max_batch_size", ()))
    return Signature(*(tuple(_spec(tensor, is_batched) for tensor in config.get(side, ())) for side in ("input", "output")))


def _spec(tensor: Any, is_batched: bool) -> TensorSpec:
    sizes = tensor.get("dims", ()) if isinstance(tensor, dict) else ()
    name = _word(tensor, "name") if isinstance(tensor, dict) else ""
    kind = _word(tensor, "data_type").removeprefix("TYPE_") if name else ""
    if not kind or not all(isinstance(size, int) for size in sizes):
        raise UserError(f"{CONFIG}: a tensor without a name, a datatype or sizes", code="bad_triton_config", hint=f"tensor {name or '?'}")
    shape = ((-1,) if is_batched else ()) + tuple(sizes)
    return TensorSpec(name, "BYTES" if kind == "STRING" else kind, shape, _word(tensor, "optional") == "true")


def _word(message: Message, key: str) -> str:
    """The last value of a field counts, as in protobuf; empty: it has none."""
    values = message.get(key, ())
    return str(values[-1]) if values else ""
