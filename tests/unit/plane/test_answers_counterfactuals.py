"""What would start a waiting job now: each change that is told is then really submitted, in place of the job."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable

import pytest

from fabric.job import JobSpec, Shape
from fabric.job_answers import COUNTERFACTUAL_KEYS, render_job_explanation
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.preemption import LEAVE_S
from tests.answers_world import Plane, snapshot
from tests.jobs import CPU, T4, estimate, machine, spec

TWO_QUEUES = (QueuePolicy("research", nominal={"a100-80g": 4}), QueuePolicy("batch", nominal={"a100-80g": 4}))
TWO_CLASSES = (PriorityClass("batch"), PriorityClass("production", value=10))


def world(mine: JobSpec, *others: JobSpec, policy: Policy | None = None) -> Plane:
    """Two A100 nodes, one of T4, one without; the others run, then `mine` is submitted."""
    plane = Plane(machine("a1"), machine("a2"), machine("t1", T4), machine("c1", CPU), policy=policy or Policy())
    plane.submit_and_start(*others, run_s=3600.0)
    plane.submit_and_start(mine, run_s=600.0)
    return plane


def changed(job: JobSpec, words: str) -> JobSpec:
    """The request that the words of a counterfactual describe."""
    if found := re.fullmatch(r"on tier=(\w+)", words):
        shapes = tuple(dataclasses.replace(shape, selector=found[1]) for shape in job.shapes)
    elif found := re.fullmatch(r"if it asks for ≤ (\d+) GB", words):
        shapes = tuple(dataclasses.replace(shape, memory_bytes=int(found[1]) * 10**9) for shape in job.shapes)
    elif found := re.fullmatch(r"if it asks for ≤ (\d+) CPUs?", words):
        shapes = tuple(dataclasses.replace(shape, cpus=float(found[1])) for shape in job.shapes)
    elif found := re.fullmatch(r"with (\d+) GPUs? instead of \d+", words):
        shapes = tuple(dataclasses.replace(shape, accelerators=int(found[1])) for shape in job.shapes)
    elif found := re.fullmatch(r"with (\d+) (?:nodes?|process|processes) instead of \d+", words):
        shapes = tuple(dataclasses.replace(shape, num_bundles=int(found[1])) for shape in job.shapes)
    elif found := re.fullmatch(r"in queue (\w+)", words):
        return dataclasses.replace(job, queue=found[1])
    elif found := re.fullmatch(r"with class (\w+)", words):
        return dataclasses.replace(job, priority=found[1])
    elif words.startswith("if it does not come after"):
        return dataclasses.replace(job, after=())
    elif words == "without its budget":
        return dataclasses.replace(job, budget_usd=None)
    else:
        raise AssertionError(f"unknown words: {words}")
    return dataclasses.replace(job, shapes=shapes)


def told_and_true(build: Callable[[JobSpec], Plane], mine: JobSpec) -> list[str]:
    """The changes that are told of `mine`; each, submitted in its place, starts when it was told to."""
    plane = build(mine)
    before = snapshot(plane.core)
    rows = plane.explain("mine")["counterfactuals"]
    assert snapshot(plane.core) == before
    for row in rows:
        assert set(row) == COUNTERFACTUAL_KEYS
        other = build(changed(mine, row["change"]))
        if row["start_s"] < 1.0:
            assert "mine" in other.started(), row
        else:
            assert "waits for" in other.core.jobs["mine"].detail or other.why("mine") == "Resources", row
            assert any(job.is_leaving for job in other.core.jobs.values()), row
    return [row["change"] for row in rows]


A100 = "a100-80g"
FULL = [spec(f"other-{n}", Shape(A100, accelerators=3, memory_bytes=int(40e9)), user="bob") for n in range(2)]
CASES = [
    (Shape(A100, accelerators=4), {}, ["on tier=warm", "with 1 GPU instead of 4"]),
    (Shape(A100, accelerators=1, memory_bytes=int(60e9)), {}, ["on tier=warm", "if it asks for ≤ 24 GB"]),
    (Shape(A100, accelerators=1, cpus=16.0), {}, ["on tier=warm", "if it asks for ≤ 15 CPUs"]),
    (Shape(A100, accelerators=1, num_bundles=3), {}, ["on tier=warm", "with 2 processes instead of 3"]),
    (Shape(A100, accelerators=4), {"policy": Policy(queues=(QueuePolicy("default"),), classes=TWO_CLASSES)}, ["with class production"]),
]


@pytest.mark.parametrize(("shape", "options", "expected"), CASES)
def test_what_is_told_is_true(shape: Shape, options: dict, expected: list[str]):
    told = told_and_true(lambda mine: world(mine, *FULL, **options), spec("mine", shape, submitted_s=1.0))
    assert set(expected) <= set(told)


def test_another_queue_with_quota_left_is_told():
    others = [spec(f"other-{n}", Shape(A100, accelerators=2), queue="research") for n in range(2)]
    mine = spec("mine", Shape(A100, accelerators=2), queue="research", submitted_s=1.0)
    told = told_and_true(lambda job: world(job, *others, policy=Policy(queues=TWO_QUEUES)), mine)
    assert "in queue batch" in told
    assert "with 1 GPU instead of 2" not in told


def test_a_dependency_and_a_budget_are_told():
    prep = spec("prep", Shape(A100, accelerators=1))
    told = told_and_true(lambda job: world(job, prep), spec("mine", Shape(A100, accelerators=1), after=("prep",), submitted_s=1.0))
    assert "if it does not come after prep" in told
    told = told_and_true(world, spec("mine", Shape(A100, accelerators=1), budget_usd=0.01, submitted_s=1.0))
    assert "without its budget" in told


def test_a_class_that_has_to_preempt_starts_once_others_have_left():
    policy = Policy(queues=(QueuePolicy("default"),), classes=TWO_CLASSES)
    plane = world(spec("mine", Shape(A100, accelerators=4), submitted_s=1.0), *FULL, policy=policy)
    assert plane.changes("mine")["with class production"]["start_s"] == LEAVE_S


def test_nothing_is_told_where_nothing_helps():
    plane = Plane(machine("a1"))
    plane.submit_and_start(spec("other", Shape(A100, accelerators=4)), run_s=600.0)
    plane.submit(spec("mine", Shape(A100, accelerators=2)), run_s=600.0)
    assert plane.changes("mine") == {}


def test_deltas_are_against_what_is_expected_now():
    """An A100 would be free in 3,660 s and costs ten times a T4."""
    plane = world(spec("mine", Shape(A100, accelerators=4), submitted_s=1.0), *FULL)
    row = plane.explain("mine", estimate_of=lambda job: estimate(600.0 if job.shapes[0].selector == A100 else 1200.0))["counterfactuals"][0]
    assert row["change"] == "on tier=warm"
    assert row["finish_delta_s"] == pytest.approx(1260.0 - (3660.0 + 660.0))
    assert row["cost_delta_usd"] == pytest.approx(1260.0 * 4 * 0.36 / 3600 - 660.0 * 4 * 3.6 / 3600)
    form = plane.explain("mine", estimate_of=lambda job: estimate(1200.0))
    assert "starts now on tier=warm: −" in render_job_explanation(form)


@pytest.mark.parametrize("seed", range(12))
def test_in_any_fabric_only_what_is_true_is_told(seed: int):
    rng = random.Random(seed)

    def shape() -> Shape:
        return Shape(
            rng.choice((A100, "t4", "any")),
            accelerators=rng.choice((1, 2, 3, 4)),
            cpus=rng.choice((1.0, 4.0, 12.0)),
            memory_bytes=rng.choice((0, 10, 30, 50)) * 10**9,
            num_bundles=rng.choice((1, 1, 2)),
        )

    policy = Policy(queues=TWO_QUEUES, classes=TWO_CLASSES) if seed % 2 else Policy(queues=(QueuePolicy("research"), QueuePolicy("batch")))
    others = [spec(f"other-{n}", shape(), queue=rng.choice(("research", "batch")), submitted_s=n / 100) for n in range(8)]
    told_and_true(lambda mine: world(mine, *others, policy=policy), spec("mine", shape(), queue="research", submitted_s=1.0))
