"""Every error that tierfabric raises on purpose.

FabricError                       code, optional hint, plain context; survives pickling
├── UserError                     the caller can mend it: bad config, unknown name, bad argument
│   ├── ConfigError               fabric.yaml, FABRIC_* or a flag
│   └── UnknownNameError          unknown_tier, unknown_flavor, …: names the nearest known one
├── RejectedError                 understood and refused; `retryable` says whether later may work
│   └── NoFitError                runs nowhere in this fabric; `shortfalls` per tier
├── RuntimeFault                  the fabric or a machine failed
│   ├── UnavailableError          no fabric at that address, or it went away
│   ├── OutOfMemory               a task needed more memory than it was given
│   └── CallTimeout               a call ran longer than its task's `timeout`
├── ModelError                    a model file or a model's output is wrong
└── BugError                      our own invariant broke; carries the evidence
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class FabricError(Exception):
    """Root of all tierfabric errors: a message, a stable `code`, an optional `hint`, plain context.

    Context values must be plain (str, numbers, tuples of them), so that the error crosses process borders whole.
    """

    code = "fabric_error"
    exit_status = 1

    def __init__(self, message: str, /, *, code: str | None = None, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.hint, self.context))

    def __getattr__(self, name: str) -> Any:
        context = self.__dict__.get("context", {})
        if name in context:
            return context[name]
        raise AttributeError(name)

    def render(self) -> str:
        """`error[code]: message` and, where there is one, a second line `hint: …`."""
        text = f"error[{self.code}]: {self.message}"
        return f"{text}\nhint: {self.hint}" if self.hint else text


def _rebuild(kind: type[FabricError], message: str, code: str, hint: str | None, context: dict[str, Any]) -> FabricError:
    error = kind(message, code=code, hint=hint, **context)
    for listener in listeners:
        listener(error)
    return error


listeners: list[Callable[[FabricError], None]] = []
"""Called with each error that arrives from another process, at the moment when its catcher sees it: how a client learns
of an OOM that a plain `ray.get` raised, in time for the next call."""


class UserError(FabricError):
    """The caller can mend it."""

    code = "bad_request"
    exit_status = 2


class ConfigError(UserError):
    """A configuration file, variable or flag is wrong."""

    code = "bad_config"


class UnknownNameError(UserError):
    """A name that the fabric does not know; the hint names the nearest one that it does."""

    code = "unknown_name"

    @classmethod
    def of(cls, noun: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """`UnknownNameError.of("flavor", "a100-80gb", catalogue)` -> code `unknown_flavor`, hint `did you mean a100-80g?`."""
        names = sorted(known)
        return cls(f"unknown {noun} {name!r}", code=f"unknown_{noun.replace(' ', '_')}", hint=nearest_hint(name, names), name=name)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """The nearest known names, as a question; all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names) or 'none'}"


class RejectedError(FabricError):
    """Understood, and refused."""

    code = "rejected"
    exit_status = 3

    @property
    def retryable(self) -> bool:
        return bool(self.context.get("retryable", False))

    @property
    def retry_after_s(self) -> float | None:
        return self.context.get("retry_after_s")


class NoFitError(RejectedError):
    """No node of this fabric can ever run it. `shortfalls`: tier -> what it is short of."""

    code = "no_fit"


class RuntimeFault(FabricError):
    """The fabric, or a machine under it, failed."""

    code = "runtime_fault"


class UnavailableError(RuntimeFault):
    """There is no fabric at that address, or it went away."""

    code = "unavailable"
    exit_status = 4


class OutOfMemory(RuntimeFault):
    """A task needed more memory than it was given; its next call asks for more."""

    code = "out_of_memory"


class CallTimeout(RuntimeFault):
    """A call ran longer than its task's `timeout`."""

    code = "call_timeout"


class ModelError(FabricError):
    """A model file cannot be loaded, or a model answered with something wrong."""

    code = "model_error"


class BugError(FabricError):
    """An invariant of tierfabric itself broke. Please report it with its context."""

    code = "bug"
