"""Carries what a generator yields, in its lane, to whoever reads on the server's loop: at most `WINDOW` items ahead of the reader.

A reader that stops closes the generator, which frees its lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from serve_apps.execution.lanes import LoopLane, ThreadLane

WINDOW = 16
_END = object()


class _Failed:
    """What the generator raised, on its way to the reader."""

    def __init__(self, error: Exception) -> None:
        self.error = error


async def read_thread(lane: ThreadLane, make: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
    """The items of a plain generator that runs in a thread of `lane`; it has ended when this ends. Raises: what it raises."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Any] = asyncio.Queue()
    room, is_left, ended = threading.Semaphore(WINDOW), threading.Event(), loop.create_future()

    def put(item: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server's loop is gone
            loop.call_soon_threadsafe(items.put_nowait, item)

    def produce() -> None:
        try:
            source = make()
            try:
                for item in source:
                    put(item)
                    room.acquire()
                    if is_left.is_set():
                        return
            finally:
                if hasattr(source, "close"):
                    source.close()
        except Exception as error:
            put(_Failed(error))
        finally:
            put(_END)

    lane.submit(produce, loop, ended.set_result)
    try:
        async for item in _until_end(items):
            room.release()
            yield item
    finally:
        is_left.set()
        room.release()
        await asyncio.shield(ended)


async def read_loop(lane: LoopLane, make: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
    """The items of an `async` generator that runs on the loop of `lane`; it has ended when this ends. Raises: what it raises."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Any] = asyncio.Queue()
    room = asyncio.Semaphore(WINDOW)  # belongs to the lane's loop

    async def produce() -> None:
        source = make()
        try:
            async for item in source:
                loop.call_soon_threadsafe(items.put_nowait, item)
                await room.acquire()
        except Exception as error:
            loop.call_soon_threadsafe(items.put_nowait, _Failed(error))
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()
            loop.call_soon_threadsafe(items.put_nowait, _END)

    running = asyncio.run_coroutine_threadsafe(produce(), lane.loop)
    try:
        async for item in _until_end(items):
            lane.loop.call_soon_threadsafe(room.release)
            yield item
    finally:
        if not running.done():
            running.cancel()


async def _until_end(items: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (item := await items.get()) is not _END:
        if isinstance(item, _Failed):
            raise item.error
        yield item
