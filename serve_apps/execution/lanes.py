"""The threads in which a model is built and called: plain functions on one or several, `async` ones on an event loop of their own.

A service needs no locks as long as one call runs at a time, and may hold what is bound to its thread: the first thread of a lane
builds it and calls it. `ThreadPoolExecutor` would do, at twice the time for each hop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class ThreadLane:
    """`num_threads` threads behind one line of work. Work must not raise: it returns what happened."""

    def __init__(self, num_threads: int, name: str = "predict") -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._num_threads, self._name = num_threads, name
        self._start()
        self._num_started = 1

    def build(self, make: Callable[[], Result]) -> Result:
        """Run `make` in the first thread and wait for it. Raises: what it raises."""
        made: Future[Result] = Future()
        # What the builder was told by context variables (how many threads a model may use) holds in the lane, too.
        make = functools.partial(contextvars.copy_context().run, make)
        self._work.put(lambda: _settle(made, make))
        result = made.result()
        while self._num_started < self._num_threads:
            self._start()
            self._num_started += 1
        return result

    def submit(self, work: Callable[[], Result], loop: asyncio.AbstractEventLoop, done: Callable[[Result], None]) -> None:
        """Run `work` in a thread, then `done` with its result on `loop`."""

        def run() -> None:
            result = work()
            with contextlib.suppress(RuntimeError):  # the server's loop is gone: nobody waits any more
                loop.call_soon_threadsafe(done, result)

        self._work.put(run)

    def stop(self) -> None:
        """The threads end after the work that was handed in."""
        for _ in range(self._num_started):
            self._work.put(None)

    def _start(self) -> None:
        threading.Thread(target=_serve, args=(self._work,), name=self._name, daemon=True).start()


class LoopLane:
    """One thread with an event loop, where an `async` service is built and called."""

    def __init__(self, name: str = "predict") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def build(self, make: Callable[[], Result]) -> Result:
        """Run `make` on the loop's thread, where `asyncio.get_running_loop()` works. Raises: what it raises."""

        async def made() -> Result:
            return make()

        return asyncio.run_coroutine_threadsafe(made(), self.loop).result()

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Await it on the lane's loop from another one; cancelling here cancels there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


Lane = ThreadLane | LoopLane


def _serve(work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (item := work.get()) is not None:
        item()


def _settle(future: Future[Result], make: Callable[[], Result]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)
