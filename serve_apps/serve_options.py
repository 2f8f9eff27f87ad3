"""Carries how one model version is run inside a replica: its queue, batches, cache, threads and time limits.

A service's class attributes of the same names are the defaults; what `deploy` is told wins. Nothing here imports numpy or Ray: the
driver checks options without either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from fabric.errors import UnknownNameError, UserError

DEFAULT_MAX_QUEUED = 1000
DEFAULT_LATENCY_BUDGET_MS = 50.0


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """`max_queued`: requests that may wait; more are refused with `queue_full`.

    `max_batch_size` 0: requests run one by one. Else the most rows (axis 0) of one call, all requests together.
    `latency_budget_ms`: what the 99th percentile of queue and run together may take; batches grow only within it.
    `cache_bytes` 0: no response cache. `cache_ttl_s`: how long an answer stays in it.
    `max_concurrency`: calls at a time; None is one for plain functions and `ASYNC_CONCURRENCY` for `async` ones.
    `inline`: quick calls (measured) may run on the server's own thread; False keeps them in the thread that built the service.
    `request_timeout_s`: the deadline of a request that brings none.
    """

    max_queued: int = DEFAULT_MAX_QUEUED
    max_batch_size: int = 0
    latency_budget_ms: float = DEFAULT_LATENCY_BUDGET_MS
    cache_bytes: int = 0
    cache_ttl_s: float = math.inf
    max_concurrency: int | None = None
    inline: bool = True
    request_timeout_s: float = math.inf

    def as_json(self) -> dict[str, Any]:
        """What differs from the defaults: `ServeOptions(**options.as_json())` is the same again."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}


class ServeArguments(TypedDict, total=False):
    """The same as arguments of `deploy`; left out, what the class declares counts."""

    max_queued: int
    max_batch_size: int
    latency_budget_ms: float
    cache_bytes: int
    cache_ttl_s: float
    max_concurrency: int
    inline: bool
    request_timeout_s: float


ASYNC_CONCURRENCY = 100

_LEAST = {
    "max_queued": 0,
    "max_batch_size": 0,
    "latency_budget_ms": 0,
    "cache_bytes": 0,
    "cache_ttl_s": 0,
    "max_concurrency": 1,
    "request_timeout_s": 0,
}
_WHOLE = ("max_queued", "max_batch_size", "cache_bytes", "max_concurrency")
_ABOVE = ("latency_budget_ms", "cache_ttl_s", "request_timeout_s")
_NAMES = tuple(field.name for field in fields(ServeOptions))


def parse_serve_options(given: Mapping[str, Any], start: ServeOptions | None = None) -> ServeOptions:
    """`start` with what is given (None: not given) put over it.

    Raises: `UnknownNameError` (`unknown_serve_option`), `UserError` (`bad_<option>`) with the value and the range.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in _NAMES:
            raise UnknownNameError.of("serve option", name, _NAMES)
        _check(name, value)
    return replace(start or ServeOptions(), **chosen)


def class_options(cls: type) -> ServeOptions:
    """The options that a service's class, or `@batched` on its `predict`, declares. Raises: as `parse_serve_options`."""
    declared = {name: vars(owner)[name] for owner in reversed(cls.__mro__) for name in _NAMES if name in vars(owner)}
    batching: Mapping[str, Any] = getattr(getattr(cls, "predict", None), "__batched__", {})
    return parse_serve_options({**declared, **batching})


def _check(name: str, value: Any) -> None:
    if name == "inline":
        if not isinstance(value, bool):
            raise UserError(f"inline is {value!r}; it must be True or False", code="bad_inline")
        return
    kind, words = (int, "a whole number") if name in _WHOLE else (int | float, "a number")
    least = _LEAST[name]
    is_sound = isinstance(value, kind) and not isinstance(value, bool) and (value > least if name in _ABOVE else value >= least)
    if not is_sound:
        bound = f"above {least}" if name in _ABOVE else f"from {least}"
        raise UserError(f"{name} is {value!r}; it must be {words} {bound}", code=f"bad_{name}")
