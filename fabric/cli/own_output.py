"""Keeps a command's stdout for what the command prints: Ray's background threads write there too, into the middle of a table or JSON."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO


class _OwnOutput:
    """stdout for the thread that made it, stderr for all others."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._owner = threading.get_ident()

    def write(self, text: str) -> int:
        return (self._stdout if threading.get_ident() == self._owner else sys.stderr).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """For as long as this process is joined to a cluster."""
    stdout = sys.stdout
    sys.stdout = _OwnOutput(stdout)
    try:
        yield
    finally:
        sys.stdout = stdout
