"""What every model runtime offers: arrays in by name, arrays out by name, and a description of both.

Nothing heavy is imported here: a runtime's own library is loaded when the first model of its format is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from fabric.config import send_no_usage_data
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

# Before any module of this package imports onnxruntime.
send_no_usage_data()

NUM_THREADS: ContextVar[int] = ContextVar("num_threads", default=1)
"""Threads that one model may use in one `infer`; a replica sets it to its CPUs before it builds its service."""

FAST_DTYPES: ContextVar[frozenset[str]] = ContextVar("fast_dtypes", default=frozenset())
"""Dtypes (`bf16`, `fp16`, …) that the replica's flavor computes faster than fp32; precision `auto` chooses among them."""

WEIGHTS_CACHE: ContextVar[Path | None] = ContextVar("weights_cache", default=None)
"""A folder of this node in which weights are laid out once for all its replicas; None: each holds weights of its own."""

Precision = Literal["file", "auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to run what is loaded.

    `num_threads`: those of one `infer`. `precision`: of the arithmetic; `file` leaves it as it is. `inputs`: what the file does not say
    of its inputs. `cache`, `fast_dtypes`: as `WEIGHTS_CACHE` and `FAST_DTYPES`.
    """

    num_threads: int = 1
    precision: Precision = "file"
    inputs: tuple[TensorSpec, ...] = ()
    cache: Path | None = None
    fast_dtypes: frozenset[str] = frozenset()


class ModelRuntime(Protocol):
    """One loaded model of one framework. A package adds a framework with a class of these four (`docs/extend/add-a-runtime.md`)."""

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        """Raises: `ModelError` (`model_unreadable`, `unsupported_precision`, `unsupported_signature`, `needs_signature`)."""
        ...

    @property
    def metadata(self) -> ModelMetadata:
        """`name` and `versions` are empty: whoever serves the model names it."""
        ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once. The inputs have been checked: each declared one is there, in its declared dtype and shape.

        May be called from several threads. Raises: `ModelError` (`inference_failed`).
        """
        ...

    def close(self) -> None:
        """Free the model. Idempotent."""
        ...
