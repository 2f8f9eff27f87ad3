"""What is read of a model file, whatever its format: what it takes, what one call costs, what kind of work it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabric.errors import ModelError
from profiler.roofline import Cost

ASSUMED_SEQ = 128
"""Tokens of a sequence whose length a model leaves open."""
ASSUMED_SIDE = 224
"""Pixels of a side that a model leaves open."""
_MOST_CHARS = 240


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input. `dtype` as numpy writes it (`float32`, `int64`, `str`); `shape` is whole: what the model leaves open is assumed."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What of a model tells which kind of work it is: classes or operations, one word each, and where it comes from."""

    classes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model file. `cost` is None where it could not be counted; `notes` say why, and what was assumed, in whole sentences."""

    format: str
    inputs: tuple[Tensor, ...] = ()
    cost: Cost | None = None
    num_parameters: int | None = None
    sight: Sight = field(default_factory=Sight)
    cpu_only: tuple[str, ...] = ()
    """Operations that no accelerator runs."""
    notes: tuple[str, ...] = ()


def bound_shape(
    name: str,
    dtype: str,
    dims: tuple[int | str, ...],
    *,
    batch: int,
    given: Mapping[str, tuple[int, ...]],
    assumed: dict[str, str],
) -> tuple[int, ...]:
    """The shape of one input, with what it leaves open (a name, or a size below 1) settled: by `given`, else the first dimension by
    `batch`, of integers the others by a sequence's length, of four or more dimensions the last two by a picture's side, any other
    by 1. What was assumed is added to `assumed`: input -> its shape, as text."""
    if name in given:
        return given[name]
    shape, is_guess = [], False
    for index, dim in enumerate(dims):
        if type(dim) is int and dim > 0:
            shape.append(dim)
        elif index == 0:
            shape.append(batch)
        else:
            is_picture = len(dims) >= 4 and index >= len(dims) - 2
            shape.append(ASSUMED_SIDE if is_picture else ASSUMED_SEQ if dtype.startswith("int") else 1)
            is_guess = True
    if is_guess:
        assumed[name] = "x".join(map(str, shape))
    return tuple(shape)


def assumptions(assumed: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for the shapes that were guessed."""
    if not assumed:
        return ()
    shown = ", ".join(f"{name} {shape}" for name, shape in assumed.items())
    first = next(iter(assumed))
    return (f"shapes that the model leaves open were assumed: {shown} (--shape {first}=… says otherwise)",)


def unreadable(path: Path, error: Exception) -> ModelError:
    """One error for every way in which a file is no model."""
    hint = "it may be cut off, or another format under this name; try to download or to export it again"
    return ModelError(f"{path} is not a readable model: {cause_of(error)}", code="unreadable_model", hint=hint, path=str(path))


def cause_of(error: BaseException) -> str:
    """What another library's error says, on one line of bearable length."""
    cause = " ".join(str(error).split()) or type(error).__name__
    # The libraries put their own file names in the middle.
    return cause if len(cause) <= _MOST_CHARS else f"{cause[: _MOST_CHARS // 3]} … {cause[-2 * _MOST_CHARS // 3 :]}"
