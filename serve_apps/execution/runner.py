"""The asyncio shell around the batcher: holds the slots, starts batches in their lane or at once, and tells each caller what it got.

All of it runs on the server's event loop; only what is handed to a lane runs elsewhere. A slot is held from the moment a batch leaves
the queue until its call has ended, also where its caller went away.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import Any, NamedTuple

from fabric.errors import FabricError, ModelError
from serve_apps.execution.batcher import Batcher
from serve_apps.execution.inline import InlineChoice
from serve_apps.execution.lanes import Lane, LoopLane, ThreadLane
from serve_apps.execution.queue import Ticket, too_late
from serve_apps.execution.rows import key_and_rows
from serve_apps.execution.statistics import Statistics
from serve_apps.execution.streams import read_loop, read_thread
from serve_apps.execution.target import Manner, Ran, Target, run_calls, run_one
from serve_apps.serve_options import ASYNC_CONCURRENCY, ServeOptions
from serve_apps.shadow_call import as_shadow, is_shadow


class _InLane:
    """A key that no other ticket has: alone, in the thread that built the service."""


class _Shadow(NamedTuple):
    """The key of shadow copies, which share a call only with each other: `is_shadow()` is true in it."""

    key: Hashable


class Answer(NamedTuple):
    """`times_s`: joining, running, telling apart; of the whole batch."""

    result: Any
    queue_s: float
    times_s: tuple[float, float, float]


class Runner:
    """One model version at work. `lane`: the threads that built it."""

    def __init__(self, target: Target, options: ServeOptions, lane: Lane, statistics: Statistics) -> None:
        self._target, self._lane, self._statistics = target, lane, statistics
        self._batcher = Batcher(options)
        self._queue = self._batcher.queue
        is_plain = target.manner is Manner.CALL
        self._inline = InlineChoice(options.inline and is_plain)
        self._max_rows = options.max_batch_size if is_plain else 0
        self._num_slots = options.max_concurrency or (ASYNC_CONCURRENCY if target.manner.is_async else 1)
        self._num_free = self._num_slots
        self._is_pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event | None = None

    @property
    def num_ongoing(self) -> int:
        """Requests that wait, and calls that run."""
        return self._queue.num_waiting + self._num_slots - self._num_free

    async def run(self, arguments: dict[str, Any], priority: int, deadline_s: float) -> Answer:
        """Raises: what `predict` raised; `RejectedError` (`queue_full`, `deadline_exceeded`), `ModelError` (`wrong_shape`)."""
        if self._target.manner is Manner.ASYNC:
            return await self._run_async(arguments, priority, deadline_s)
        if not self._max_rows:
            if self._inline.is_inline and self._num_free == self._num_slots and not self._queue.num_waiting:
                return await self._run_now(arguments, priority, deadline_s)
            return await self._run_queued(arguments, None, 1, priority, deadline_s)
        key, rows = key_and_rows(arguments)
        if rows > self._max_rows:
            raise ModelError(f"{rows} rows, above the model's max_batch_size {self._max_rows}", code="wrong_shape")
        return await self._run_queued(arguments, key, rows, priority, deadline_s)

    async def stream(self, arguments: Mapping[str, Any], priority: int, deadline_s: float) -> AsyncIterator[Any]:
        """What a generating `predict` yields. Raises: as `run`."""
        ticket = await self._granted(arguments, priority, deadline_s)
        lane = self._lane
        try:
            source = (
                read_loop(lane, lambda: self._target.call(**arguments))
                if isinstance(lane, LoopLane)
                else read_thread(lane, lambda: self._target.call(**arguments))
            )
            try:
                async for item in source:
                    yield item
            finally:
                await source.aclose()  # type: ignore[attr-defined]
        finally:
            self._release(ticket)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing runs; whoever calls lets no more in."""
        if self.num_ongoing:
            self._idle = asyncio.Event()
            await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()

    # -- ways to run ---------------------------------------------------------------------------------------------------

    async def _run_now(self, arguments: dict[str, Any], priority: int, deadline_s: float) -> Answer:
        """At once, on the server's own thread: nobody waits, and the call is known to be quick."""
        if deadline_s <= time.monotonic():
            raise too_late("the deadline passed before the request was run")
        start_s = time.perf_counter()
        outcome = run_one(self._target.call, arguments)
        run_s = time.perf_counter() - start_s
        self._inline.note(run_s, start_s)
        if outcome.error is not None:
            return await self._after_inline(outcome.error, arguments, 1, priority, deadline_s)
        times_s = (0.0, run_s, 0.0)
        self._statistics.note_call(1, times_s)
        return Answer(outcome.result, 0.0, times_s)

    async def _run_queued(self, arguments: dict[str, Any], key: Hashable, rows: int, priority: int, deadline_s: float) -> Answer:
        ticket = Ticket(arguments, _Shadow(key) if is_shadow() else key, rows, priority, deadline_s)
        outcome, times_s, was_inline = await self._wait(ticket)
        if outcome.error is None:
            return Answer(outcome.result, ticket.started_s - ticket.arrived_s, times_s)
        if was_inline:
            return await self._after_inline(outcome.error, arguments, rows, priority, deadline_s)
        raise outcome.error

    async def _after_inline(self, error: Exception, arguments: dict[str, Any], rows: int, priority: int, deadline_s: float) -> Answer:
        """A call failed on the server's thread. It may have needed the thread that built the service, as SQLite's connections do."""
        if isinstance(error, FabricError):
            raise error
        answer = await self._run_queued(arguments, _InLane(), rows, priority, deadline_s)
        self._inline.forbid()
        return answer

    async def _run_async(self, arguments: dict[str, Any], priority: int, deadline_s: float) -> Answer:
        ticket = await self._granted(arguments, priority, deadline_s)
        assert isinstance(self._lane, LoopLane)
        start_s = time.perf_counter()
        try:
            result = await self._lane.run(self._target.call(**arguments))
        finally:
            self._release(ticket)
        times_s = (0.0, time.perf_counter() - start_s, 0.0)
        self._statistics.note_call(1, times_s)
        return Answer(result, ticket.started_s - ticket.arrived_s, times_s)

    async def _granted(self, arguments: Mapping[str, Any], priority: int, deadline_s: float) -> Ticket:
        """Wait for a slot, which the caller gives back with `_release`."""
        ticket = Ticket(arguments, None, 1, priority, deadline_s)
        await self._wait(ticket)
        return ticket

    def _release(self, ticket: Ticket) -> None:
        now_s = time.monotonic()
        self._num_free += 1
        self._batcher.note_ran([ticket], now_s - ticket.started_s, now_s)
        self._pump()

    # -- the queue -----------------------------------------------------------------------------------------------------

    async def _wait(self, ticket: Ticket) -> Any:
        """Queue it and wait for what it gets. Where the caller goes away meanwhile, its place or slot is free again."""
        loop = asyncio.get_running_loop()
        ticket.carry = loop.create_future()
        self._batcher.add(ticket, time.monotonic(), self._num_free)
        if self._max_rows:
            self._pump_soon(loop)  # once for all that came in this turn of the loop: they share a batch
        else:
            self._pump()
        try:
            return await ticket.carry
        except asyncio.CancelledError:
            is_granted = ticket.carry.done() and not ticket.carry.cancelled() and self._target.manner is not Manner.CALL
            if is_granted:
                self._release(ticket)
            elif self._queue.drop(ticket):
                self._tell_if_idle()
            raise

    def _pump_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_pump_due:
            self._is_pump_due = True
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Start what can start."""
        self._is_pump_due = False
        now_s = time.monotonic()
        for ticket in self._queue.expire(now_s):
            if not ticket.carry.done():
                ticket.carry.set_exception(too_late("the deadline passed in the queue"))
        loop = asyncio.get_running_loop()
        while self._num_free:
            batch = self._batcher.next_batch(now_s)
            if not batch:
                break
            self._num_free -= 1
            if self._start(batch, loop) and self._queue.num_waiting:
                self._pump_soon(loop)  # other connections first: many quick calls in a row would hold up the loop
                break
        self._set_timer(loop)
        self._tell_if_idle()

    def _start(self, batch: list[Ticket], loop: asyncio.AbstractEventLoop) -> bool:
        """True where the batch ran at once."""
        if self._target.manner is not Manner.CALL:
            for ticket in batch:
                ticket.carry.set_result(None)
            return False
        requests, rows, call, key = [ticket.payload for ticket in batch], [ticket.rows for ticket in batch], self._target.call, batch[0].key
        if isinstance(key, _Shadow):
            call, key = as_shadow(call), key.key
        if self._inline.is_inline and not isinstance(key, _InLane):
            self._finish(batch, run_calls(call, requests, rows), was_inline=True)
            return True
        assert isinstance(self._lane, ThreadLane)
        self._lane.submit(lambda: run_calls(call, requests, rows), loop, lambda ran: self._ended(batch, ran))
        return False

    def _ended(self, batch: list[Ticket], ran: Ran) -> None:
        self._finish(batch, ran, was_inline=False)
        self._pump()

    def _finish(self, batch: list[Ticket], ran: Ran, *, was_inline: bool) -> None:
        self._num_free += 1
        now_s = time.monotonic()
        self._batcher.note_ran(batch, sum(ran.times_s), now_s)
        self._inline.note(sum(ran.times_s), now_s)
        self._statistics.note_call(sum(ticket.rows for ticket in batch), ran.times_s)
        for ticket, outcome in zip(batch, ran.outcomes, strict=True):
            if not ticket.carry.done():  # else its caller went away
                ticket.carry.set_result((outcome, ran.times_s, was_inline))

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        wake_s = self._queue.next_deadline_s()
        if self._num_free:
            wake_s = min(wake_s, self._batcher.wake_s)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_s < math.inf:
            self._timer = loop.call_later(max(0.0, wake_s - time.monotonic()), self._pump)

    def _tell_if_idle(self) -> None:
        if self._idle is not None and not self.num_ongoing:
            self._idle.set()
