"""Requests that wait for a model to wake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fabric.errors import RejectedError, RuntimeFault
from serve_apps.gateway.holding import Holding
from serve_apps.gateway.routes import Address

HERE = Address("10.0.0.1", 1)


class Gate:
    """A waker that waits for `opens`, and then gives `HERE` or raises `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.opens = asyncio.Event()
        self.error = error
        self.num_begun = self.num_cancelled = 0

    async def wake(self, model: str, version: str) -> Address:
        self.num_begun += 1
        try:
            await self.opens.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error:
            raise self.error
        return HERE


def test_all_that_wait_for_one_version_wake_it_once() -> None:
    async def scenario() -> None:
        gate = Gate()
        holding = Holding(gate)
        waiting = [asyncio.ensure_future(holding.until_awake("m", "1")) for _ in range(5)]
        await asyncio.sleep(0)
        assert holding.num_held() == {("m", "1"): 5}
        gate.opens.set()
        assert await asyncio.gather(*waiting) == [HERE] * 5
        assert gate.num_begun == 1
        assert holding.num_held() == {}

    asyncio.run(scenario())


def test_what_the_waker_raises_is_told_to_all_and_the_next_one_tries_again() -> None:
    async def scenario() -> None:
        gate = Gate(RuntimeFault("broken"))
        gate.opens.set()
        holding = Holding(gate)
        told: list[Any] = await asyncio.gather(*(holding.until_awake("m", "1") for _ in range(2)), return_exceptions=True)
        assert [str(error) for error in told] == ["broken", "broken"]
        gate.error = None
        assert await holding.until_awake("m", "1") == HERE

    asyncio.run(scenario())


def test_after_the_limit_the_caller_is_told_when_to_come_back_and_the_waking_ends() -> None:
    async def scenario() -> None:
        gate = Gate()
        with pytest.raises(RejectedError) as caught:
            await Holding(gate, held_s=0.01).until_awake("m", "1")
        assert caught.value.code == "no_replica"
        assert caught.value.retry_after_s is not None
        await asyncio.sleep(0)
        assert gate.num_cancelled == 1

    asyncio.run(scenario())


def test_a_caller_that_leaves_does_not_end_the_waking_for_the_others() -> None:
    async def scenario() -> None:
        gate = Gate()
        holding = Holding(gate)
        leaving, staying = (asyncio.ensure_future(holding.until_awake("m", "1")) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.opens.set()
        assert await staying == HERE
        assert gate.num_cancelled == 0

    asyncio.run(scenario())


def test_no_more_than_the_limit_wait() -> None:
    async def scenario() -> None:
        gate = Gate()
        holding = Holding(gate, max_held=1)
        waiting = asyncio.ensure_future(holding.until_awake("m", "1"))
        await asyncio.sleep(0)
        with pytest.raises(RejectedError) as caught:
            await holding.until_awake("m", "1")
        assert caught.value.code == "queue_full"
        gate.opens.set()
        assert await waiting == HERE

    asyncio.run(scenario())
