"""Ahead of the machine's other work, where the caller may be: on a shared machine figures are otherwise those of its neighbours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def raise_priority(nice: int, pids: Iterable[int] | None = None) -> None:
    """Set the niceness of these processes, or of this one and what it starts from now on. Without the right to it nothing happens.

    Linux schedules whole sessions against each other where autogroups are on: a process's own niceness counts only within its session.
    """
    for pid in [os.getpid()] if pids is None else pids:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, nice)
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
