"""The process between a runner and what it runs: a script of its own, that imports nothing of the fabric.

`python -I -S guard.py FD COMMAND...` runs COMMAND in a session of its own. A `T` on standard input sends SIGTERM to COMMAND's
process group, a `K` ends all that it started. At the end it writes to the pipe FD what all of it used: seconds of CPU, and
the peak memory of its largest process in bytes. Invariants: when standard input closes (the runner is dead, however it
died), everything ends; no process that COMMAND started outlives it, daemons included; the guard exits with COMMAND's
status, 128 + n where signal n ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(told: int, command: list[str]) -> int:
    os.set_inheritable(told, False)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for asked in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(asked, signal.SIG_IGN)  # only the runner ends what the guard guards
    me = os.getpid()
    begun, begin = os.pipe()
    main_pid = os.fork()
    if main_pid == 0:
        _become(command, me, libc)
    os.close(begin)
    os.read(begun, 1)  # ends with the exec: before it, COMMAND has no group of its own yet and takes no SIGTERM
    os.close(begun)
    status = _serve(main_pid, woken)
    _tell_use(told)
    return status


def _become(command: list[str], guard: int, libc: ctypes.CDLL) -> None:
    try:
        os.setsid()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for changed in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(changed, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _serve(main_pid: int, woken: int) -> int:
    """Until the main process has ended: pass signals on, reap."""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            if (status := _reap(main_pid)) is not None:
                _end_all()
                return status
        if 0 in ready:
            asked = os.read(0, 64)
            if asked == b"" or b"K" in asked:
                _end_all()
                return 128 + signal.SIGKILL
            _signal_group(main_pid, signal.SIGTERM)


def _tell_use(told: int) -> None:
    """Everything has been reaped here: the kernel has added it up."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with contextlib.suppress(OSError):  # the runner is dead
        os.write(told, f"{used.ru_utime + used.ru_stime:.6f} {used.ru_maxrss * 1024}".encode())


def _reap(main_pid: int) -> int | None:
    """Take in all that ended; the main process's exit status if it is among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == main_pid:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else 128 - code


def _signal_group(pid: int, sig: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it, or it has not called setsid yet
        os.killpg(pid, sig)


def _end_all() -> None:
    """SIGKILL every descendant, until there is none: orphans come to the guard, as it is their subreaper."""
    while children := _children(os.getpid()):
        for pid in _tree(children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap(0)
        time.sleep(0.002)


def _tree(pids: list[int]) -> list[int]:
    return [pid for top in pids for pid in (top, *_tree(_children(top)))]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it is gone
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
