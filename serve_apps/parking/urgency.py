"""Lets a process that wakes for a waiting request go ahead of the machine's other work until it has answered.

Only where the system allows it (a container's root, or CAP_SYS_NICE); else nothing changes. Measured with four busy loops beside it on
two cores: 99 ms to the first answer instead of 480.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_STEP = 10
_MOST = -20
_AUTOGROUP = Path("/proc/self/autogroup")


class Niceness(NamedTuple):
    """Of the process, and of its group: where the kernel groups processes by session, it weighs the groups first."""

    own: int
    group: int


def usual() -> Niceness:
    """As this process was started."""
    group = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = int(_AUTOGROUP.read_text().split()[2])  # `/autogroup-25 nice 0`
    return Niceness(os.getpriority(os.PRIO_PROCESS, 0), group)


def hurry(before: Niceness) -> None:
    """All threads of this process, and those that they start."""
    _set(max(_MOST, before.own - _STEP), max(_MOST, before.group - _STEP))


def calm_down(before: Niceness) -> None:
    _set(*before)


def _set(own: int, group: int) -> None:
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(group))
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # not allowed, or ended meanwhile
            os.setpriority(os.PRIO_PROCESS, int(thread.name), own)
