"""Requests that are sized by measurement, and caps that hold, on real workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import ray

import fabric
from fabric.errors import CallTimeout, OutOfMemory

MIB = 2**20
PIECE = 8 * MIB


def hold(num_bytes: int, hold_s: float = 1.0) -> int:
    """In pieces: a call in native code hears no signal, and on a busy machine to fill all of it at once takes longer than the grace."""
    held = [b"1" * min(PIECE, num_bytes - start) for start in range(0, num_bytes, PIECE)]
    time.sleep(hold_s)
    return sum(map(len, held))


def test_auto_probes_first_and_then_asks_for_what_was_measured(twin: Any, eventually: Callable[..., Any]) -> None:
    @fabric.task(resources="auto")
    def sized(data: bytes) -> int:
        return hold(100 * MIB + len(data), 0.05)

    first = sized.remote(b"x" * MIB)
    ray.get(first)
    assert fabric.explain(first).as_json()["memory"].startswith("probe, nothing is known of its need: ")
    for _ in range(3):
        ray.get(sized.remote(b"x" * MIB))

    def measured() -> Any:
        ref = sized.remote(b"x" * MIB)
        ray.get(ref)
        explained = eventually(lambda: found if (found := fabric.explain(ref)).measured is not None else None)
        return explained if explained.as_json()["memory"].startswith("p95 of ") else None

    explained = eventually(measured)
    run = explained.measured
    assert run is not None
    assert run.peak_memory_bytes > 180 * MIB, "the worker's own memory counts as well"
    # After one run the margin is still wide.
    assert run.peak_memory_bytes <= run.asked_bytes < 4 * run.peak_memory_bytes
    assert run.input_bytes == MIB
    assert "memory: p95 of " in str(explained)


def test_a_call_over_what_it_asked_for_is_ended_as_out_of_memory_and_its_worker_goes_on(twin: Any) -> None:
    @fabric.task(memory=250 * MIB, max_retries=0)
    def greedy(num_bytes: int) -> int:
        return hold(num_bytes, 5.0 if num_bytes else 0.0)

    ray.get(greedy.remote(0))
    with pytest.raises(OutOfMemory, match="it held") as caught:
        ray.get(greedy.remote(500 * MIB))
    assert caught.value.asked_bytes == 250 * MIB
    assert caught.value.used_bytes > 250 * MIB
    assert ray.get(greedy.remote(0)) == 0


def test_map_retries_what_was_ended_over_its_memory(twin: Any) -> None:
    @fabric.task(memory=250 * MIB)
    def greedy(num_bytes: int) -> int:
        return hold(num_bytes, 0.5)

    assert greedy.map([1, 450 * MIB, 2]) == [1, 450 * MIB, 2]


@pytest.mark.parametrize("max_retries", [0, 3])
def test_a_call_that_takes_no_notice_is_killed_and_still_is_out_of_memory(twin: Any, max_retries: int) -> None:
    @fabric.task(memory=250 * MIB, max_retries=max_retries, name=f"deaf{max_retries}")
    def deaf(num_bytes: int) -> int:
        if ray.get_runtime_context().get_assigned_resources()["memory"] < 600 * MIB:
            import signal

            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) | {signal.SIGRTMIN + 7})
        return hold(num_bytes, 3.0)

    assert deaf.map([450 * MIB]) == [450 * MIB]


def test_a_call_that_hangs_is_ended_at_its_time_limit_and_recorded_as_such(twin: Any, eventually: Callable[..., Any]) -> None:
    @fabric.task(timeout="0.3s")
    def hangs() -> None:
        time.sleep(60)

    ref = hangs.remote()
    with pytest.raises(CallTimeout, match=r"ran longer than 0\.3 s"):
        ray.get(ref)
    assert eventually(lambda: fabric.explain(ref).measured).outcome == "timeout"
