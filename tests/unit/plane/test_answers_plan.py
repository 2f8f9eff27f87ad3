"""What a plan says before anything runs, what is refused for good, who has used what, and how a story reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fabric import codec
from fabric.errors import NoFitError, RejectedError
from fabric.job import Grant, JobEstimate, JobId, JobSpec, Option, Shape
from fabric.job_answers import EVENT_KEYS, PLAN_KEYS, WAY_KEYS, render_plan
from fabric.job_events import JobClosed, JobDispatched, JobEnded, JobPreempted, JobReprioritised, JobStarted, JobSubmitted
from fabric.plane import answers
from fabric.plane.event_text import event_rows
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.usage_form import ROW_KEYS
from tests.answers_world import NO_TWINS, Plane, snapshot
from tests.jobs import CPU, T4, machine, spec

A100 = "a100-80g"
FASTER = JobEstimate(1.0, {(0, A100): 1 / 600, (0, "t4"): 1 / 1200}, 0.2)


def planned(plane: Plane, mine: JobSpec, estimate: JobEstimate = FASTER) -> dict[str, Any]:
    before = snapshot(plane.core)
    form = answers.plan(plane.core, mine, estimate, {"asks": "any:1"}, NO_TWINS, plane.now_s)
    assert snapshot(plane.core) == before
    assert set(form) == PLAN_KEYS
    assert all(set(way) == WAY_KEYS for way in form["ways"])
    return form


def a_fabric(**options: Any) -> Plane:
    return Plane(machine("a1"), machine("t1", T4), machine("c1", CPU), **options)


def test_on_an_empty_fabric_what_ends_first_is_chosen():
    form = planned(a_fabric(), spec("mine", Shape("gpu", accelerators=1)))
    assert [(way["flavor"], way["wait_s"], way["run_s"], way["verdict"]) for way in form["ways"]] == [
        (A100, 0.0, pytest.approx(660.0), "Fit"),
        ("t4", 0.0, pytest.approx(1260.0), "Fit"),
    ]
    assert (form["chosen"], form["reason"]) == (0, "EndsFirst")
    assert form["ways"][0]["cost_usd"] == pytest.approx(0.66)
    assert "chosen: a100-80g:1, starts now" in render_plan(form)


def test_where_the_best_is_full_the_row_says_how_long_it_would_wait_and_what_it_would_have_saved():
    plane = a_fabric()
    plane.submit_and_start(spec("other", Shape(A100, accelerators=4)), run_s=300.0)
    form = planned(plane, spec("mine", Shape("gpu", accelerators=1)))
    ways = {way["flavor"]: way for way in form["ways"]}
    assert form["ways"][form["chosen"]]["flavor"] == "t4"
    assert ways[A100]["wait_s"] == pytest.approx(360.0)
    assert (ways[A100]["verdict"], ways[A100]["reason"]) == ("NoFit", "Resources")
    assert (form["reason"], form["detail"]) == ("RoomFirst", "it has room first; a100-80g would end 4 m 0 s sooner")
    plane.submit_and_start(dataclasses.replace(spec("mine", Shape("gpu", accelerators=1))), run_s=600.0)
    assert plane.launched[-1].grant.option.flavor == "t4"


def test_a_class_that_prefers_nodes_is_the_reason():
    policy = Policy(classes=(PriorityClass("thrifty", selectors=("warm",)),))
    form = planned(a_fabric(policy=policy), spec("mine", Shape("gpu", accelerators=1)))
    assert form["ways"][form["chosen"]]["flavor"] == "t4"
    assert (form["reason"], form["detail"]) == ("Preferred", "class thrifty prefers t4")


def test_a_strict_class_rules_the_others_out():
    policy = Policy(classes=(PriorityClass("thrifty", selectors=("warm",)),), fallback="strict")
    form = planned(a_fabric(policy=policy), spec("mine", Shape("gpu", accelerators=1)))
    ruled_out = next(way for way in form["ways"] if way["flavor"] == A100)
    assert (ruled_out["verdict"], ruled_out["reason"], ruled_out["finish_s"]) == ("NoFit", "BadConstraints", None)
    assert form["reason"] == "OnlyFit"


def test_a_way_that_needs_others_to_leave_is_a_preemption():
    policy = Policy(classes=(PriorityClass("batch"), PriorityClass("production", value=10)))
    plane = Plane(machine("a1"), policy=policy)
    plane.submit_and_start(spec("other", Shape(A100, accelerators=4)), run_s=36000.0)
    form = planned(plane, spec("mine", Shape(A100, accelerators=2), priority="production"))
    assert form["ways"][0]["verdict"] == "Preempt"
    assert form["ways"][0]["wait_s"] < 60.0


def test_a_deadline_that_will_be_missed_is_said():
    form = planned(a_fabric(), spec("mine", Shape(A100, accelerators=1), deadline_s=300.0))
    assert form["ways"][0]["detail"] == "misses its deadline by 6 m 0 s"
    form = planned(a_fabric(), spec("mine", Shape(A100, accelerators=1), deadline_s=700.0))
    assert form["ways"][0]["detail"] == "may miss its deadline"


def test_a_budget_that_is_too_small_leaves_nothing_to_choose():
    form = planned(a_fabric(), spec("mine", Shape(A100, accelerators=1), budget_usd=0.1))
    assert (form["chosen"], form["ways"][0]["reason"]) == (None, "BudgetExceeded")
    assert "cannot start" in render_plan(form)


def test_with_few_jobs_the_optimiser_is_asked_as_the_core_would_ask_it():
    form = planned(a_fabric(is_planning=True), spec("mine", Shape("gpu", accelerators=1)))
    assert form["ways"][form["chosen"]]["flavor"] == A100


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape("gpu", accelerators=128), "needs 128 GPU on one node, the largest has 4"),
        (Shape(A100, accelerators=2, num_bundles=2, spread=True), "needs 2 nodes with 1 CPU and 2 GPU, and there is room for 1"),
        (Shape("", memory_bytes=10**12), "needs 931 GiB memory on one node, the largest has 59.6 GiB"),
    ],
)
def test_what_no_nodes_can_ever_hold_is_refused_with_what_each_tier_is_short_of(shape: Shape, words: str):
    with pytest.raises(NoFitError) as caught:
        answers.check_fits(a_fabric().core, spec("mine", shape))
    assert (caught.value.code, caught.value.retryable) == ("no_fit", False)
    assert words in caught.value.message
    assert caught.value.shortfalls[0][0] in ("hot", "cold")


def test_a_cordoned_node_may_come_back():
    plane = Plane(machine("a1", health="cordoned"), machine("c1", CPU))
    with pytest.raises(NoFitError) as caught:
        answers.check_fits(plane.core, spec("mine", Shape(A100, accelerators=1)))
    assert caught.value.retryable
    assert "1 cordoned or draining" in caught.value.message


def test_more_than_a_queue_may_ever_hold_is_refused_and_what_others_hold_now_is_not():
    queues = (
        QueuePolicy("small", cohort="all", nominal={A100: 1}, borrowing_limit={A100: 1}),
        QueuePolicy("large", cohort="all", nominal={A100: 3}),
    )
    plane = a_fabric(policy=Policy(queues=queues))
    plane.submit_and_start(spec("other", Shape(A100, accelerators=3), queue="large"), run_s=60.0)
    answers.check_fits(plane.core, spec("mine", Shape(A100, accelerators=2), queue="small"))
    with pytest.raises(RejectedError) as caught:
        answers.check_fits(plane.core, spec("mine", Shape(A100, accelerators=3), queue="small"))
    assert (caught.value.code, caught.value.hint) == ("quota_too_small", "ask for less, or use another queue: large")
    assert "nominalQuota a100-80g 1 + borrowingLimit 1" in caught.value.message


def test_hours_of_accelerators_and_of_cpus_are_told_apart():
    plane = a_fabric()
    for name in ("gpu", "cpu"):
        plane.submit_and_start(spec(name, Shape(A100, accelerators=2) if name == "gpu" else Shape("cpu", cpus=4.0)), run_s=3600.0)
    plane.tell(JobEnded(JobId("cpu"), 1, "ok"), at_s=1800.0)
    (ann,) = answers.usage_rows(plane.core, "user", 3600.0)
    assert (ann["accelerator_hours"], ann["vcpu_hours"]) == (pytest.approx(2.0), pytest.approx(2.0))


def test_usage_counts_what_ran_and_what_runs():
    queues = (QueuePolicy("research", weight=2.0, budget_usd=100.0), QueuePolicy("idle"))
    plane = a_fabric(policy=Policy(queues=queues))
    first = spec("first", Shape(A100, accelerators=2), queue="research")
    plane.submit_and_start(first, run_s=3600.0)
    plane.tell(JobEnded(first.job_id, 1, "ok"), at_s=3600.0)
    plane.submit_and_start(spec("second", Shape("t4", accelerators=1), queue="research", user="bob"), run_s=3600.0)
    plane.submit(spec("third", Shape("t4", accelerators=4), queue="research", user="bob"), run_s=3600.0)
    rows = {row["name"]: row for row in answers.usage_rows(plane.core, "user", 7200.0)}
    assert all(set(row) == set(ROW_KEYS) for row in rows.values())
    ann, bob = rows["ann"], rows["bob"]
    assert (ann["pending"], ann["running"], ann["ended"], ann["units"], ann["accelerator_hours"]) == (0, 0, 1, 0.0, pytest.approx(2.0))
    assert (bob["pending"], bob["running"], bob["ended"], bob["units"], bob["accelerator_hours"]) == (1, 1, 0, 1.0, pytest.approx(1.0))
    assert ann["vcpu_hours"] == bob["vcpu_hours"] == 0.0
    assert (ann["cost_usd"], bob["cost_usd"]) == (pytest.approx(7.2), pytest.approx(0.36))
    assert ann["share_frac"] == pytest.approx(7.2 / 7.56)
    queues_used = {row["name"]: row for row in answers.usage_rows(plane.core, "queue", 7200.0)}
    assert queues_used["research"]["share_frac"] == pytest.approx(1.0)
    assert (queues_used["research"]["weight"], queues_used["research"]["budget_usd"]) == (2.0, 100.0)
    assert queues_used["research"]["budget_left_usd"] == pytest.approx(100.0 - 7.56, abs=0.2)
    assert queues_used["idle"]["ended"] == 0


def test_a_story_reads_as_sentences():
    one, grant = spec("train", after=("prep",)), Grant(Option(0, A100, 2, 4.0, 1.0), ("a1", "a2"))
    facts = [
        JobSubmitted(one, "ann"),
        JobDispatched(one.job_id, 1, grant, "Fit"),
        JobStarted(one.job_id, 1),
        JobReprioritised(one.job_id, "low", "ann"),
        JobReprioritised(one.job_id, "", "ops"),
        JobPreempted(one.job_id, 1, "Preempted", "other"),
        JobEnded(one.job_id, 1, "error", "", 3),
        JobClosed(one.job_id, "CANCELLED", "Cancelled", "by ann"),
    ]
    story = [
        {"seq": n, "wall_s": float(n), "kind": type(fact).__name__, "by": "fabric", "body": codec.loads(codec.dumps(fact))}
        for n, fact in enumerate(facts)
    ]
    rows = event_rows(story, lambda job_id: f"job {job_id}")
    assert all(set(row) == EVENT_KEYS for row in rows)
    assert [row["text"] for row in rows] == [
        "submitted by ann to default, after job prep",
        "attempt 1 gets a100-80g:2x2 on a1, a2 (Fit)",
        "attempt 1 runs",
        "class set to low by ann",
        "class left to the policy by ops",
        "attempt 1 told to leave for job other",
        "attempt 1 failed: exit 3",
        "closed as cancelled: by ann",
    ]
