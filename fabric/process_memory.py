"""How much memory processes hold: read from /proc, in microseconds, without walking their pages.

What counts is what a request for memory must cover: private pages, and mapped files (libraries) once for the largest of them.
Shared memory does not count: in a Ray worker that is the object store, which Ray accounts for itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += tree(int(child))
    return found


def held_bytes(pids: Iterable[int]) -> int:
    """What these processes hold together; one that has ended holds nothing."""
    private, mapped = 0, 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            found = of_status(Path(f"/proc/{pid}/status").read_bytes())
            private += found.private_bytes
            mapped = max(mapped, found.mapped_bytes)
    return private + mapped


class Held:
    """The figures of one process, in bytes: `private` with what is swapped out, `mapped` files, `shared` memory, and `peak`: the
    most that was resident of all three."""

    __slots__ = ("mapped_bytes", "peak_bytes", "private_bytes", "shared_bytes")

    def __init__(self, private_bytes: int, mapped_bytes: int, shared_bytes: int, peak_bytes: int) -> None:
        self.private_bytes, self.mapped_bytes = private_bytes, mapped_bytes
        self.shared_bytes, self.peak_bytes = shared_bytes, peak_bytes

    @property
    def own_peak_bytes(self) -> int:
        """The peak without shared memory, as far as that is still mapped."""
        return max(self.peak_bytes - self.shared_bytes, self.private_bytes + self.mapped_bytes)


def of_status(status: bytes) -> Held:
    """Reads a `/proc/PID/status`. Raises: ValueError where the process is a zombie, which has no memory."""
    return Held(
        _kib(status, b"RssAnon:") + _kib(status, b"VmSwap:"),
        _kib(status, b"RssFile:"),
        _kib(status, b"RssShmem:"),
        _kib(status, b"VmHWM:"),
    )


def _kib(status: bytes, key: bytes) -> int:
    start = status.index(key) + len(key)
    return int(status[start : status.index(b"kB", start)]) * 1024
