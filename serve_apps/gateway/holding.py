"""Holds requests for a version that has no living replica until one is awake: one wake-up for all that wait, within a limit of time.

Invariants: at most `MAX_HELD` requests of a version wait; a wake-up that nobody waits for any longer is cancelled.
"""

from __future__ import annotations

import asyncio

from fabric.errors import RejectedError
from serve_apps.gateway.routes import Address
from serve_apps.gateway.waking import Waker, no_replica

HELD_S = 30.0
MAX_HELD = 1000


class _Waking:
    __slots__ = ("num_waiting", "task")

    def __init__(self, task: asyncio.Task[Address | None]) -> None:
        self.task = task
        self.num_waiting = 0


class Holding:
    """For one event loop."""

    def __init__(self, waker: Waker, *, held_s: float = HELD_S, max_held: int = MAX_HELD) -> None:
        self._waker = waker
        self._held_s = held_s
        self._max_held = max_held
        self._waking: dict[tuple[str, str], _Waking] = {}

    def num_held(self) -> dict[tuple[str, str], int]:
        """Requests that wait, by model and version."""
        return {key: waking.num_waiting for key, waking in self._waking.items()}

    async def until_awake(self, model: str, version: str) -> Address | None:
        """What `Waker.wake` gives. Raises: as it, and RejectedError (`no_replica` after the limit; `queue_full`)."""
        key = (model, version)
        waking = self._waking.get(key)
        if waking is None:
            waking = _Waking(asyncio.ensure_future(self._waker.wake(model, version)))
            self._waking[key] = waking
        if waking.num_waiting >= self._max_held:
            raise RejectedError(
                f"{waking.num_waiting} requests wait for model {model!r} to wake", code="queue_full", retryable=True, retry_after_s=1.0
            )
        waking.num_waiting += 1
        try:
            async with asyncio.timeout(self._held_s):
                return await asyncio.shield(waking.task)
        except TimeoutError:
            raise no_replica(model, version, f"it did not wake within {self._held_s:g} s", self._held_s) from None
        finally:
            waking.num_waiting -= 1
            self._leave(key, waking)

    def _leave(self, key: tuple[str, str], waking: _Waking) -> None:
        if self._waking.get(key) is waking and (waking.task.done() or not waking.num_waiting):
            del self._waking[key]
            waking.task.cancel()
