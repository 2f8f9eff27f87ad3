"""Why a job waits, who is ahead, when it starts: against what the core then does."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from fabric import codec
from fabric.job import Grant, JobEstimate, JobId, JobSpec, Option, Shape
from fabric.job_answers import AHEAD_KEYS, EXPLAINED_WAY_KEYS, EXPLANATION_KEYS, render_job_explanation
from fabric.job_events import JobDispatched, JobEnded, JobEstimated, JobSubmitted
from fabric.plane import answers
from fabric.plane.looking_back import ways_then
from fabric.plane.views import Aside, view_of
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Core
from fabric.sim.engine import SimJob, Simulation
from fabric.types import Estimate
from tests.answers_world import NO_TWINS, Plane, snapshot
from tests.jobs import CATALOGUE, CPU, T4, estimate, machine, spec

A100X2, A100X4 = Shape("a100-80g", accelerators=2), Shape("a100-80g", accelerators=4)
TWO_CLASSES = Policy(classes=(PriorityClass("production", value=10), PriorityClass("batch")), restart_s=60.0)


def a_busy_fabric() -> Plane:
    """One node of four A100: two jobs run there until 660 s, two wait, then `mine` wants the whole node."""
    plane = Plane(machine("n1"), machine("t1", T4, gpus=2.0))
    plane.submit_and_start(*[spec(f"job-{i}", A100X2, submitted_s=float(i), user="bob") for i in range(4)], run_s=600.0)
    plane.submit_and_start(spec("mine", A100X4, submitted_s=9.0), run_s=300.0)
    plane.tell(at_s=100.0)
    return plane


def test_it_says_who_is_ahead_with_names_owners_and_what_is_left():
    form = a_busy_fabric().explain("mine")
    assert set(form) == EXPLANATION_KEYS
    assert form["num_ahead"] == 4
    assert all(set(row) == AHEAD_KEYS for row in form["ahead"])
    rows = [(row["name"], row["user"], row["state"], row["remaining_s"]) for row in form["ahead"]]
    assert rows == [
        ("job-0", "bob", "RUNNING", 560.0),
        ("job-1", "bob", "RUNNING", 560.0),
        ("job-2", "bob", "PENDING", 660.0),
        ("job-3", "bob", "PENDING", 660.0),
    ]


def test_it_waits_for_two_rounds_of_others_and_starts_when_the_second_ends():
    form = a_busy_fabric().explain("mine")
    assert form["expected_start_s"] == pytest.approx(1320.0)
    assert form["expected_start_low_s"] <= 1320.0 <= form["expected_start_high_s"]
    (way,) = form["ways"]
    assert set(way) == EXPLAINED_WAY_KEYS
    assert (way["flavor"], way["wait_s"], way["finish_s"]) == ("a100-80g", pytest.approx(1220.0), pytest.approx(1580.0))
    assert (way["verdict"], way["reason"], way["detail"]) == ("NoFit", "Resources", "a100-80g: 0 free, 4 wanted")


def test_it_reads_well():
    text = render_job_explanation(a_busy_fabric().explain("mine"))
    assert "mine (mine): PENDING, Resources" in text
    assert "expected start: in 20 m 20 s" in text
    assert "job-3" in text


def test_a_job_that_runs_has_its_place_first_and_nobody_ahead():
    form = a_busy_fabric().explain("job-0")
    assert (form["num_ahead"], form["expected_start_s"], form["counterfactuals"]) == (0, None, [])
    assert (form["ways"][0]["flavor"], form["ways"][0]["finish_s"]) == ("a100-80g", 560.0)


def fact(kind: str, **body: Any) -> dict[str, Any]:
    return {"seq": 1, "wall_s": 1.0, "kind": kind, "by": "fabric", "body": body}


def an_ended_job() -> Plane:
    plane = Plane(machine("n1"), machine("t1", T4, gpus=4.0))
    plane.submit_and_start(spec("mine", Shape(accelerators=2)), run_s=300.0)
    launch = plane.launched[0]
    plane.tell(JobEnded(launch.job_id, launch.attempt, "ok"), at_s=310.0)
    return plane


def given(flavor: str, run_s: float) -> dict[str, Any]:
    grant = Grant(Option(0, flavor, 1, 2.0, 1 / run_s), ("n1",))
    return fact("JobDispatched", **codec.encode(JobDispatched(JobId("mine"), 1, grant, "Fit")))


def says_now(_spec: JobSpec) -> JobEstimate:
    return JobEstimate(1.0, {(0, "a100-80g"): 1 / 320.0, (0, "t4"): 1 / 1600.0}, 0.3)


def test_a_job_that_has_ended_has_what_was_predicted_of_its_way_when_it_was_given_and_of_the_others_what_is_now():
    plane = an_ended_job()
    story = [fact("JobSubmitted"), given("a100-80g", 400.0), given("a100-80g", 5.0), fact("JobEnded")]
    ways = plane.explain("mine", story, estimate_of=says_now)["ways"]
    assert all(set(way) == EXPLAINED_WAY_KEYS for way in ways)
    restart_s = plane.core.book.policy.restart_s
    assert {way["flavor"]: way["run_s"] for way in ways} == pytest.approx({"a100-80g": 400.0 + restart_s, "t4": 1600.0 + restart_s})
    assert {way["flavor"]: way["run_log_sd"] for way in ways} == {"a100-80g": None, "t4": 0.3}
    assert {(way["wait_s"], way["finish_s"], way["verdict"], way["measured"]) for way in ways} == {(None, None, "Fit", None)}
    assert all(way["cost_usd"] > 0 for way in ways)


def test_the_flavor_that_an_ended_job_had_comes_first():
    plane = an_ended_job()
    for taken in ("t4", "a100-80g"):
        story = [given("a100-80g", 400.0)]
        rows = ways_then(plane.core, plane.core.jobs[JobId("mine")], taken, story, NO_TWINS, says_now(spec("mine")))
        assert next(row["flavor"] for row in rows) == taken


def test_what_the_family_took_stands_beside_each_way():
    asked = []

    def measured_of(spec, shape, flavor, num_bundles):
        asked.append((spec.job_id, shape, flavor, num_bundles))
        return Estimate(250.0, 0.1, 3)

    plane = a_busy_fabric()
    form = plane.explain("mine", measured_of=measured_of)
    assert asked == [("mine", 0, "a100-80g", 1)]
    assert form["ways"][0]["measured"] == {"runs": 3, "run_s": plane.core.book.policy.restart_s + 250.0, "run_log_sd": 0.1}
    assert a_busy_fabric().explain("job-0")["ways"][0]["measured"] is None


def test_a_job_that_has_ended_has_only_its_story_where_it_was_given_nothing():
    plane = Plane(machine("n1"))
    plane.submit_and_start(spec("mine", A100X4), run_s=10.0)
    plane.tell(JobEnded(plane.launched[0].job_id, 1, "ok"), at_s=10.0)
    form = plane.explain("mine")
    assert (form["ways"], form["ahead"], form["job"]["state"]) == ([], [], "SUCCEEDED")


def test_what_it_comes_after_is_ahead_of_it():
    plane = Plane(machine("n1"))
    plane.submit_and_start(spec("prep", A100X2), run_s=600.0)
    plane.submit(spec("train", A100X2, after=("prep",)), run_s=60.0)
    form = plane.explain("train")
    assert form["job"]["why"] == "Dependency"
    assert [row["name"] for row in form["ahead"]] == ["prep"]
    assert form["expected_start_s"] == pytest.approx(660.0)


def test_nothing_is_promised_where_nothing_is_known_of_who_runs():
    plane = Plane(machine("n1"))
    plane.submit_and_start(spec("endless", A100X4))
    plane.submit(spec("mine", A100X4), run_s=60.0)
    form = plane.explain("mine")
    assert form["expected_start_s"] is None
    assert [row["remaining_s"] for row in form["ahead"]] == [None]


def test_a_quota_is_said_with_its_figures_and_who_holds_it():
    policy = Policy(queues=(QueuePolicy("research", nominal={"a100-80g": 2}), QueuePolicy("batch", nominal={"a100-80g": 2})))
    plane = Plane(machine("n1"), policy=policy)
    plane.submit_and_start(spec("first", A100X2, queue="research"), run_s=600.0)
    plane.submit(spec("mine", A100X2, queue="research"), run_s=60.0)
    form = plane.explain("mine")
    assert (form["job"]["why"], form["job"]["detail"]) == ("QuotaExhausted", "nominalQuota a100-80g 2")
    assert [row["name"] for row in form["ahead"]] == ["first"]
    assert form["expected_start_s"] == pytest.approx(660.0)


def test_the_more_is_in_doubt_of_those_ahead_the_wider_the_band():
    widths = []
    for log_sd in (0.1, 0.5):
        plane = Plane(machine("n1"), policy=Policy(restart_s=0.0))
        first, mine = spec("first", A100X4), spec("mine", A100X4)
        plane.tell(JobSubmitted(first, "ann"), JobEstimated(first.job_id, estimate(600.0, log_sd=log_sd)))
        plane.submit_and_start(mine, run_s=60.0)
        form = plane.explain("mine")
        assert form["expected_start_s"] == pytest.approx(600.0)
        assert form["expected_start_low_s"] == pytest.approx(600.0 * math.exp(-log_sd))
        assert form["expected_start_high_s"] == pytest.approx(600.0 * math.exp(log_sd))
        widths.append(form["expected_start_high_s"] - form["expected_start_low_s"])
    assert widths[1] > 4 * widths[0]


# ---- against what really happens


def a_trace(seed: int, num_jobs: int, log_sd: float) -> list[SimJob]:
    """Jobs of one to four GPUs; the estimate is wrong by `log_sd`."""
    rng = random.Random(seed)
    jobs = []
    for number in range(num_jobs):
        selector = rng.choice(("any", "any", "a100-80g", "t4"))
        shape = Shape(selector, accelerators=rng.choice((1, 1, 2, 4)))
        queue, cls = rng.choice(("research", "batch")), rng.choice(("", "", "production"))
        one = spec(f"job-{number:03d}", shape, queue=queue, priority=cls, submitted_s=rng.uniform(0, 2000.0), can_resume=True)
        run_s = rng.uniform(100.0, 4000.0)
        rates = {(0, "a100-80g"): 1.0 / run_s, (0, "t4"): 0.4 / run_s, (0, "cpu"): 0.05 / run_s}
        believed = JobEstimate(1.0, {way: rate * math.exp(rng.gauss(0.0, log_sd)) for way, rate in rates.items()}, log_sd)
        jobs.append(SimJob(one, one.submitted_s, 1.0, rates, believed))
    return jobs


POLICY = Policy(
    classes=(PriorityClass("production", weight=3.0), PriorityClass("batch")),
    queues=(QueuePolicy("research", weight=2.0), QueuePolicy("batch")),
    restart_s=30.0,
)


def simulated(seed: int, *, asked_at_s: float | None, num_jobs: int = 60, log_sd: float = 0.0) -> tuple[dict, dict[str, float], Core]:
    """Runs a trace to its end. Answers the explanations of all that waited at `asked_at_s`, and when each job first started after."""
    core = Core(CATALOGUE, POLICY, is_planning=False)
    nodes = [machine(f"a{i}") for i in range(2)] + [machine(f"t{i}", T4) for i in range(2)] + [machine("c", CPU)]
    forms: dict[str, dict] = {}
    starts: dict[str, float] = {}
    attempts: dict[str, int] = {}

    def on_time(now_s: float, _left: int) -> None:
        if asked_at_s is not None and not forms and now_s >= asked_at_s:
            before = snapshot(core)
            for job in [job for job in core.jobs.values() if job.state == "PENDING"]:
                forms[job.spec.job_id] = answers.explanation(
                    core, job, lambda each: view_of(core, each, Aside(), NO_TWINS, now_s), [], NO_TWINS, now_s
                )
                attempts[job.spec.job_id] = job.attempt
            assert snapshot(core) == before
        for job_id in forms:
            if core.jobs[job_id].attempt > attempts[job_id]:
                starts.setdefault(job_id, now_s)

    simulation = Simulation(core, a_trace(seed, num_jobs, log_sd), nodes, None, restart_s=POLICY.restart_s, on_time=on_time)
    simulation.run()
    if asked_at_s is None:
        return {}, {job_id: job.ended_s for job_id, job in core.jobs.items()}, core
    return forms, starts, core


@pytest.mark.parametrize("seed", range(3))
def test_where_nobody_comes_later_and_the_estimates_are_true_jobs_start_when_it_says(seed: int):
    forms, starts, _ = simulated(seed, asked_at_s=2001.0)
    assert len(forms) > 10
    off = {job_id: (form["expected_start_s"], starts[job_id]) for job_id, form in forms.items() if form["expected_start_s"] is not None}
    assert len(off) == len(forms)
    near = [job_id for job_id, (said, did) in off.items() if abs(said - did) <= 0.01 * (did - 2001.0) + 1.0]
    assert len(near) >= 0.9 * len(off), off


def test_wrong_estimates_stay_within_two_bands_for_most():
    inside = total = 0
    for seed in range(3):
        forms, starts, _ = simulated(seed, asked_at_s=2001.0, num_jobs=30, log_sd=0.3)
        for job_id, form in forms.items():
            if form["expected_start_s"] is not None:
                at_s, low_s, high_s = (form[f"expected_start{part}_s"] for part in ("", "_low", "_high"))
                total += 1
                inside += at_s - 2 * (at_s - low_s) <= starts[job_id] <= at_s + 2 * (high_s - at_s)
    assert total > 20
    assert inside >= 0.75 * total


def test_asking_changes_nothing_of_what_the_core_does_next():
    _, _, asked = simulated(1, asked_at_s=1500.0)
    _, ends, _ = simulated(1, asked_at_s=None)
    assert {job_id: job.ended_s for job_id, job in asked.jobs.items()} == ends
