"""Lets all processes of a node hold one copy of a torch model's weights: they are mapped from a file instead of read.

What is mapped is copied, page by page, by whoever writes to it. Modules are therefore put into eval mode, where nothing does.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from fabric.errors import ModelError, UserError
from serve_apps.runtimes.content_digest import content_digest
from serve_apps.runtimes.one_writer import locked
from serve_apps.runtimes.refusals import unreadable

_log = logging.getLogger(__name__)
_SMALL_BYTES = 4096
"""Less than a page is not worth a mapping."""
Module = TypeVar("Module", bound=torch.nn.Module)


def load_weights(module: Module, path: str | os.PathLike[str]) -> Module:
    """Give `module` the weights at `path` (safetensors, or what `torch.save(module.state_dict())` wrote), mapped and not copied.

    Build the module under `torch.device("meta")` to spare its own first weights. Returns it in eval mode, without gradients.
    A pickled checkpoint is read with `weights_only=True`: it runs no code.

    Raises: `ModelError` (`model_unreadable`, `wrong_weights`), `UserError` (`missing_package`).
    """
    file = Path(path).absolute()
    state = _mapped_state(file)
    try:
        module.load_state_dict(state, assign=True)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{file} does not fit {type(module).__name__}: {error}", code="wrong_weights", path=str(file)) from error
    if left := [name for name, value in (*module.named_parameters(), *module.named_buffers()) if value.is_meta]:
        raise ModelError(
            f"{file} has no {left[0]!r}",
            code="wrong_weights",
            hint="build the module outside of torch.device('meta'): it keeps buffers that no file holds",
            path=str(file),
        )
    module.eval().requires_grad_(False)
    return module


def _mapped_state(file: Path) -> Mapping[str, torch.Tensor]:
    try:
        with file.open("rb") as opened:
            is_zip = opened.read(4) == b"PK\x03\x04"
        if is_zip:
            found = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
            return found.get("state_dict", found)  # type: ignore[no-any-return]
        return _safetensors().load_file(file)  # type: ignore[no-any-return]
    except UserError:
        raise
    except Exception as error:
        raise unreadable("torch", file, error) from error


def weights_of(module: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, themselves: those of `state_dict` are others, over the same storage."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}


def share(weights: Mapping[str, torch.Tensor], source: Path, cache: Path) -> bool:
    """Replace, in place, the storage of each of a loaded model's `weights` by a mapping of one file in `cache`, written if need be.

    Weights that the file's format keeps elsewhere (constants of a frozen module) stay private. False, and nothing is changed, where
    the cache cannot be used.
    """
    large = {name: value for name, value in weights.items() if value.nbytes >= _SMALL_BYTES and value.is_contiguous()}
    if not large:
        return False
    # Tied weights have one storage: it is written once, under the first of their names.
    first: dict[int, str] = {}
    names = {name: first.setdefault(value.data_ptr(), name) for name, value in large.items()}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        target = cache / f"{content_digest([source], cache)}-torch.safetensors"
        with locked(target.with_suffix(".lock")):
            if not target.exists():
                _write({name: large[name] for name in set(names.values())}, target)
        mapped = _safetensors().load_file(target)
        with torch.no_grad():
            for name, value in large.items():
                other = mapped[names[name]]
                if other.shape == value.shape and other.dtype == value.dtype:
                    value.set_(other)
    except Exception as error:  # an economy that the model runs without
        _log.warning("weights_stay_private source=%s cause=%r", source, error)
        return False
    return True


def _write(weights: Mapping[str, torch.Tensor], target: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f"{target.stem}.new-", dir=target.parent)
    os.close(handle)
    try:
        _safetensors().save_file(dict(weights), name)
        with Path(name).open("rb") as opened:
            os.fsync(opened.fileno())
        Path(name).chmod(0o644)
        Path(name).rename(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserError(
            "mapping weights needs the package safetensors",
            code="missing_package",
            hint="pip install 'tierfabric[torch]'",
            package="safetensors",
        ) from error
    return safetensors.torch
