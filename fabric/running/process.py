"""One process with all that it starts, under a guard: start, SIGTERM, grace, SIGKILL, exit code, what it uses.

Invariants: when this process dies, however, the guarded ones die; `terminate` always ends them, after the grace at the
latest; nothing that the command started outlives it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from fabric.process_memory import tree

GUARD = str(Path(__file__).with_name("guard.py"))


class Used(NamedTuple):
    """What a process and all that it started used: seconds of CPU, and the peak memory of its largest process."""

    cpu_s: float
    peak_memory_bytes: int


class Process:
    """Starts at once. `output`: a binary file that standard output and error are appended to. Raises: OSError."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes] | int, pass_fds: Sequence[int] = ()
    ) -> None:
        self._told, told = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", GUARD, str(told), *command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(*pass_fds, told),
            )
        except BaseException:
            os.close(self._told)
            raise
        finally:
            os.close(told)
        self._used: Used | None = None
        self._killer: threading.Timer | None = None
        self._killed_s = 0.0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The guard's process id: the root of the tree."""
        return self._guard.pid

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code (128 + n where signal n ended it), or None while it runs."""
        try:
            code = self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if self._killer is not None:
            self._killer.cancel()
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
        self._hear_use()
        return code if code >= 0 else 128 - code

    @property
    def used(self) -> Used | None:
        """Once it has ended; None while it runs, and where its guard was killed."""
        return self._used

    def terminate(self, grace_s: float) -> None:
        """SIGTERM to its process group now, SIGKILL to everything after `grace_s`; returns at once. Asked again, it only
        brings the SIGKILL forward."""
        with self._lock:
            killed_s = time.monotonic() + grace_s
            if self._killer is not None:
                if killed_s >= self._killed_s:
                    return
                self._killer.cancel()
            else:
                self._tell(b"T")
            self._killed_s = killed_s
            self._killer = threading.Timer(grace_s, self.kill)
            self._killer.daemon = True
            self._killer.start()

    def kill(self) -> None:
        """SIGKILL to everything, now."""
        self._tell(b"K")

    def memory_bytes(self) -> int:
        """Resident memory of all its processes; pages that they share are counted once for the largest sharer."""
        private, shared = 0, 0
        for pid in tree(self.pid):
            try:
                _, resident, common, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
            except (OSError, ValueError):
                continue  # it ended meanwhile
            private += resident - common
            shared = max(shared, common)
        return (private + shared) * _PAGE_BYTES

    def cpu_s(self) -> float:
        """Seconds of CPU that all of it has used by now."""
        total_s = 0.0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                # Behind the name, which may hold anything: own user and system time, then those of what it has reaped.
                own_user, own_system, user, system = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
                total_s += (user + system + (own_user + own_system if pid != self.pid else 0)) / _TICKS_PER_S
        return total_s

    def _hear_use(self) -> None:
        """The guard has ended: its pipe holds one line, or is empty where it was killed."""
        with self._lock:
            if self._told < 0:
                return
            words = os.read(self._told, 256).split()
            os.close(self._told)
            self._told = -1
        if len(words) == 2:
            self._used = Used(float(words[0]), int(words[1]))

    def _tell(self, letter: bytes) -> None:
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it has ended, or its pipe is closed
                self._guard.stdin.write(letter)
                self._guard.stdin.flush()


def num_oom_kills() -> int:
    """How often the kernel has killed a process of this machine for memory (0 where it does not say)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


_PAGE_BYTES = _page_bytes()
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
