"""Writes one line per request to a file of its own process, before the answer leaves.

What `append` has returned from survives `kill -9`: the file is mapped, and the line is in the kernel's hands without a system call. Its
room on the disk is taken beforehand, so that a full disk is an error and no signal. A file is named after its process, so that whoever
ships the files can tell those of the living from those of the dead.
"""

from __future__ import annotations

import mmap
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

MAX_BYTES = 4 * 2**20
"""Then a new file is begun, and the full one can be shipped."""


@dataclass(slots=True)
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
        self._number = 1
        self._map: mmap.mmap | None = None
        self._size = self._written = 0

    @property
    def current(self) -> Path:
        """The file that is written to now, or will be next."""
        return self._folder / f"{self._owner}.{os.getpid()}.{self._number}.jsonl"

    def append(self, record: UsageRecord) -> None:
        """Raises: OSError where the disk is full."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            if self._map is None or self._written + len(line) > self._size:
                self._finish()
                self._map = self._open(max(self._max_bytes, len(line)))
            end = self._written + len(line)
            self._map[self._written : end] = line
            self._written = end

    def rotate(self) -> None:
        """Begin a new file, unless the current one is empty."""
        with self._lock:
            self._finish()

    def close(self) -> None:
        self.rotate()

    def _open(self, size: int) -> mmap.mmap:
        file = os.open(self.current, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, size) if hasattr(os, "posix_fallocate") else os.truncate(file, size)
            self._size = size
            return mmap.mmap(file, size)
        except OSError:
            self.current.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def _finish(self) -> None:
        if self._map is not None:
            full, written = self.current, self._written
            self._map.close()
            # The next file first: whatever becomes of this one, no line goes there any more.
            self._map, self._number, self._written = None, self._number + 1, 0
            os.truncate(full, written)


def whole_lines(content: bytes) -> bytes:
    """The lines of a file that may still be written, or whose process was killed: without the room behind them."""
    return content[: content.rfind(b"\n") + 1]
