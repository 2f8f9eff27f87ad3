"""One page of shared memory in which a worker says what it runs now, and its node agent when that has to end.

The page is a file in Ray's session directory, named by the worker's process id. A worker writes to it at the start and end of a call
that has a cap: no system call, about 2 µs. Invariants: what is read of a call is of one call (its number is read before and after); a
page whose process has ended, or is another of the same id, is never taken for a live one.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import struct
from pathlib import Path
from typing import NamedTuple

CALLS_DIRECTORY = "fabric-calls"
SIZE = mmap.PAGESIZE
END_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR1) + 7
"""Tells a worker to look at its page. Ray uses none of the real-time signals."""
_NUMBER = struct.Struct("<Q")
_CALL = struct.Struct("<QQqdd64sH")
_END = struct.Struct("<QQ")
_AT_NUMBER, _AT_START, _AT_END, _AT_CALL = 0, 8, 16, 32
_AT_TEXT = _AT_CALL + _CALL.size
MAX_TEXT = SIZE - _AT_TEXT


class Running(NamedTuple):
    """A call that has a cap. `deadline_s` (0: none) and `started_s` are of the machine's monotonic clock; `cap_bytes` 0: none. `what`:
    its task, variant, user, queue, node id, flavor; empty where a page is too small for them."""

    pid: int
    number: int
    cap_bytes: int
    asked_bytes: int
    input_bytes: int
    started_s: float
    deadline_s: float
    call_id: str
    what: tuple[str, ...]


class Slot:
    """The worker's side. `directory` is made where it is missing."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._path = directory / str(os.getpid())
        with self._path.open("w+b") as file:
            file.truncate(SIZE)
            self._page = mmap.mmap(file.fileno(), SIZE)
        _NUMBER.pack_into(self._page, _AT_START, started_ticks(os.getpid()))
        self._num_calls = self._num_text = 0
        self._what: tuple[str, ...] | None = None
        self.running = 0
        """The number of the call that runs, 0 between calls."""

    def begin(
        self, cap_bytes: int, asked_bytes: int, input_bytes: int, now_s: float, deadline_s: float, call_id: str, what: tuple[str, ...]
    ) -> None:
        if what is not self._what:
            text = json.dumps(what).encode()[:MAX_TEXT]
            self._page[_AT_TEXT : _AT_TEXT + len(text)] = text
            self._what, self._num_text = what, len(text)
        _CALL.pack_into(
            self._page, _AT_CALL, cap_bytes, asked_bytes, input_bytes, now_s, deadline_s, call_id.encode("ascii"), self._num_text
        )
        self._num_calls += 1
        self.running = self._num_calls
        _NUMBER.pack_into(self._page, _AT_NUMBER, self.running)

    def end(self) -> None:
        self.running = 0
        _NUMBER.pack_into(self._page, _AT_NUMBER, 0)

    def told_to_end(self) -> int | None:
        """What the running call holds, in bytes, where it was told to end; None where another was, or none."""
        number, used_bytes = _END.unpack_from(self._page, _AT_END)
        return used_bytes if self.running and number == self.running else None


class Page:
    """The agent's side of one worker's page. Raises: OSError, ValueError where there is none, or not yet a whole one."""

    def __init__(self, path: Path) -> None:
        self.pid = int(path.name)
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), SIZE)

    def is_alive(self) -> bool:
        """Whether the process that made the page still is."""
        return bool(_NUMBER.unpack_from(self._page, _AT_START)[0] == started_ticks(self.pid) > 0)

    def read(self) -> Running | None:
        """The call that runs; None between calls."""
        number = _NUMBER.unpack_from(self._page, _AT_NUMBER)[0]
        if not number:
            return None
        cap, asked, size, started_s, deadline_s, call_id, length = _CALL.unpack_from(self._page, _AT_CALL)
        text = self._page[_AT_TEXT : _AT_TEXT + length]
        if number != _NUMBER.unpack_from(self._page, _AT_NUMBER)[0]:
            return None  # another call by now: the next look sees it
        try:
            what = tuple(json.loads(text))
        except ValueError:  # cut off, or of two calls
            what = ()
        return Running(self.pid, number, cap, asked, size, started_s, deadline_s, call_id.rstrip(b"\0").decode("ascii"), what)

    def tell_to_end(self, number: int, used_bytes: int) -> None:
        _END.pack_into(self._page, _AT_END, number, used_bytes)
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.kill(self.pid, END_SIGNAL)


def started_ticks(pid: int) -> int:
    """When a process was started, in the kernel's ticks since boot; 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
