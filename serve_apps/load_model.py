"""Decides by a file's content which runtime loads it; a name or an extension never counts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fabric.errors import ModelError
from serve_apps.runtimes import NUM_THREADS, LoadOptions
from serve_apps.runtimes.model import Model
from serve_apps.runtimes.onnx_file import is_onnx


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
    from serve_apps.runtimes.onnx import OnnxRuntime

    return Model(OnnxRuntime.load(file, LoadOptions(num_threads=num_threads or NUM_THREADS.get())))


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
