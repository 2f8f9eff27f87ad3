"""The profiler's profiles of tasks, asked for when somebody looks at them, and not too often.

Invariants: nothing is asked for while nobody looks; no more than 1 % of the time; a profiler that is away leaves what was known last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from fabric.console.sources import PoolsSource
from fabric.console.task_list import TaskRow, task_rows
from fabric.errors import FabricError
from profiler.estimate import TaskProfile

LEAST_AGE_S = 5.0
COST_FACTOR = 100.0
_log = logging.getLogger(__name__)


class KnownTasks:
    """For many threads. `clock` counts seconds."""

    def __init__(self, pools: PoolsSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._pools, self._clock = pools, clock
        self._lock = threading.Lock()
        self._profiles: tuple[TaskProfile, ...] | None = None
        self._rows: Sequence[TaskRow] = ()
        self._due_s = float("-inf")

    def profiles(self) -> tuple[TaskProfile, ...]:
        """Raises: FabricError where nothing is known and the profiler does not answer."""
        return self._fresh()[0]

    def rows(self) -> Sequence[TaskRow]:
        """Raises: as `profiles`."""
        return self._fresh()[1]

    def _fresh(self) -> tuple[tuple[TaskProfile, ...], Sequence[TaskRow]]:
        with self._lock:  # who comes second waits for the first one's answer
            began_s = self._clock()
            if began_s >= self._due_s:
                try:
                    # One that was only described has nothing to show.
                    self._profiles = tuple(each for each in self._pools.task_profiles() if each.variants or each.measured)
                    self._rows = task_rows(self._profiles)
                except FabricError as error:
                    if self._profiles is None:
                        raise
                    _log.warning("tasks are old: %s", error.message)
                now_s = self._clock()
                self._due_s = now_s + max(LEAST_AGE_S, COST_FACTOR * (now_s - began_s))
            return self._profiles or (), self._rows
