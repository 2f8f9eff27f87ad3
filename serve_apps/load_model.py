"""Decides by a file's content which runtime loads it; a name or an extension never counts. Loads nothing that may run code untrusted."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from fabric.errors import ModelError
from serve_apps.runtimes import FAST_DTYPES, NUM_THREADS, WEIGHTS_CACHE, LoadOptions, Precision
from serve_apps.runtimes.formats import BUILT_IN, Format, plugged_in, recognise
from serve_apps.runtimes.model import Model
from serve_apps.runtimes.torch_file import inner_names, is_weights_alone
from serve_apps.tensors import TensorSpec

PRECISIONS = ("file", "auto", "fp32", "bf16", "fp16")
_NUM_SHOWN = 6


def load_model(
    path: str | os.PathLike[str],
    *,
    num_threads: int | None = None,
    precision: Precision = "file",
    inputs: Sequence[TensorSpec] = (),
    is_trusted: bool | None = None,
) -> Model:
    """Load a model from a local file or folder; relative paths start at the current directory.

    `num_threads` bounds the threads of one `infer`; left out, it is one per CPU of the replica (1 outside a replica). `precision`:
    `file` runs the model as it was saved, `auto` in bf16 where the replica's flavor is faster in it, the others as they say; a format
    that cannot is refused. `inputs`: their names, datatypes and shapes, where the file does not say them (scripted TorchScript).

    Pickles and exported torch programs run code while they are loaded. `is_trusted` None loads them where the file belongs to the user
    of this process and nobody else may write to it; True loads any; False none.

    Raises: `ModelError` (`model_not_found`, `unknown_model_format`, `model_unreadable`, `unsafe_model`, `needs_signature`,
    `unsupported_precision`, `unsupported_signature`), `UserError` (`missing_package`).
    """
    file = Path(path).absolute()
    if not file.exists():
        raise ModelError(
            f"no model at {file} on {socket.gethostname()}: there is no such file",
            code="model_not_found",
            hint="a replica opens the file on its own machine: give a path that exists there",
            path=str(file),
        )
    if precision not in PRECISIONS:
        raise ModelError(f"precision is {precision!r}", code="unsupported_precision", hint=f"one of {', '.join(PRECISIONS)}")
    found = recognise(file)
    if found is None:
        raise _unknown_format(file)
    _check_trust(file, found, is_trusted)
    options = LoadOptions(
        num_threads=num_threads or NUM_THREADS.get(),
        precision=precision,
        inputs=tuple(inputs),
        cache=WEIGHTS_CACHE.get(),
        fast_dtypes=FAST_DTYPES.get(),
    )
    # Heavy on purpose only here: a framework takes longer to import than all of this package.
    return Model(found.runtime_class().load(file, options))


def _check_trust(file: Path, found: Format, is_trusted: bool | None) -> None:
    if not found.runs_code or is_trusted:
        return
    why = "it was not said to be trusted" if is_trusted is False else _why_untrusted(file)
    if why:
        raise ModelError(
            f"{file} was not loaded: a {found.name} file may run code as it is loaded, and {why}",
            code="unsafe_model",
            hint="load_model(path, is_trusted=True) loads it, if you would run a program from where it came; an ONNX file runs no code",
            path=str(file),
        )


def _why_untrusted(file: Path) -> str | None:
    """What keeps a file from being this user's own, or None."""
    for part in (file.resolve(), file.resolve().parent):
        found = part.stat()
        if found.st_uid not in (os.geteuid(), 0):
            return f"{part} belongs to another user"
        # In a folder with the sticky bit (/tmp) others may add files, and not replace this one.
        is_shared_folder = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_shared_folder:
            return f"others than you may write to {part}"
    return None


def _unknown_format(file: Path) -> ModelError:
    known = ", ".join(format.name for format in (*BUILT_IN, *plugged_in()))
    hint = f"known: {known}; the content decides, not the name"
    if is_weights_alone(file):
        hint = (
            "these are a torch model's weights alone: export the model (torch.export.save), or load them in a ModelService (load_weights)"
        )
    return ModelError(
        f"{file} is no model that is known: {_seen(file)}",
        code="unknown_model_format",
        hint=hint,
        path=str(file),
        first_bytes=_head(file).hex(),
    )


def _head(file: Path) -> bytes:
    if file.is_dir():
        return b""
    with file.open("rb") as opened:
        return opened.read(16)


def _seen(file: Path) -> str:
    if file.is_dir():
        return f"it is a folder of {_some(sorted(part.name for part in file.iterdir()))}"
    names = inner_names(file)
    if names:
        return f"it is a zip archive of {_some(sorted(name for name in names if name))}"
    head = _head(file)
    return f"it starts with {head!r}" if head else "it is empty"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_SHOWN]) + (", …" if len(names) > _NUM_SHOWN else "") if names else "nothing"
