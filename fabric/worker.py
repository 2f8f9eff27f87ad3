"""What runs around every task on its worker: measures the call, stretches it on a twin, reports in batches.

Invariants: the user's function runs exactly as called, and its exceptions leave as they are (made picklable where they
are not); reporting never fails or delays a call; a dead profiler costs nothing but the reports.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import resource
import threading
import time
from collections.abc import Callable
from typing import Any

from fabric import ray_io
from fabric.errors import FabricError, OutOfMemory
from fabric.types import name_of

FIRST_FLUSH_S = 0.05
FLUSH_S = 0.5
MAX_PENDING = 20_000
_RESET_PEAK_AFTER_S = 0.002
_PEAK_EVERY = 64
_SHORTEST_SLEEP_S = 0.0005
PROFILER = "profiler"

Row = tuple[str, str, str, float, float, int, str, int, str, str]
"""call id, task, variant, wall s, CPU s, peak bytes, outcome, size bucket, user, queue"""


def measured(fn: Callable[..., Any], *, task: str, variant: str, user: str, queue: str) -> Callable[..., Any]:
    """`fn`, measured on the worker that runs it. The result is what becomes a Ray task."""
    from fabric.sizes import bucket_of

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        reporter = _reporter()
        outcome = "ok"
        started_s, cpu_s = time.perf_counter(), time.thread_time()
        try:
            return fn(*args, **kwargs)
        except MemoryError as error:
            outcome = "oom"
            raise _out_of_memory(error, task, variant) from error
        except Exception as error:
            outcome = "error"
            if _is_device_oom(error):
                outcome = "oom"
                raise _out_of_memory(error, task, variant) from error
            make_picklable(error)
            raise
        finally:
            wall_s, cpu_s = time.perf_counter() - started_s, time.thread_time() - cpu_s
            stretch_s = wall_s * (reporter.place.slowdown - 1.0)
            if stretch_s > _SHORTEST_SLEEP_S:
                time.sleep(stretch_s)
                wall_s += stretch_s
            reporter.add(task, variant, wall_s, cpu_s, outcome, bucket_of(args, kwargs), user, queue)

    return run


class Reporter:
    """One per worker process: gathers rows and sends them to the profiler from a thread of its own."""

    def __init__(self) -> None:
        self.place = ray_io.worker_place()
        self._rows: list[Row] = []
        self._has_rows = threading.Event()
        self._flush_now = threading.Event()
        self._profiler: Any = None
        self._sent: Any = None
        self._last: list[Row] = []
        self._peak_reset = _open_peak_reset()
        self._peak = 0
        self._num_added = 0
        self._call_id = ray_io.call_id_reader()
        threading.Thread(target=self._loop, name="fabric-reporter", daemon=True).start()

    def add(self, task: str, variant: str, wall_s: float, cpu_s: float, outcome: str, bucket: int, user: str, queue: str) -> None:
        """Note one call. Costs a few microseconds."""
        # Short calls cannot grow much: their peak is read now and then, as the reading costs more than some of them.
        if wall_s > _RESET_PEAK_AFTER_S or not self._num_added % _PEAK_EVERY:
            self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if self._peak_reset is not None:
                os.write(self._peak_reset, b"5")
        self._num_added += 1
        if len(self._rows) < MAX_PENDING:
            self._rows.append((self._call_id(), task, variant, wall_s, cpu_s, self._peak, outcome, bucket, user, queue))
        if not self._has_rows.is_set():
            self._has_rows.set()
        if outcome == "oom":
            self._flush_now.set()

    def _loop(self) -> None:
        pause_s = FIRST_FLUSH_S
        while True:
            self._has_rows.wait()
            self._flush_now.wait(timeout=pause_s)
            self._flush_now.clear()
            self._has_rows.clear()
            pause_s = FLUSH_S
            rows, self._rows = self._rows, []
            unsent = self._send(rows)
            if unsent:
                self._rows = (unsent + self._rows)[:MAX_PENDING]
                self._has_rows.set()

    def _send(self, rows: list[Row]) -> list[Row]:
        """Hand the rows to the profiler, with those of the last batch if that one failed. Returns what to try again."""
        if self._has_failed():
            rows, self._profiler = self._last + rows, None
        self._sent, self._last = None, rows
        try:
            if self._profiler is None:
                self._profiler = ray_io.actor(PROFILER)
            self._sent = self._profiler.record.remote(self.place.node_id, self.place.flavor, rows)
        except FabricError:
            return rows
        return []

    def _has_failed(self) -> bool:
        if self._sent is None or self._sent not in ray_io.done([self._sent]):
            return False
        try:
            ray_io.ask(self._sent)
        except FabricError:
            return True
        return False


_current: Reporter | None = None


def _reporter() -> Reporter:
    global _current
    if _current is None:
        _current = Reporter()
    return _current


def _open_peak_reset() -> int | None:
    """Writing 5 there resets the process's peak memory, so that a call is not blamed for its predecessors (Linux)."""
    with contextlib.suppress(OSError):
        return os.open("/proc/self/clear_refs", os.O_WRONLY)
    return None


def _is_device_oom(error: Exception) -> bool:
    """torch.OutOfMemoryError and its like, told by name: torch need not be installed."""
    return type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError") and not isinstance(error, FabricError)


def _out_of_memory(error: BaseException, task: str, variant: str) -> OutOfMemory:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    asked = ray_io.assigned_memory_bytes()
    given = f"{asked / 2**20:.0f} MiB" if asked else "no memory request"
    return OutOfMemory(
        f"{name_of(task)} ran out of memory with {given} ({ray_io.describe_exception(error)})",
        hint="its next call asks for more; `map` retries by itself",
        task=task,
        variant=variant,
        asked_bytes=asked,
        used_bytes=used,
    )


def make_picklable(error: Exception) -> None:
    """An exception whose class cannot be rebuilt from `args` would reach the caller as an opaque Ray error: teach its
    class, in this worker only, to rebuild without calling `__init__`."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a foreign __reduce__ or __init__ raises
        with contextlib.suppress(TypeError, AttributeError):  # a class that does not let itself be taught
            type.__setattr__(type(error), "__reduce__", _reduce)


def _reduce(self: BaseException) -> tuple[Any, ...]:
    state = {}
    for name, value in vars(self).items():
        with contextlib.suppress(Exception):
            pickle.dumps(value)
            state[name] = value
    args = tuple(value if _is_plain(value) else repr(value) for value in self.args)
    return (_rebuild, (type(self), args, state))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | bytes | type(None))


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
