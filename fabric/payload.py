"""Turns a call (a function and its arguments) into bytes that a job can be started from, and back."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from fabric.errors import UserError

LIMIT_BYTES = 100 * 10**6
_OWN_PACKAGES = frozenset({"fabric", "pools", "profiler", "serve_apps"})
_LARGE_HINT = "write it to a file or to storage and pass the path or URL; the job loads it"


class _TooLarge(Exception):
    pass


class _Limited(io.BytesIO):
    """Stops a pickle at the limit: an argument of many gigabytes must not be copied only to be refused."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._left_bytes = limit_bytes

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise _TooLarge
        return super().write(data)


def pack_callable(
    fn: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, limit_bytes: int = LIMIT_BYTES
) -> bytes:
    """The call as bytes. A function of an installed module goes by name; one of the caller's own files by value, with what
    else of that file it uses, since where the job runs that file may not be.

    Raises: UserError (`argument_too_large`, `argument_not_picklable`).
    """
    if not callable(fn):
        raise UserError(f"{fn!r} cannot be called", code="not_callable", hint="a function, or a command line as text")
    buffer = _Limited(limit_bytes)
    try:
        with _by_value(fn):
            cloudpickle.dump((fn, tuple(args), dict(kwargs or {})), buffer)
    except _TooLarge as error:
        name, size = _largest(args, kwargs or {})
        shown = f"; the largest argument is {name} ({size / 1e6:,.0f} MB)" if size >= 10**6 else ""
        message = f"{_name_of(fn)} with its arguments is larger than {limit_bytes / 1e6:,.0f} MB{shown}"
        raise UserError(message, code="argument_too_large", hint=_LARGE_HINT) from error
    except Exception as error:  # whatever an object's own reduction raises
        message = f"{_name_of(fn)} or one of its arguments cannot be pickled: {error}"
        raise UserError(message, code="argument_not_picklable", hint="open files, locks and connections inside the function") from error
    return buffer.getvalue()


@contextlib.contextmanager
def _by_value(fn: Callable[..., Any]) -> Iterator[None]:
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    is_own = module is not None and module.__name__ != "__main__" and not _is_installed(module)
    if module is None or not is_own or module.__name__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_installed(module: ModuleType) -> bool:
    """Whether a job's machine can import it as well: this product's own modules, and what lies where packages are installed."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in _OWN_PACKAGES:
        return True
    return any(Path(file).is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def unpack_callable(payload: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The other way: (function, args, kwargs). Only for payloads of this fabric's own users: a pickle runs code.

    Raises: whatever importing the function's module raises.
    """
    fn, args, kwargs = pickle.loads(payload)
    return fn, args, kwargs


def _largest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, int]:
    sizes = [(f"args[{i}]", _size_of(value)) for i, value in enumerate(args)] + [(name, _size_of(value)) for name, value in kwargs.items()]
    return max(sizes, key=lambda each: each[1], default=("", 0))


def _size_of(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(value, 0)


def _name_of(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)[:80]
