"""Whether the request that is answered now is a shadow copy: its answer is only compared, so what it would change must not be changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

SHADOW_HEADER = b"x-shadow"
"""Ingresses take it off what comes from outside."""

_IS_SHADOW: ContextVar[bool] = ContextVar("is_shadow", default=False)


def is_shadow() -> bool:
    """For a `predict` that writes, sends or charges: skip that where this is true."""
    return _IS_SHADOW.get()


@contextmanager
def shadow_call() -> Iterator[None]:
    """Within it `is_shadow()` is true."""
    token = _IS_SHADOW.set(True)
    try:
        yield
    finally:
        _IS_SHADOW.reset(token)


def as_shadow(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` where `is_shadow()` is true, whatever thread runs it."""

    def called(**arguments: Any) -> Any:
        with shadow_call():
            return call(**arguments)

    return called
