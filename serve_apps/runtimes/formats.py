"""Which formats of models there are, how each is recognised by its content, and which class runs it.

Other packages add formats in the entry point group `tierfabric.runtimes`; what is built in is asked first.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from fabric.errors import UserError
from serve_apps.runtimes import ModelRuntime
from serve_apps.runtimes.flatbuffer_file import is_tflite
from serve_apps.runtimes.onnx_file import is_mindir, is_onnx
from serve_apps.runtimes.pickle_file import is_pickle
from serve_apps.runtimes.torch_file import is_exported_program, is_torchscript

GROUP = "tierfabric.runtimes"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Format:
    """One format of model files.

    `recognises(path)`: by content, cheaply, and without the framework's library. `runtime`: `module:Class` of its `ModelRuntime`,
    imported when the first such model is loaded. `package`: what that import needs, and `extra` what installs it.
    `runs_code`: loading such a file may run any code that is in it.
    """

    name: str
    recognises: Callable[[Path], bool]
    runtime: str
    package: str
    extra: str
    runs_code: bool = False

    def runtime_class(self) -> type[ModelRuntime]:
        """Raises: `UserError` (`missing_package`) that names what to install."""
        module, _, name = self.runtime.partition(":")
        try:
            return cast("type[ModelRuntime]", getattr(importlib.import_module(module), name))
        except ImportError as error:
            if (error.name or "").partition(".")[0] != self.package:
                raise
            raise UserError(
                f"a {self.name} model needs the package {self.package}",
                code="missing_package",
                hint=f"pip install '{self.extra}'",
                package=self.package,
            ) from error


def _is_saved_model(path: Path) -> bool:
    return path.is_dir() and ((path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file())


_HERE = "serve_apps.runtimes"
BUILT_IN = (
    Format("ONNX", is_onnx, f"{_HERE}.onnx_loading:OnnxLoading", "onnxruntime", "tierfabric"),
    Format("TorchScript", is_torchscript, f"{_HERE}.torchscript:TorchScript", "torch", "tierfabric[torch]"),
    Format("torch.export", is_exported_program, f"{_HERE}.torch_export:ExportedProgram", "torch", "tierfabric[torch]", runs_code=True),
    Format("TensorFlow SavedModel", _is_saved_model, f"{_HERE}.saved_model:SavedModel", "tensorflow", "tierfabric[tensorflow]"),
    Format("TensorFlow Lite", is_tflite, f"{_HERE}.tflite:TfLite", "ai_edge_litert", "tierfabric[litert]"),
    Format("MindSpore MINDIR", is_mindir, f"{_HERE}.mindir:MindIr", "mindspore", "tierfabric[mindspore]"),
    Format("scikit-learn", is_pickle, f"{_HERE}.estimator:Estimator", "joblib", "tierfabric[sklearn]", runs_code=True),
)


def recognise(path: Path) -> Format | None:
    """The format of the file or folder at `path`, or None."""
    for known in (*BUILT_IN, *plugged_in()):
        if known.recognises(path):
            return known
    return None


@functools.cache
def plugged_in() -> tuple[Format, ...]:
    """Formats of other packages. One that cannot be imported, or is no `Format`, is logged and left out."""
    return tuple(_plugged_in())


def _plugged_in() -> Iterator[Format]:
    for point in entry_points(group=GROUP):
        try:
            found = point.load()
        except Exception as error:  # a broken package must not take the others' formats with it
            _log.warning("runtime_left_out name=%s cause=%r", point.name, error)
            continue
        if isinstance(found, Format):
            yield found
        else:
            _log.warning("runtime_left_out name=%s cause=%s", point.name, f"{point.value} is a {type(found).__name__}, not a Format")
