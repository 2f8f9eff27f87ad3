"""One process with all that it starts, under a guard: start, SIGTERM, grace, SIGKILL, exit code, memory in use.

Invariants: when this process dies, however, the guarded ones die; `terminate` always ends them, after the grace at the
latest; nothing that the command started outlives it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from fabric.process_memory import tree

GUARD = str(Path(__file__).with_name("guard.py"))


class Process:
    """Starts at once. `output`: a binary file that standard output and error are appended to. Raises: OSError."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes] | int, pass_fds: Sequence[int] = ()
    ) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD, *command],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
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
        return code if code >= 0 else 128 - code

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
