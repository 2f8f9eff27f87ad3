"""What is run: a callable with a signature, and how it wants to be called. One call for one batch of requests, told apart again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fabric.errors import FabricError, ModelError
from serve_apps.execution.rows import join, split
from serve_apps.signature import Signature


class Manner(Enum):
    """How `predict` is written."""

    CALL = "def"
    ASYNC = "async def"
    STREAM = "def with yield"
    ASYNC_STREAM = "async def with yield"

    @property
    def is_async(self) -> bool:
        return self in (Manner.ASYNC, Manner.ASYNC_STREAM)

    @property
    def is_stream(self) -> bool:
        return self in (Manner.STREAM, Manner.ASYNC_STREAM)


@dataclass(frozen=True, slots=True)
class Target:
    """`call(**arguments)`: one row's, or with batches many rows' arguments. `close` frees the model."""

    call: Callable[..., Any]
    signature: Signature
    manner: Manner = Manner.CALL
    close: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Outcome:
    """What one request got: a result or an error."""

    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class Ran:
    """One call of the model. `times_s`: joining the arguments, running, telling the results apart."""

    outcomes: list[Outcome]
    times_s: tuple[float, float, float]


def run_calls(call: Callable[..., Any], requests: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> Ran:
    """Run one batch; never raises. Where the batch fails each request is run alone, so that an error stays with its own request."""
    start_s = time.perf_counter()
    if len(requests) == 1:
        outcome = run_one(call, requests[0])
        return Ran([outcome], (0.0, time.perf_counter() - start_s, 0.0))
    try:
        arguments = join(requests)
        joined_s = time.perf_counter()
        result = call(**arguments)
        ran_s = time.perf_counter()
        outcomes = [Outcome(part) for part in split(result, rows)]
        return Ran(outcomes, (joined_s - start_s, ran_s - joined_s, time.perf_counter() - ran_s))
    except Exception:
        outcomes = [run_one(call, request) for request in requests]
        return Ran(outcomes, (0.0, time.perf_counter() - start_s, 0.0))


def run_one(call: Callable[..., Any], arguments: Mapping[str, Any]) -> Outcome:
    """Run one request alone; never raises."""
    try:
        return Outcome(call(**arguments))
    except Exception as error:
        return Outcome(error=error)


def as_model_error(error: Exception) -> FabricError:
    """What the caller of a protocol sees of what `predict` raised; the error itself stays its cause."""
    if isinstance(error, FabricError):
        return error
    wrapped = ModelError(f"{type(error).__name__}: {error}", code="predict_failed")
    wrapped.__cause__ = error
    return wrapped
