"""`Task.map`: many calls, a bounded window in flight, results in order.

Invariants: an item is submitted again only when its worker or node died, it ran out of memory, or it waits for a flavor
that has no node left and so cannot be running; whatever ends the map early cancels what has not started.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fabric import client as fabric_client
from fabric import ray_io
from fabric.errors import CallTimeout, NoFitError, OutOfMemory
from fabric.sizes import input_bytes

if TYPE_CHECKING:
    from fabric.client import Client
    from fabric.routing import Candidate
    from fabric.tasks import Task

MIN_WINDOW = 8
MAX_WINDOW = 1000
WINDOW_S = 0.5
"""Calls are kept in flight for this long ahead, so that short ones do not wait for the caller."""
MAX_MEMORY_TRIES = 6
POLL_S = 0.5


@dataclass(slots=True)
class _Item:
    index: int
    value: Any
    num_ooms: int = 0


@dataclass(frozen=True, slots=True)
class _Flight:
    item: _Item
    candidate: Candidate


class Map:
    """One running map."""

    def __init__(self, task: Task[..., Any], items: Iterable[Any], *, return_exceptions: bool, progress: bool | None) -> None:
        self._task = task
        self._items = iter(items)
        self._total = len(items) if isinstance(items, Sized) else None
        self._return_exceptions = return_exceptions
        self._progress = sys.stderr.isatty() if progress is None else progress
        self._results: dict[int, Any] = {}
        self._flying: dict[Any, _Flight] = {}
        self._num_taken = 0
        self._client: Client = fabric_client.current()

    def run(self) -> list[Any]:
        try:
            with self._bar() as bar:
                self._fill()
                while self._flying:
                    for ref in ray_io.wait_any(list(self._flying), POLL_S):
                        self._take(ref)
                    if bar is not None:
                        bar.set(len(self._results))
                    self._route_lost_anew()
                    self._fill()
        except BaseException:
            self._cancel_waiting()
            raise
        return [self._results[index] for index in range(len(self._results))]

    def _fill(self) -> None:
        while (room := self._window() - len(self._flying)) > 0:
            batch = list(itertools.islice(self._items, room))
            for value in batch:
                self._submit(_Item(self._num_taken, value))
                self._num_taken += 1
            if len(batch) < room:
                return

    def _submit(self, item: _Item) -> None:
        ref, candidate = self._task.submit((item.value,), {})
        self._flying[ref] = _Flight(item, candidate)

    def _window(self) -> int:
        """Enough calls for every slot to have its next one waiting: twice the slots, or, once the run time is measured,
        half a second of work."""
        slots: dict[str, float] = {}
        for candidate in {flight.candidate.flavor: flight.candidate for flight in self._flying.values()}.values():
            ahead = max(2.0, WINDOW_S / max(candidate.run_s, 1e-4)) if candidate.estimate.num_runs else 2.0
            slots[candidate.flavor] = _num_slots(candidate) * ahead
        return max(MIN_WINDOW, min(MAX_WINDOW, int(sum(slots.values()))))

    def _take(self, ref: Any) -> None:
        flight = self._flying.pop(ref)
        try:
            self._results[flight.item.index] = ray_io.ask(ref, timeout_s=None)
        except OutOfMemory as error:
            self._retry_larger(flight.item, flight.candidate, error)
        except Exception as error:
            killed = self._as_killed(ref, error)
            if isinstance(killed, OutOfMemory):
                self._retry_larger(flight.item, flight.candidate, killed)
            else:
                self._fail(flight.item, killed)

    def _as_killed(self, ref: Any, error: Exception) -> Exception:
        """What a crashed worker's node agent knows of it: that it was killed over its memory, or its time."""
        run = self._client.run_of(ray_io.call_id(ref)) if getattr(error, "code", "") == "worker_crashed" else None
        if run is None or run.outcome not in ("oom", "timeout"):
            return error
        name = self._task.name
        if run.outcome == "timeout":
            return CallTimeout(f"{name} was killed at its time limit, after {run.wall_s:.3g} s")
        told = f"{name} was killed with {run.peak_memory_bytes / 2**20:.0f} MiB of the {run.asked_bytes / 2**20:.0f} MiB that it asked for"
        return OutOfMemory(told, asked_bytes=run.asked_bytes, used_bytes=run.peak_memory_bytes, input_bytes=run.input_bytes)

    def _retry_larger(self, item: _Item, candidate: Candidate, error: OutOfMemory) -> None:
        item.num_ooms += 1
        used_bytes = int(error.context.get("used_bytes", 0))
        size = error.context.get("input_bytes", input_bytes((item.value,), {}))
        self._client.remember_oom(self._task.key, candidate.variant.name, candidate.resources.memory_bytes, used_bytes, size)
        try:
            if item.num_ooms >= MAX_MEMORY_TRIES:
                raise error
            self._submit(item)
        except (NoFitError, OutOfMemory):
            self._fail(item, error)

    def _fail(self, item: _Item, error: Exception) -> None:
        if not self._return_exceptions:
            raise error
        self._results[item.index] = error

    def _route_lost_anew(self) -> None:
        """Calls that wait for a flavor without any node cannot be running: cancel and route them again."""
        lost = [(ref, flight.item) for ref, flight in self._flying.items() if self._client.is_lost(flight.candidate.flavor)]
        if not lost:
            return
        finished = ray_io.done([ref for ref, _ in lost])
        for ref, item in lost:
            if ref in finished:
                continue
            ray_io.cancel(ref)
            del self._flying[ref]
            self._submit(item)

    def _cancel_waiting(self) -> None:
        """Cancel what has not started. Ray starts calls of one kind in order, so the first in each flavor's slots run."""
        running: dict[str, int] = {}
        finished = ray_io.done(list(self._flying))
        for ref, flight in self._flying.items():
            if ref in finished:
                continue
            flavor = flight.candidate.flavor
            running[flavor] = running.get(flavor, 0) + 1
            if running[flavor] > _num_slots(flight.candidate):
                ray_io.cancel(ref)

    def _bar(self) -> AbstractContextManager[Any]:
        if not self._progress:
            return nullcontext()
        from fabric.progress_bar import bar

        return bar(self._task.name, self._total)


def _num_slots(candidate: Candidate) -> int:
    return candidate.capacity.slots(candidate.resources.as_demand())
