"""Who goes first while a head comes back: what admits and runs jobs, before what shows them.

Two cores start some twenty processes then. Those that nobody waits for get what is left of the processors until the head has come up, and
their share again after that. Where that could not be given back (no privilege to), they are made a little less urgent for good.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time

import psutil

LASTS_S = 20.0
EVERY_S = 0.3
EXTRAS = (
    "dashboard/dashboard.py",
    "ray-dashboard-",
    "log_monitor.py",
    "ray.util.client.server",
    "autoscaler/v2/monitor.py",
    "ray::models:",
    "ray::profiler:",
    "ray::console:",
    "ray::SERVE_CONTROLLER_ACTOR:",
)
"""Signs in titles of processes: Ray's dashboard and its parts, log monitor, Ray Client, autoscaler; actors that no job waits for."""
NICENESS = 10
_NICE_ZERO = 20
"""What RLIMIT_NICE says of a niceness of 0, see getrlimit(2)."""


class Manners:
    """Of the processes below this one. `look` is called often; `end` gives back what was taken."""

    def __init__(self) -> None:
        now_s = time.monotonic()
        self._until_s, self._next_s = now_s + LASTS_S, now_s
        self._waiting: dict[int, psutil.Process] = {}
        self._is_over = False
        self._can_give_back = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] in (_NICE_ZERO, resource.RLIM_INFINITY)

    def look(self) -> None:
        now_s = time.monotonic()
        if self._is_over or now_s < self._next_s:
            return
        if now_s > self._until_s:
            self.end()
            return
        self._next_s = now_s + EVERY_S
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                if child.pid not in self._waiting and any(sign in " ".join(child.cmdline()) for sign in EXTRAS):
                    self._waiting[child.pid] = child
                    self._put_back(child)

    def end(self) -> None:
        self._is_over = True
        if not self._can_give_back:
            return
        for process in self._waiting.values():
            with contextlib.suppress(psutil.Error, OSError):
                for each in (process, *process.children(recursive=True)):  # who was started meanwhile has it from its parent
                    _set(each, os.SCHED_OTHER)

    def _put_back(self, process: psutil.Process) -> None:
        if self._can_give_back:
            _set(process, os.SCHED_IDLE)
        else:
            process.nice(NICENESS)


def _set(process: psutil.Process, policy: int) -> None:
    """For all threads: Linux schedules each by itself. One that ends meanwhile is passed over."""
    if process.is_running():  # and not another one that was given its number
        for thread in process.threads():
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread.id, policy, os.sched_param(0))
