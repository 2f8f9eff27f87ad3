"""Warm children: one call each, its result or error in a file, started before they are needed. Real processes, no Ray."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from fabric.errors import RuntimeFault
from fabric.running.child import OOM_EXIT, Call
from fabric.running.warm import WarmPool


@pytest.fixture(scope="module")
def pool() -> Iterator[WarmPool]:
    pool = WarmPool(1)
    yield pool
    pool.close()


class Ran:
    def __init__(self, pool: WarmPool, folder: Path, fn: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> None:
        payload = folder / "payload"
        payload.write_bytes(cloudpickle.dumps((fn, args, {})))
        call = Call(str(folder), str(folder / "log"), str(payload), str(folder / "result"), {**os.environ, **(env or {})})
        self.code = pool.run(call).wait(30)
        self.log = (folder / "log").read_text()
        result = folder / "result"
        self.is_ok, self.value = pickle.loads(result.read_bytes()) if result.exists() else (None, None)


def test_a_call_s_result_is_in_the_file_and_its_output_in_the_log(pool: WarmPool, tmp_path: Path) -> None:
    ran = Ran(pool, tmp_path, lambda a, b: print("hello") or a + b, 2, 3)
    assert (ran.code, ran.is_ok, ran.value, ran.log) == (0, True, 5, "hello\n")


def test_a_call_sees_its_own_environment_and_directory(pool: WarmPool, tmp_path: Path) -> None:
    def look() -> tuple[str, str, bool]:
        import sys

        return os.environ["WHO"], str(Path.cwd()), "ray" in sys.modules

    assert Ran(pool, tmp_path, look, env={"WHO": "me"}).value == ("me", str(tmp_path), False)


def test_an_exception_comes_back_as_itself_with_its_traceback_in_the_log(pool: WarmPool, tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError("colour")

    ran = Ran(pool, tmp_path, fail)
    assert ran.code == 1
    assert isinstance(ran.value, KeyError)
    assert ran.log.rstrip().endswith("KeyError: 'colour'")
    assert "running/child.py" not in ran.log


def test_running_out_of_memory_has_an_exit_code_of_its_own(pool: WarmPool, tmp_path: Path) -> None:
    assert Ran(pool, tmp_path, lambda: bytearray(2**62)).code == OOM_EXIT


@pytest.mark.parametrize("how", ["value", "error"])
def test_what_cannot_be_pickled_becomes_an_error_that_says_so(pool: WarmPool, tmp_path: Path, how: str) -> None:
    def call() -> object:
        import threading

        if how == "value":
            return threading.Lock()
        raise ValueError(threading.Lock())

    ran = Ran(pool, tmp_path, call)
    assert (ran.code, ran.is_ok) == (1, False)
    assert isinstance(ran.value, RuntimeFault)


def test_sys_exit_is_the_exit_code(pool: WarmPool, tmp_path: Path) -> None:
    assert Ran(pool, tmp_path, lambda: exit(4)).code == 4


def test_a_spare_that_was_taken_is_replaced(pool: WarmPool, tmp_path: Path) -> None:
    deadline_s = time.monotonic() + 20
    while not pool.num_waiting():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    Ran(pool, tmp_path, lambda: None)
    while not pool.num_waiting():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_more_calls_than_spares_all_run(pool: WarmPool, tmp_path: Path) -> None:
    processes = []
    for i in range(4):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "payload").write_bytes(cloudpickle.dumps((lambda: 1, (), {})))
        processes.append(
            pool.run(Call(str(folder), str(folder / "log"), str(folder / "payload"), str(folder / "result"), dict(os.environ)))
        )
    assert [process.wait(30) for process in processes] == [0] * 4
