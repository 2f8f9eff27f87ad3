"""kill -9 of every part of a running fabric, its head included, in the middle of many jobs: nothing lost, nothing alive twice."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

NUM_JOBS = 160
PARTS = (("ray::Host", "ray::n"), ("ray::PoolShell",), ("ray::SchedulerShell",), ("",))
"""Titles of processes. A runner has that of the call that it runs: here, of a job. The last is everything, the head included."""
SUBMIT = """
import json, sys
import cloudpickle
import fabric
from fabric.jobs import job
import work
cloudpickle.register_pickle_by_value(work)
ids = fabric.submit_many([job(work.note, sys.argv[1], number, cpus=0.5, name=f"n{number}") for number in range(int(sys.argv[2]))])
print(json.dumps([one.id for one in ids]))
"""
WORK = '''
import os, pathlib, time


def note(folder, number):
    """Each attempt notes its begin and its end, and an earlier one that has not ended and is still alive."""
    notes = pathlib.Path(folder, str(number))
    words = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    ended = {pid for word, pid in words if word == "end"}
    with notes.open("a") as out:
        for word, pid in words:
            if word == "begin" and pid not in ended and pathlib.Path("/proc", pid).exists():
                out.write(f"twice {pid}\\n")
        out.write(f"begin {os.getpid()}\\n")
        out.flush()
        time.sleep(0.1)
        out.write(f"end {os.getpid()}\\n")
'''


class Drill:
    """A fabric of its own in `folder`, and what its jobs noted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, folder / "notes"
        self.notes.mkdir()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
        self.env |= {"FABRIC_STATE_DIR": str(folder / "state"), "FABRIC_DASHBOARD__ENABLED": "false", "PYTHONPATH": str(folder)}
        (folder / "work.py").write_text(WORK)

    def fabric(self, *args: str) -> str:
        return self.run("-m", "fabric.cli.main", *args)

    def run(self, *args: str) -> str:
        command = [sys.executable, *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=self.env, cwd=self.folder)
        assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def num_ended(self) -> int:
        return sum("end" in notes.read_text() for notes in self.notes.iterdir())

    def kill(self, titles: tuple[str, ...]) -> int:
        """SIGKILL to all of this fabric's processes whose command line begins with one of these; how many there were."""
        mine = [process for process in self._processes() if " ".join(_cmdline(process)).startswith(titles)]
        for process in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return len(mine)

    def _processes(self) -> Iterator[psutil.Process]:
        """The twin with everything below it: Ray gives its processes titles in place of their environment."""
        for process in psutil.process_iter():
            if "fabric.twin_process" in _cmdline(process) and str(self.folder) in str(_environment(process)):
                yield from process.children(recursive=True)
                yield process


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def until(read: Callable[[], Any], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not read():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.2)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    made = Drill(tmp_path)
    made.fabric("up")
    yield made
    made.fabric("down")


@pytest.mark.timeout(600)
def test_kill_9_of_every_part_in_the_middle_of_many_jobs_loses_none_and_has_none_alive_twice(drill: Drill) -> None:
    ids = json.loads(drill.run("-c", SUBMIT, str(drill.notes), str(NUM_JOBS)))
    for number, titles in enumerate(PARTS):
        until(lambda number=number: drill.num_ended() >= (number + 1) * NUM_JOBS // 6, 120.0, f"work before the kill of {titles}")
        until(lambda titles=titles: drill.kill(titles) > 0, 10.0, f"one of {titles} to kill")
    drill.fabric("up")
    until(lambda: drill.num_ended() == NUM_JOBS, 240.0, "all jobs")

    def states() -> list[str]:
        return [job["state"] for job in json.loads(drill.fabric("queue", "--all", "-o", "json"))["jobs"] if job["id"] in ids]

    until(lambda: states() == ["SUCCEEDED"] * NUM_JOBS, 60.0, "all jobs as succeeded")
    assert not [notes.name for notes in drill.notes.iterdir() if "twice" in notes.read_text()]
