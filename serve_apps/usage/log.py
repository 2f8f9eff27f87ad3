"""Writes one line per request to a file of its own process, before the answer leaves.

What `append` has returned from survives `kill -9`: the line is in the kernel's hands. A file is named after its process, so that
whoever ships the files can tell those of the living from those of the dead.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

MAX_BYTES = 4 * 2**20
"""Then a new file is begun, and the full one can be shipped."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One request. `at_s`: wall clock; `units`: rows that were asked for (or tokens where the model counts them); `ms`: in this process."""

    id: str
    at_s: float
    user: str
    model: str
    version: str
    flavor: str
    units: int
    status: int
    ms: float


class UsageLog:
    """For several threads. `folder` is made; `owner` names the process among all of the fabric's."""

    def __init__(self, folder: Path, owner: str, *, max_bytes: int = MAX_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._owner = owner
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._num_files = 0
        self._descriptor = -1
        self._written = 0
        self._begin()

    @property
    def current(self) -> Path:
        """The file that is written to now."""
        return self._folder / f"{self._owner}.{os.getpid()}.{self._num_files}.jsonl"

    def append(self, record: UsageRecord) -> None:
        """Raises: OSError where the disk is full."""
        line = orjson.dumps(record) + b"\n"
        with self._lock:
            if self._written + len(line) > self._max_bytes and self._written:
                self._begin()
            # One write: O_APPEND keeps lines whole.
            os.write(self._descriptor, line)
            self._written += len(line)

    def rotate(self) -> None:
        """Begin a new file, unless the current one is empty."""
        with self._lock:
            if self._written:
                self._begin()

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1
            if not self._written:
                self.current.unlink(missing_ok=True)

    def _begin(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._num_files += 1
        self._descriptor = os.open(self.current, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._written = 0
