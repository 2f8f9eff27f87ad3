"""Ships a rank's output to the store, about once a second and at the end, so that it outlives job, node and cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

SHIP_EVERY_S = 1.0
CHUNK_BYTES = 4 * 2**20
_log = logging.getLogger(__name__)


class LogShipper:
    """`append(data, at)` writes to the stored log at that byte. A store that fails is tried again with the same bytes."""

    def __init__(self, file: Path, append: Callable[[bytes, int], object]) -> None:
        self._file = file
        self._append = append
        self._num_shipped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="log-ship", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 30.0) -> None:
        """Ship the rest; gives up after the time."""
        self._ended.set()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        num_failures = 0
        while True:
            is_last = self._ended.wait(SHIP_EVERY_S)
            try:
                while self._ship():
                    pass
                num_failures = 0
            except Exception as error:  # a store may fail in any way; the output waits in its file
                num_failures += 1
                _log.warning("ship log=%s failed num=%d because=%r", self._file, num_failures, error)
                if is_last and num_failures >= 3:
                    return
                continue
            if is_last:
                return

    def _ship(self) -> bool:
        """One chunk; whether there may be more."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._num_shipped)
                data = file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return False
        if data:
            self._append(data, self._num_shipped)
            self._num_shipped += len(data)
        return len(data) == CHUNK_BYTES


def last_lines(file: Path, num_bytes: int = 4096) -> list[str]:
    """The last lines of a file that are not empty."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, 2) - num_bytes))
            text = opened.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]
