"""The errors that runtimes have in common, so that a user reads the same words whatever the framework."""

from __future__ import annotations

from pathlib import Path

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions


def unreadable(library: str, path: Path, error: Exception) -> ModelError:
    return ModelError(f"{library} cannot load {path}: {error}", code="model_unreadable", path=str(path))


def failed(error: Exception) -> ModelError:
    return ModelError(f"the model failed on these inputs: {error}", code="inference_failed")


def closed() -> ModelError:
    return ModelError("the model is closed", code="inference_failed")


def unsupported(what: str, kind: str, hint: str | None = None) -> ModelError:
    """`what`: an input or output. `kind`: the type that no datatype of the protocol has."""
    return ModelError(f"{what} is a {kind}, which the Open Inference Protocol has no datatype for", code="unsupported_signature", hint=hint)


def refuse_precision(options: LoadOptions, what: str) -> None:
    """For formats that fix the type of every value, so that a precision is chosen when the model is exported.

    Raises: `ModelError` (`unsupported_precision`).
    """
    if options.precision not in ("file", "auto"):
        raise ModelError(
            f"{what} runs in the precision of its file, not in {options.precision}",
            code="unsupported_precision",
            hint="export or convert the model in that precision, and leave precision out",
        )
