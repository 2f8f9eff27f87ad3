"""Jobs whose memory is for their family's history to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fabric.api.intake import Intake
from fabric.api.port import Submission
from fabric.api.schema import SubmitRequest
from fabric.api.tokens import Principal
from fabric.job import JobSpec, Shape
from fabric.states import JobState
from profiler.families import Families
from tests.jobs import CATALOGUE, spec
from tests.local_plane import UNTIL_S, LocalPlane, a_plane

GIB = 2**30
COMMAND = """python -S -c "import time; held = bytearray(400 << 20); held[::4096] = b'1' * len(held[::4096]); time.sleep(0.5)\""""


def ask(local: LocalPlane, **more: Any) -> Submission:
    request = SubmitRequest.model_validate({"command": COMMAND, "resources": "auto", "family": "crunch", "name": "crunch", **more})
    who = Principal("ann", frozenset({"submit"}))
    [[made]] = Intake(who, local.plane.catalogue, local.plane.clock.now_s(), lambda _: []).read([request])
    return made


def run(local: LocalPlane) -> JobSpec:
    job_id = local.plane.submit([ask(local)], "ann")[0]
    job = local.plane.core.jobs[job_id]
    with local.plane.driver.changed:
        assert local.plane.driver.changed.wait_for(lambda: job.state is JobState.SUCCEEDED, UNTIL_S), job
    return job.spec


def test_an_unknown_family_is_probed_and_a_known_one_is_sized_by_its_p95(tmp_path: Path) -> None:
    with a_plane(tmp_path) as local:
        first = run(local)
        assert {shape.memory_bytes for shape in first.shapes} == {32 * GIB}, "half of the smallest node"
        assert first.memory_sum == "probe, nothing is known of its need: 34 GB"
        assert any("memory: probe" in event["text"] for event in local.plane.explain(first.job_id)["events"])
        run(local)
        third = run(local)
        assert any(0.3 * GIB < shape.memory_bytes < 2 * GIB for shape in third.shapes)
        assert "p95 of 2 runs: " in third.memory_sum


def test_after_an_oom_the_next_of_the_family_asks_for_more() -> None:
    families, mine = Families(CATALOGUE), spec("a", Shape("a100-80g", 1, memory_bytes=10 * GIB), family="train")
    families.learn_memory(mine, 0, 11 * GIB, is_oom=True)
    sized = families.sized(mine, lambda _: (16 * GIB, 64 * GIB))
    assert sized.shapes[0].memory_bytes == 22 * GIB
    assert "one ran out of memory" in sized.memory_sum
    assert families.sized(mine, lambda _: (0, 0)) == mine, "no node is known"


def test_what_says_its_memory_or_runs_tasks_of_its_own_is_left_alone(tmp_path: Path) -> None:
    with a_plane(tmp_path, runs=False) as local:
        assert not ask(local, memory="4GiB").is_auto
        assert not ask(local, form="ray-program").is_auto
        planned = local.plane.plan(ask(local))
        assert "memory: probe" in planned["job"]["asks"]
