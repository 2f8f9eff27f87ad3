"""What nobody waits for goes last while a head comes back, and gets its share again after that: with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.machines.manners import Manners

SLEEP = (
    "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print('up', flush=True); time.sleep(60)"
)


@pytest.fixture
def processes() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """By a word in its title: one of Ray's extras, and one that runs jobs. Both with two threads."""
    made = {
        word: subprocess.Popen([sys.executable, "-c", SLEEP, word], stdout=subprocess.PIPE, text=True) for word in ("log_monitor.py", "job")
    }
    for process in made.values():
        assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield made
    for process in made.values():
        process.kill()
        process.communicate()


def policies(process: subprocess.Popen[str]) -> set[int]:
    return {os.sched_getscheduler(int(thread)) for thread in (each.name for each in Path(f"/proc/{process.pid}/task").iterdir())}


def test_extras_wait_and_get_their_share_again(processes: dict[str, subprocess.Popen[str]]) -> None:
    manners = Manners()
    manners._can_give_back = True
    manners.look()
    assert policies(processes["log_monitor.py"]) == {os.SCHED_IDLE} and policies(processes["job"]) == {os.SCHED_OTHER}
    manners.end()
    if os.geteuid() == 0:
        assert policies(processes["log_monitor.py"]) == {os.SCHED_OTHER}
    manners.look()
    assert policies(processes["job"]) == {os.SCHED_OTHER}, "it is over"


def test_what_could_not_be_given_back_is_not_taken(processes: dict[str, subprocess.Popen[str]]) -> None:
    manners = Manners()
    manners._can_give_back = False
    manners.look()
    extra = processes["log_monitor.py"]
    assert policies(extra) == {os.SCHED_OTHER} and os.getpriority(os.PRIO_PROCESS, extra.pid) == 10
    assert os.getpriority(os.PRIO_PROCESS, processes["job"].pid) == 0


def test_one_that_has_ended_is_passed_over(processes: dict[str, subprocess.Popen[str]]) -> None:
    manners = Manners()
    manners.look()
    processes["log_monitor.py"].kill()
    processes["log_monitor.py"].wait()
    manners.end()
