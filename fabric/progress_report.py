"""How a job's own code says how far it is: `progress(done, total)` writes the file that its runner reads.

Programs in other languages write the same: one JSON line `{"done": 3, "total": 10, "unit": "step"}` into the file that
FABRIC_PROGRESS names, by renaming a new one over it or by appending lines; the last whole line counts.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from pathlib import Path

VARIABLE = "FABRIC_PROGRESS"
WRITE_EVERY_S = 0.1


def progress(done: float, total: float | None = None, unit: str = "step") -> None:
    """Say that `done` of `total` units of work are done, counted since the job began, over all its attempts.

    Costs nothing outside a fabric job; inside one it writes at most ten times a second, and the last word always. Never
    raises for a disk that is full or a file that is gone: a job does not fail for its progress.
    """
    if (file := os.environ.get(VARIABLE)) is not None:
        _WRITER.note(file, {"done": float(done), "total": None if total is None else float(total), "unit": unit})


class _Writer:
    """Writes the newest word to the file, whole, at most once in `WRITE_EVERY_S`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written_s = 0.0
        self._unwritten: tuple[str, dict[str, object]] | None = None

    def note(self, file: str, word: dict[str, object]) -> None:
        with self._lock:
            self._unwritten = (file, word)
            if time.monotonic() - self._written_s >= WRITE_EVERY_S or word["done"] == word["total"]:
                self._write()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._unwritten is None:
            return
        file, word = self._unwritten
        self._unwritten = None
        self._written_s = time.monotonic()
        partial = Path(f"{file}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(word) + "\n", encoding="utf-8")
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)


_WRITER = _Writer()
atexit.register(_WRITER.flush)
