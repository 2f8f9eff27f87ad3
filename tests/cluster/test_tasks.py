"""The task plane on a real twin: routes, variants, errors, map, explain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import fabric
from fabric.errors import NoFitError, OutOfMemory, UserError


@fabric.task
def double(x: Any) -> Any:
    return x * 2


@fabric.task
def where() -> str:
    return str(ray.get_runtime_context().get_node_labels()["tier"])


@where.variant(flavor="gpu", num_gpus=1)
def where_gpu() -> str:
    return "gpu on " + str(ray.get_runtime_context().get_node_labels()["tier"])


class TwoPart(Exception):
    """An exception that plain pickling cannot rebuild."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@fabric.task
def fail(kind: str) -> None:
    if kind == "two":
        raise TwoPart(7, "seven")
    raise ValueError(f"bad {kind}")


def test_a_call_returns_a_plain_object_ref_that_composes(twin: Any) -> None:
    ref = double.remote(3)
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(double.remote(ref)) == 12
    ready, _ = ray.wait([ref], timeout=10)
    assert ready == [ref]
    assert double.local(5) == 10


def test_a_plain_task_runs_on_the_cpu_tier(twin: Any, eventually: Callable[..., Any]) -> None:
    eventually(lambda: not twin.table.capacities["cpu"].used.get("CPU"))  # what ran before is over: otherwise it may go elsewhere

    @fabric.task
    def tier() -> str:
        return str(ray.get_runtime_context().get_node_labels()["tier"])

    assert ray.get(tier.remote()) == "cold"


def test_an_accelerator_variant_runs_its_own_function_on_its_own_tier(twin: Any) -> None:
    @fabric.task
    def only() -> str:
        return "base"

    @only.variant(flavor="cpu", num_cpus=64)
    @only.variant(flavor="npu")
    def accelerated() -> str:
        labels = ray.get_runtime_context().get_node_labels()
        return f"{labels['tier']} {ray.get_runtime_context().get_assigned_resources().get('QAIC')}"

    assert ray.get(only.remote()) == "warm 1.0"


def test_map_keeps_the_order_over_all_tiers(twin: Any) -> None:
    assert double.map(range(200)) == [2 * i for i in range(200)]
    assert double.map([]) == []
    assert double.map(iter([1, 2])) == [2, 4]


def test_an_exception_keeps_its_type_and_traceback(twin: Any) -> None:
    with pytest.raises(ValueError, match="bad luck") as caught:
        ray.get(fail.remote("luck"))
    assert "raise ValueError" in str(caught.value)
    with pytest.raises(TwoPart) as two:
        fail.map(["two"])
    assert type(two.value) is TwoPart
    assert two.value.code == 7
    assert "in fail" in "".join(two.value.__notes__)


def test_map_returns_exceptions_when_asked(twin: Any) -> None:
    @fabric.task
    def odd_fails(i: int) -> int:
        if i % 2:
            raise KeyError(i)
        return i

    results = odd_fails.map(range(4), return_exceptions=True)
    assert results[0] == 0
    assert results[2] == 2
    assert [type(r) for r in results[1::2]] == [KeyError, KeyError]


def test_what_fits_nowhere_is_refused_at_once_with_every_tiers_shortfall(twin: Any) -> None:
    @fabric.task(num_gpus=128)
    def huge() -> None: ...

    with pytest.raises(NoFitError) as caught:
        huge.remote()
    assert {tier for tier, _ in caught.value.shortfalls} == {"hot", "warm", "cold"}
    assert "128 GPU" in str(caught.value)


def test_an_unknown_flavor_names_the_nearest(twin: Any) -> None:
    @fabric.task
    def lost() -> None: ...

    lost.variant(flavor="a100-80gb")(lambda: None)
    with pytest.raises(UserError) as caught:
        lost.remote()
    assert caught.value.code == "unknown_flavor"
    assert caught.value.hint == "did you mean a100-80g?"


def test_explain_shows_the_route_the_alternatives_and_the_measured_run(twin: Any, eventually: Callable[..., Any]) -> None:
    ref = double.remote(np.zeros((8, 224, 224, 3), dtype=np.uint8))
    ray.get(ref)
    explained = eventually(lambda: (e := fabric.explain(ref)).measured and e)
    figures = explained.as_json()
    assert figures["twin"] is True
    assert figures["domain"] == "cv"
    assert {a["tier"] for a in figures["alternatives"]} == {"hot", "warm", "cold"}
    assert figures["measured"]["run_s"] > 0
    assert "twin" in str(explained)
    with pytest.raises(UserError, match="not a lately made call"):
        fabric.explain(ray.put(1))


def test_an_oom_raises_out_of_memory_and_enlarges_the_next_call(twin: Any) -> None:
    @fabric.task
    def hungry() -> float:
        memory = ray.get_runtime_context().get_assigned_resources().get("memory", 0)
        if memory < 200 * 2**20:
            raise MemoryError("too little")
        return float(memory)

    with pytest.raises(OutOfMemory) as caught:
        ray.get(hungry.remote())
    assert caught.value.code == "out_of_memory"
    assert ray.get(hungry.remote()) >= 200 * 2**20


def test_map_retries_an_oom_with_more_memory(twin: Any) -> None:
    @fabric.task
    def hungry(i: int) -> int:
        if ray.get_runtime_context().get_assigned_resources().get("memory", 0) < 600 * 2**20:
            raise MemoryError("too little")
        return i

    assert hungry.map(range(6)) == list(range(6))


def test_a_task_that_calls_a_task_runs(twin: Any) -> None:
    @fabric.task(num_cpus=0.5)
    def inner(x: int) -> int:
        return x + 1

    @fabric.task(num_cpus=0.5)
    def outer(x: int) -> int:
        return int(ray.get(inner.remote(x)))

    assert ray.get(outer.remote(1)) == 2


def test_ctrl_c_in_map_cancels_what_has_not_started(twin: Any, tmp_path: Path, eventually: Callable[..., Any]) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import time, pathlib, fabric

            @fabric.task
            def slow(i):
                pathlib.Path({str(tmp_path)!r}, f"begun-{{i}}").touch()
                time.sleep(1)
                pathlib.Path({str(tmp_path)!r}, f"ended-{{i}}").touch()

            fabric.connect({ray.get_runtime_context().gcs_address!r})
            slow.map(range(40))
            """
        )
    )
    # Where the tests run in a shell's background they ignore the signal, and what they start would, too.
    process = subprocess.Popen(
        [sys.executable, str(script)], env=os.environ, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    eventually(lambda: len(list(tmp_path.glob("begun-*"))) >= 2, 60)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode != 0, said
    time.sleep(1.5)
    begun = len(list(tmp_path.glob("begun-*")))
    time.sleep(1.5)
    assert len(list(tmp_path.glob("begun-*"))) == begun < 20


def test_connecting_to_a_dead_address_fails_soon_and_says_what_to_check() -> None:
    script = "import fabric\ntry:\n    fabric.connect('127.0.0.1:1')\nexcept fabric.UnavailableError as e:\n    print(e.render())"
    started_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "error[unavailable]" in done.stdout
    assert "hint: is the head up" in done.stdout
    assert time.monotonic() - started_s < 30
