"""What the core does with a plan: who leaves for whom, and who must not."""

from __future__ import annotations

import pytest

from fabric.job import JobEstimate, JobId, Shape
from fabric.job_events import JobEstimated, JobPreempted, JobProgressed, JobStarted, JobSubmitted, JobVacated, NodesSeen, PlanSolved, Solve
from fabric.policy import Policy, QueuePolicy
from fabric.scheduler.core import Decision
from fabric.scheduler.optimise import solve
from fabric.scheduler.planning import Pace
from fabric.scheduler.problem import Plan
from fabric.states import JobState
from tests.jobs import T4, Desk, estimate, machine, spec

LONG, SHORT = JobId("long"), JobId("short")
ONE = Shape("a100", 1)


def planned(desk: Desk, decision: Decision) -> list[JobPreempted]:
    """Answers what the core asks of the optimiser; who was told to leave for it."""
    told = []
    while problems := [command.problem for command in decision.commands if isinstance(command, Solve)]:
        decision = desk.tell(PlanSolved(solve(problems[0])))
        told += [fact for fact in decision.facts if isinstance(fact, JobPreempted)]
    return told


def with_a_long_job(*, can_resume: bool = True) -> Desk:
    desk = Desk(machine("a1", gpus=1.0), policy=Policy(restart_s=0.0), is_planning=True)
    planned(desk, desk.submit(spec("long", ONE, can_resume=can_resume), run_s=50_000.0))
    planned(desk, desk.tell(JobStarted(LONG, 1)))
    return desk


@pytest.mark.parametrize(
    ("policy", "short", "leaves"),
    [
        (Policy(restart_s=0.0), {}, True),
        (Policy(restart_s=0.0), {"budget_usd": 1e-6}, False),
        (Policy(restart_s=0.0, queues=(QueuePolicy("default", max_jobs_per_user=0),)), {}, False),
        (Policy(restart_s=0.0, queues=(QueuePolicy("default", nominal={"a100-80g": 0.0}),)), {}, False),
    ],
    ids=["one that may start", "no budget", "a user's limit", "no quota"],
)
def test_a_running_job_leaves_only_for_one_that_may_start(policy: Policy, short: dict[str, float], leaves: bool) -> None:
    desk = with_a_long_job()
    desk.core.book.set_policy(policy)
    told = planned(desk, desk.submit(spec("short", ONE, **short), run_s=100.0))
    told += planned(desk, desk.tell(at_s=500.0))
    assert bool(told) == leaves
    assert (desk.state("long") == JobState.RUNNING) != leaves


def test_no_plan_takes_a_lease_whose_work_would_be_lost() -> None:
    desk = with_a_long_job(can_resume=False)
    told = planned(desk, desk.submit(spec("short", ONE), run_s=100.0)) + planned(desk, desk.tell(at_s=500.0))
    assert not told


def test_the_optimiser_is_asked_so_rarely_that_it_computes_for_a_tenth_of_the_time() -> None:
    pace = Pace()
    pace.asked(100.0)
    pace.answered(Plan(100.0, {}), took_s=3.0)
    pace.changes = 1
    assert pace.due_s(num_jobs=50) == pytest.approx(130.0)


def test_progress_in_the_job_s_own_unit_is_brought_to_that_of_its_estimate() -> None:
    """The history counts whole jobs, the job counts steps: three of 600 steps are not three whole jobs."""
    desk = Desk(machine("a1"), policy=Policy(restart_s=0.0))
    desk.submit(spec("long", ONE, can_resume=True), run_s=300.0)
    desk.tell(JobStarted(LONG, 1))
    desk.tell(JobProgressed(LONG, 1, 3.0, 600.0), at_s=1.5)
    job = desk.core.jobs[LONG]
    assert job.remaining_s(1.5, 0.0) == pytest.approx(300.0 * 597 / 600)
    desk.tell(JobProgressed(LONG, 1, 6.0, 600.0, checkpointed=6.0), at_s=3.0)
    desk.tell(JobEstimated(LONG, JobEstimate(600.0, dict.fromkeys(estimate(1.0).rates, 2.0))))
    assert (job.done, job.checkpointed) == pytest.approx((6.0, 6.0))
    assert job.remaining_s(3.0, 0.0) == pytest.approx(297.0)
    desk.tell(JobEstimated(LONG, estimate(300.0)))
    assert job.done == pytest.approx(0.01)


def test_what_a_preemption_keeps_is_in_the_job_s_own_unit_too() -> None:
    desk = Desk(machine("a1", gpus=1.0), policy=Policy(restart_s=0.0))
    desk.tell(JobSubmitted(spec("long", ONE, can_resume=True), "ann"), JobEstimated(LONG, estimate(300.0)))
    desk.tell(JobStarted(LONG, 1))
    desk.core.admission.tell_to_leave(desk.core.jobs[LONG], "Plan", None)
    desk.tell(JobVacated(LONG, 1, 150.0, 600.0), at_s=75.0)
    assert desk.core.jobs[LONG].done == pytest.approx(0.25)


def test_nobody_moves_to_where_its_budget_bars_it() -> None:
    desk = Desk(machine("t1", T4, gpus=1.0), policy=Policy(restart_s=0.0), is_planning=True)
    planned(desk, desk.submit(spec("long", Shape("gpu", 1), can_resume=True, budget_usd=0.6), run_s=3600.0))
    planned(desk, desk.tell(JobStarted(LONG, 1)))
    decision = desk.tell(NodesSeen((machine("t1", T4, gpus=1.0), machine("a1", gpus=1.0))), at_s=10.0)
    way = next(way for way in desk.core.book.ways_of(desk.core.jobs[LONG]) if way.flavor == "a100-80g")
    assert desk.core.book.cost_usd(desk.core.jobs[LONG], way) > 0.6
    assert isinstance(decision.commands[-1], Solve)
    told = desk.tell(PlanSolved(Plan(10.0, {LONG: way}))).facts
    assert not [fact for fact in told if isinstance(fact, JobPreempted)]
    assert desk.state("long") == JobState.RUNNING
