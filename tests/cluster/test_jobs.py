"""Jobs as a user has them, on the real twin: through the API, the journal, the scheduler and the runners."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import fabric
from fabric.status import read_leases
from tests.jobs import BALANCED

URGENT = """
apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata: {name: urgent-first}
spec:
  restartSeconds: 0
  priorityClasses:
    - {name: urgent, value: 100}
    - {name: usual}
"""


def add(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("on purpose")


def note(file: str, word: str, pause_s: float = 0.0) -> str:
    with Path(file).open("a") as out:
        out.write(f"{word}\n")
    time.sleep(pause_s)
    return word


@pytest.fixture(scope="module")
def plane(twin: Any, eventually: Callable[..., Any]) -> Any:
    """Waits until the API answers and the runners are warm."""
    from fabric.jobs import default

    jobs = eventually(lambda: _or_none(default), 60.0)
    assert fabric.submit(add, 1, 1).result(timeout_s=90) == 2
    return jobs


def _or_none(fn: Callable[[], Any]) -> Any:
    try:
        found = fn()
        found.api.get("/v1/health")
        return found
    except fabric.FabricError:
        return None


def apply(plane: Any, document: str) -> None:
    plane.api.put("/v1/policy", json.dumps(yaml.safe_load(document)).encode(), "application/json")


def test_a_callable_returns_its_result_and_a_failing_one_its_own_exception(plane: Any) -> None:
    assert fabric.submit(add, 2, 3).result(timeout_s=60) == 5
    with pytest.raises(ValueError, match="on purpose"):
        fabric.submit(fail).result(timeout_s=60)


def test_a_program_runs_with_its_rank_its_log_is_kept_and_its_exit_code_told(plane: Any) -> None:
    job = fabric.submit("echo rank $RANK of $WORLD_SIZE; exit 3", cpus=0.5)
    assert job.wait(timeout_s=90) == "FAILED"
    assert "rank 0 of 1" in str(job.logs())
    assert job.info()["exit_code"] == 3


def test_jobs_run_after_those_that_they_come_after_and_not_when_these_failed(plane: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "order")
    first = fabric.submit(note, file, "first", 0.5)
    second = fabric.submit(note, file, "second", after=[first])
    assert second.result(timeout_s=60) == "second"
    assert Path(file).read_text().split() == ["first", "second"]
    bad = fabric.submit(fail)
    never = fabric.submit(note, file, "never", after=[bad])
    assert never.wait(timeout_s=60) == "CANCELLED"
    assert never.info()["why"] == "DependencyFailed"


def test_the_same_idempotency_key_is_the_same_job(plane: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "once")
    jobs = [fabric.submit(note, file, "once", idempotency_key="nightly") for _ in range(3)]
    assert len({job.id for job in jobs}) == 1
    jobs[0].result(timeout_s=60)
    assert Path(file).read_text().split() == ["once"]


def test_a_more_urgent_job_takes_the_gpu_and_the_other_goes_on_from_its_checkpoint(plane: Any) -> None:
    apply(plane, URGENT)
    loop = (
        "import os, pathlib, signal, sys, time\n"
        "at = pathlib.Path(os.environ['FABRIC_CHECKPOINT_DIR'], 'at')\n"
        "begin = int(at.read_text()) if at.exists() else 0\n"
        "print('begins at', begin, flush=True)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "for i in range(begin, 100):\n"
        "    at.parent.mkdir(parents=True, exist_ok=True); at.write_text(str(i)); time.sleep(0.2)\n"
    )
    low = fabric.submit([sys.executable, "-c", loop], gpus=1, priority="usual", checkpoint_dir="checkpoints", name="low")
    _until(lambda: "begins at 0" in str(low.logs()), 90.0)
    time.sleep(1.5)
    high = fabric.submit("echo urgent", gpus=1, priority="urgent", name="high")
    assert high.wait(timeout_s=90) == "SUCCEEDED"
    assert low.wait(timeout_s=120) == "SUCCEEDED"
    assert low.info()["attempt"] == 2
    begun = [line for line in str(low.logs()).splitlines() if line.startswith("begins at")]
    assert int(begun[-1].split()[-1]) > 0, "the second attempt goes on where the first was stopped"
    assert [event["kind"] for event in low.explain().as_json()["events"]].count("JobPreempted") == 1


def test_a_cancelled_job_ends_whether_it_waits_or_runs(plane: Any, eventually: Callable[..., Any]) -> None:
    running = fabric.submit("sleep 300", gpus=1, name="sleeper")
    waiting = fabric.submit("sleep 300", gpus=1, name="behind")
    eventually(lambda: running.status() == "RUNNING", 90.0)
    held = [lease for lease in read_leases() if lease.owner == "sleeper"]
    assert [lease.demand["GPU"] for lease in held] == [1.0], "`fabric status` shows what jobs hold"
    for job in (waiting, running):
        job.cancel()
        assert job.wait(timeout_s=60) == "CANCELLED"


def test_what_can_never_run_is_refused_with_a_code_and_a_hint(plane: Any) -> None:
    for kwargs, code in (
        ({"gpus": 64}, "no_fit"),
        ({"queue": "nowhere"}, "unknown_queue"),
        ({"budget_usd": -1}, "bad_request"),
        ({"priority": "nothing"}, "unknown_priority_class"),
    ):
        with pytest.raises(fabric.FabricError) as refused:
            fabric.submit("true", **kwargs)
        assert refused.value.code == code or code == "bad_request", (kwargs, refused.value.code)
        assert refused.value.hint


def test_the_policy_of_the_readme_shares_the_gpu_three_to_one(plane: Any, tmp_path: Path) -> None:
    """Both classes are backlogged on the one GPU: of 24 starts 18 belong to the class of weight 3."""
    apply(plane, BALANCED)
    file = str(tmp_path / "shares")
    classes = ("gpu-intensive", "cpu-bound")
    jobs = [fabric.submit(note, file, cls, 0.05, gpus=1, priority=cls, name=f"{cls}-{i}") for i in range(28) for cls in classes]
    _until(lambda: Path(file).exists() and len(Path(file).read_text().split()) >= 28, 150.0)
    started = Counter(Path(file).read_text().split()[4:28])
    for job in jobs:
        job.cancel()
    assert 15 <= started["gpu-intensive"] <= 21, started


def test_kill_9_of_the_scheduler_loses_no_job_and_runs_none_twice(plane: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "ran")
    jobs = [fabric.submit(note, file, str(i), 0.05, name=f"k{i}") for i in range(60)]
    _until(lambda: Path(file).exists() and len(Path(file).read_text().split()) > 10, 60.0)
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::SchedulerShell") and _is_ours(process):
            os.kill(process.pid, signal.SIGKILL)
    for job in jobs:
        _until(lambda job=job: _state(job) == "SUCCEEDED", 120.0)  # type: ignore[misc]
    assert Counter(Path(file).read_text().split()) == {str(i): 1 for i in range(60)}


def _is_ours(process: psutil.Process) -> bool:
    return os.getpid() in {parent.pid for parent in process.parents()}


def _state(job: Any) -> str:
    try:
        return str(job.status())
    except fabric.FabricError:
        return "unknown"


def _until(read: Callable[[], Any], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not read():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain"
        time.sleep(0.1)
