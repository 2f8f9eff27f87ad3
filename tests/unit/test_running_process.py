"""Guarded processes: signals, graces, leftovers, orphans, memory. Real processes, no Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fabric.running.process import Process


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], Process]:
    def run(command: str) -> Process:
        with (tmp_path / "log").open("ab") as log:
            return Process(["/bin/sh", "-c", command], cwd=tmp_path, env=os.environ, output=log)

    return run


def wait_for(read: Callable[[], object], timeout_s: float = 10.0) -> object:
    deadline_s = time.monotonic() + timeout_s
    while not (answer := read()):
        assert time.monotonic() < deadline_s, "nothing came"
        time.sleep(0.01)
    return answer


def pid_in(file: Path) -> int:
    return int(str(wait_for(lambda: file.exists() and file.read_text().strip())))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", 139), ("no-such-program-here", 127)])
def test_the_exit_code_is_the_shell_s(start: Callable[[str], Process], command: str, code: int) -> None:
    assert start(command).wait(10) == code


def test_output_and_errors_go_to_the_file(start: Callable[[str], Process], tmp_path: Path) -> None:
    start("echo out; echo err >&2").wait(10)
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_a_program_that_heeds_sigterm_leaves_with_its_own_code(start: Callable[[str], Process], tmp_path: Path) -> None:
    process = start("trap 'echo saved > saved; exit 7' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    pid_in(tmp_path / "pid")
    process.terminate(10)
    assert process.wait(10) == 7
    assert (tmp_path / "saved").exists()


def test_a_sigterm_of_its_first_moment_is_not_lost(start: Callable[[str], Process]) -> None:
    for wait_s in (0.0, 0.003, 0.01, 0.02, 0.05):
        process = start("exec sleep 20")
        time.sleep(wait_s)
        process.terminate(10)
        assert process.wait(5) == 143


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(start: Callable[[str], Process], tmp_path: Path) -> None:
    process = start("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    pid_in(tmp_path / "pid")
    told_s = time.monotonic()
    process.terminate(0.3)
    assert process.wait(10) == 137
    assert 0.3 <= time.monotonic() - told_s < 5


def test_a_shorter_grace_brings_the_end_forward(start: Callable[[str], Process], tmp_path: Path) -> None:
    process = start("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    pid_in(tmp_path / "pid")
    process.terminate(60)
    process.terminate(0.1)
    process.terminate(60)
    assert process.wait(10) == 137


def test_nothing_that_it_started_outlives_it(start: Callable[[str], Process], tmp_path: Path) -> None:
    process = start("setsid sh -c 'echo $$ > daemon; sleep 60' & while [ ! -s daemon ]; do sleep 0.01; done; exit 0")
    assert process.wait(10) == 0
    assert is_gone(pid_in(tmp_path / "daemon"))


def test_a_runner_that_is_sigkilled_leaves_no_orphan(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, time; from pathlib import Path; from fabric.running.process import Process\n"
        "command = ['/bin/sh', '-c', \"trap '' TERM; echo $$ > shell; setsid sh -c 'echo $$ > daemon; sleep 60' & sleep 60\"]\n"
        f"Process(command, cwd=Path({str(tmp_path)!r}), env=os.environ, output=subprocess.DEVNULL)\n"
        "time.sleep(60)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", script])
    pids = [pid_in(tmp_path / "shell"), pid_in(tmp_path / "daemon")]
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait(10)
    wait_for(lambda: all(map(is_gone, pids)))


def test_what_it_used_is_that_of_all_that_it_started(start: Callable[[str], Process]) -> None:
    spin = f"{sys.executable} -c 'import time; b = bytearray(60 * 2**20); t = time.process_time\nwhile t() < 0.4: pass'"
    process = start(f"{spin} & {spin} & wait")
    assert process.used is None
    assert process.wait(30) == 0
    assert process.used is not None
    assert 0.8 <= process.used.cpu_s < 1.6
    assert 60 * 2**20 < process.used.peak_memory_bytes < 110 * 2**20, "of the largest, and not of the runner that started it"


def test_what_was_used_is_known_also_of_one_that_is_killed_but_not_without_its_guard(start: Callable[[str], Process]) -> None:
    process = start(f"{sys.executable} -c 'while True: pass'")
    wait_for(lambda: process.cpu_s() > 0.2)
    process.kill()
    assert process.wait(10) == 137 and process.used is not None and process.used.cpu_s > 0.2
    process = start("sleep 60")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == 137 and process.used is None


def test_memory_is_that_of_the_whole_tree(start: Callable[[str], Process], tmp_path: Path) -> None:
    hold = f"{sys.executable} -c \"b = bytearray(80 * 2**20); open('up', 'w').write('1'); import time; time.sleep(60)\"; true"
    process = start(hold)
    pid_in(tmp_path / "up")
    assert 80 * 2**20 < process.memory_bytes() < 200 * 2**20
    process.kill()
    assert process.wait(10) == 137
