"""Lets a process that wakes for a waiting request go ahead of the machine's other work until it has answered.

Only where the system allows it (a container's root, or CAP_SYS_NICE); else nothing changes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_URGENT, _USUAL = -10, 0
_AUTOGROUP = Path("/proc/self/autogroup")


def hurry() -> None:
    """All threads of this process, and those that they start."""
    _set(_URGENT)


def calm_down() -> None:
    _set(_USUAL)


def _set(nice: int) -> None:
    # Where the kernel groups processes by session, it weighs the groups first and only then the threads in them.
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(nice))
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # not allowed, or ended meanwhile
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
