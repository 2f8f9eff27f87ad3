"""What runs around every task on its worker: measures the call, keeps it within its caps, stretches it on a twin, reports in batches.

Invariants: the user's function runs exactly as called, and its exceptions leave as they are (made picklable where they
are not); reporting never fails or delays a call; a dead profiler costs nothing but the reports.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from fabric import ray_io
from fabric.call_slot import CALLS_DIRECTORY, END_SIGNAL, Slot
from fabric.errors import CallTimeout, FabricError, OutOfMemory
from fabric.process_memory import of_status
from fabric.types import name_of

FIRST_FLUSH_S = 0.05
FLUSH_S = 1.0
IDLE_FLUSH_S = 0.2
"""A worker that has nothing to do for as long tells what it has: the program may be about to end, and its workers with it."""
MAX_PENDING = 20_000
ALWAYS_READ_S = 0.02
READ_EVERY = 8
STATUS_ALWAYS_S = 0.05
STATUS_EVERY = 16
GPU_READ_S = 0.1
RAISE_EVERY_S = 0.3
"""A call that is told to end, and told again while it clears up, is interrupted no more often."""
OWN_MEMORY_BYTES = 64 * 2**20
"""A call may hold this much above what its worker held before it, whatever it asked for: it is not to blame for the worker."""
_SHORTEST_SLEEP_S = 0.0005
PROFILER = "profiler"

Row = tuple[str, str, str, float, float, int, str, int, str, str, int, int, float | None, int | None, int | None]
"""call id, task, variant, wall s, CPU s, peak bytes (0: not read), outcome, input bytes, user, queue, asked bytes, page faults,
GPU use (0..1), GPU memory bytes, index of the only card"""


class OverMemory(MemoryError):
    """The call holds more memory than it asked for: raised in it by its node agent."""


class OverTime(BaseException):
    """The call has run past its time limit: raised in it by its node agent; nothing that catches `Exception` keeps it."""


def measured(
    fn: Callable[..., Any], *, task: str, variant: str, user: str, queue: str, timeout_s: float | None = None
) -> Callable[..., Any]:
    """`fn`, measured on the worker that runs it, and kept within its caps. The result is what becomes a Ray task."""
    from fabric.sizes import input_bytes

    told = (task, variant, user, queue)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        reporter = _reporter()
        reporter.is_busy = True
        size = input_bytes(args, kwargs)
        call_id, asked, outcome = reporter.call_id(), reporter.asked_bytes(), "ok"
        usage, started_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        is_capped = (asked or timeout_s is not None) and reporter.begin(call_id, told, asked, size, timeout_s)
        try:
            return fn(*args, **kwargs)
        except MemoryError as error:
            outcome = "oom"
            raise _out_of_memory(error, task, variant, asked, reporter.used_bytes(error), size) from error
        except OverTime as error:
            outcome = "timeout"
            hint = "its task option `timeout` is the limit of one call"
            raise CallTimeout(f"{name_of(task)} ran longer than {timeout_s:g} s", hint=hint) from error
        except Exception as error:
            outcome = "error"
            if _is_device_oom(error):
                outcome = "oom"
                raise _out_of_memory(error, task, variant, asked, reporter.used_bytes(error), size) from error
            make_picklable(error)
            raise
        finally:
            wall_s = time.perf_counter() - started_s
            if is_capped:
                reporter.end()
            now = resource.getrusage(resource.RUSAGE_SELF)
            cpu_s = now.ru_utime - usage.ru_utime + now.ru_stime - usage.ru_stime
            gpu = reporter.gpu_use(wall_s)
            stretch_s = wall_s * (reporter.place.slowdown - 1.0)
            if stretch_s > _SHORTEST_SLEEP_S:
                time.sleep(stretch_s)
                wall_s += stretch_s
                cpu_s *= reporter.place.slowdown
            num_faults = now.ru_minflt - usage.ru_minflt + now.ru_majflt - usage.ru_majflt
            peak = reporter.peak_bytes(wall_s, now.ru_maxrss * 1024)
            reporter.add((call_id, task, variant, wall_s, cpu_s, peak, outcome, size, user, queue, asked, num_faults, *gpu))

    return run


class Reporter:
    """One per worker process: gathers rows and sends them to the profiler from a thread of its own; keeps the worker's page."""

    def __init__(self) -> None:
        self.place = ray_io.worker_place()
        self.call_id = ray_io.call_id_reader()
        self.asked_bytes = ray_io.assigned_memory_bytes
        self.is_busy = False
        self._rows: list[Row] = []
        self._has_rows = threading.Event()
        self._flush_now = threading.Event()
        self._profiler: Any = None
        self._sent: Any = None
        self._last: list[Row] = []
        self._status, self._peak_reset = _open("/proc/self/status", os.O_RDONLY), _open("/proc/self/clear_refs", os.O_WRONLY)
        self._held_bytes = 0
        self._shared_bytes = self._num_unread = self._num_partly = 0
        self._slot: Slot | None = None
        self._raised_s = 0.0
        self._told: tuple[str, ...] = ()
        self._what: tuple[str, ...] = ()
        self.peak_bytes(STATUS_ALWAYS_S, 0)
        self._num_unread = READ_EVERY  # a worker's first call is read
        with contextlib.suppress(OSError, ValueError):  # no place for a page, or not the main thread: there are no caps then
            slot = Slot(ray_io.session_directory() / CALLS_DIRECTORY)
            signal.signal(END_SIGNAL, self._on_end)
            self._slot = slot
        threading.Thread(target=self._loop, name="fabric-reporter", daemon=True).start()

    def begin(self, call_id: str, told: tuple[str, ...], asked_bytes: int, size: int, timeout_s: float | None) -> bool:
        """Say on the worker's page that a call with caps runs; False where there is no page. `told` is the same object for all calls of
        an implementation."""
        if self._slot is None:
            return False
        cap_bytes = max(asked_bytes, self._held_bytes + OWN_MEMORY_BYTES) if asked_bytes else 0
        now_s = time.monotonic()
        deadline_s = 0.0 if timeout_s is None else now_s + timeout_s
        if told is not self._told:
            self._told, self._what = told, (*told, self.place.node_id, self.place.flavor)
        self._slot.begin(cap_bytes, asked_bytes, size, now_s, deadline_s, call_id, self._what)
        return True

    def end(self) -> None:
        if self._slot is not None:
            self._slot.end()

    def _on_end(self, _signal: int, _frame: Any) -> None:
        """The node agent has told the running call to end; nothing where that call has ended meanwhile."""
        slot = self._slot
        used_bytes = slot.told_to_end() if slot is not None else None
        if used_bytes is None or slot is None:
            return
        now_s = time.monotonic()
        if now_s - self._raised_s < RAISE_EVERY_S:
            return
        self._raised_s = now_s
        if used_bytes == 0:
            raise OverTime
        raise OverMemory(used_bytes)

    def used_bytes(self, error: BaseException) -> int:
        """What a call held that ran out of memory: as its node agent saw it, or at its peak."""
        if isinstance(error, OverMemory):
            return int(error.args[0])
        return self.peak_bytes(STATUS_ALWAYS_S, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def peak_bytes(self, wall_s: float, resident_bytes: int) -> int:
        """The most that this process held since the last reading, given what was resident at its peak, without shared memory. Of short
        calls only some are read (0 otherwise); the next reading sees the peak of those before it too. `/proc` has the parts of it, and
        costs 20 µs to read, or 200 in a cold cache: for calls that are not long, the last parts stand."""
        self._num_unread += 1
        if wall_s < ALWAYS_READ_S and self._num_unread < READ_EVERY:
            return 0
        self._num_unread = 0
        self._num_partly += 1
        if self._status is not None and (wall_s >= STATUS_ALWAYS_S or self._num_partly >= STATUS_EVERY):
            self._num_partly = 0
            held = of_status(os.pread(self._status, 4096, 0))
            self._held_bytes, self._shared_bytes = held.private_bytes + held.mapped_bytes, held.shared_bytes
        if self._peak_reset is not None:
            os.write(self._peak_reset, b"5")
        return max(resident_bytes - self._shared_bytes, 1)

    def gpu_use(self, wall_s: float) -> tuple[float | None, int | None, int | None]:
        """Use (0..1) and memory of this worker's cards, and which it is where it is one, at the end of a call that was long enough to be
        worth the asking."""
        if wall_s < GPU_READ_S or not (cards := ray_io.assigned_cards()):
            return None, None, None
        from pools.telemetry import read_cards

        return (*read_cards(cards, os.getpid()), cards[0] if len(cards) == 1 else None)

    def add(self, row: Row) -> None:
        """Note one call, which has ended."""
        self.is_busy = False
        if len(self._rows) < MAX_PENDING:
            self._rows.append(row)
        if not self._has_rows.is_set():
            self._has_rows.set()
        if row[6] != "ok":
            self._flush_now.set()

    def _loop(self) -> None:
        pause_s = FIRST_FLUSH_S
        while True:
            self._has_rows.wait()
            self._await_more(pause_s)
            self._flush_now.clear()
            self._has_rows.clear()
            pause_s = FLUSH_S
            rows, self._rows = self._rows, []
            unsent = self._send(rows)
            if unsent:
                self._rows = (unsent + self._rows)[:MAX_PENDING]
                self._has_rows.set()

    def _await_more(self, pause_s: float) -> None:
        """For so long, but no longer than calls come."""
        due_s, num_rows = time.monotonic() + pause_s, -1
        while (left_s := due_s - time.monotonic()) > 0 and not self._flush_now.wait(min(left_s, IDLE_FLUSH_S)):
            if not self.is_busy and len(self._rows) == num_rows:
                return
            num_rows = len(self._rows)

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


def _open(path: str, flags: int) -> int | None:
    """None where this is not Linux. Writing 5 to `clear_refs` resets the process's peak, so that no call is blamed for others."""
    with contextlib.suppress(OSError):
        return os.open(path, flags)
    return None


def _is_device_oom(error: Exception) -> bool:
    """torch.OutOfMemoryError and its like, told by name: torch need not be installed."""
    return type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError") and not isinstance(error, FabricError)


def _out_of_memory(error: BaseException, task: str, variant: str, asked: int, used: int, size: int) -> OutOfMemory:
    given = f"{asked / 2**20:.0f} MiB" if asked else "no memory request"
    why = f"it held {used / 2**20:.0f} MiB" if isinstance(error, OverMemory) else ray_io.describe_exception(error)
    return OutOfMemory(
        f"{name_of(task)} ran out of memory with {given} ({why})",
        hint="its next call asks for more; `map` retries by itself",
        task=task,
        variant=variant,
        asked_bytes=asked,
        used_bytes=used,
        input_bytes=size,
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
