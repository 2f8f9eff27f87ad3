"""What every model runtime offers: named tensors in, named tensors out, and a description of both.

Nothing heavy is imported here: a runtime's own library is loaded when the first model of its format is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy

NUM_THREADS: ContextVar[int] = ContextVar("num_threads", default=1)
"""Threads that one model may use in one `infer`; a replica sets it to its CPUs before it builds its service."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `dtype` is numpy's name (`str` for text); a dimension is a size, a symbol's name, or None (any)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


class Model(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, numpy.ndarray[Any, Any]]:
        """Run the model once.

        Raises: `ModelError` (`unknown_input`, `missing_input`, `wrong_dtype`, `wrong_shape`, `inference_failed`).
        """
        ...
