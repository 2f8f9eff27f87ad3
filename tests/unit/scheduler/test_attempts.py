"""What becomes of attempts: ends, retries, memory, cancelling, time limits, lost nodes, late news."""

from __future__ import annotations

import pytest

from fabric.errors import BugError
from fabric.job import JobId, Shape
from fabric.job_events import (
    JobCancelRequested,
    JobClosed,
    JobEnded,
    JobStarted,
    JobVacated,
    Kill,
    LeaseRefused,
    NodesSeen,
)
from fabric.policy import Policy
from fabric.states import JobState
from tests.jobs import T4, Desk, machine, spec

J = JobId("job")


def running(desk: Desk, **kwargs: object) -> None:
    desk.submit(spec("job", kwargs.pop("shape", Shape("a100", 1)), **kwargs))  # type: ignore[arg-type]
    desk.tell(JobStarted(J, 1))


# ---- retries


def test_a_failed_job_is_tried_again_later_each_time_and_then_fails() -> None:
    desk = Desk(machine("a1"))
    running(desk, max_retries=2)
    for attempt, wait_s in ((1, 10.0), (2, 20.0)):
        desk.tell(JobEnded(J, attempt, "error", "boom"))
        assert (desk.state("job"), desk.why("job")) == (JobState.PENDING, "BackOff")
        assert desk.core.wake_s == pytest.approx(desk.now_s + wait_s)
        desk.tell(at_s=desk.now_s + wait_s - 0.1)
        assert desk.state("job") == JobState.PENDING
        desk.tell(at_s=desk.now_s + 0.2)
        desk.tell(JobStarted(J, attempt + 1))
    desk.tell(JobEnded(J, 3, "error", "boom"))
    assert (desk.state("job"), desk.core.jobs[J].why) == (JobState.FAILED, "Error")


def test_after_running_out_of_memory_it_gets_more_and_then_the_next_tier() -> None:
    desk = Desk(machine("t1", T4, memory=32e9), machine("a1", memory=128e9))
    running(desk, shape=Shape("gpu", 1, memory_bytes=int(10e9)))
    first = desk.core.jobs[J].grant
    assert first is not None
    seen = []
    for attempt in (1, 2, 3):
        job = desk.core.jobs[J]
        assert job.grant is not None
        seen.append((job.grant.option.flavor, desk.core.book.demand(job, job.grant.option)["memory"]))
        desk.tell(JobEnded(J, attempt, "oom"), at_s=desk.now_s)
        desk.tell(at_s=desk.now_s + 400.0)
        desk.tell(JobStarted(J, attempt + 1))
    assert [memory for _, memory in seen] == [10e9, 20e9, 40e9]
    assert seen[2][0] == "a100-80g"


def test_where_no_node_has_more_memory_the_next_tier_is_tried() -> None:
    desk = Desk(machine("t1", T4, memory=15e9), machine("a1", memory=15e9))
    running(desk, shape=Shape("gpu", 1, memory_bytes=int(10e9)))
    first = desk.core.jobs[J].grant
    desk.tell(JobEnded(J, 1, "oom"))
    desk.tell(at_s=400.0)
    second = desk.core.jobs[J].grant
    assert first is not None and second is not None
    assert {first.option.flavor, second.option.flavor} == {"t4", "a100-80g"}


# ---- cancelling


def test_cancelling_a_waiting_job_closes_it_at_once() -> None:
    desk = Desk()
    desk.submit(spec("job"))
    decision = desk.tell(JobCancelRequested(J, "ann"))
    assert decision.facts == [JobClosed(J, "CANCELLED", "Cancelled", "by ann")]


@pytest.mark.parametrize("is_running", [False, True])
def test_cancelling_what_holds_a_lease_ends_it_by_force(is_running: bool) -> None:
    desk = Desk(machine("a1"))
    desk.submit(spec("job"))
    if is_running:
        desk.tell(JobStarted(J, 1))
    assert desk.tell(JobCancelRequested(J, "ann")).commands == [Kill(J, 1, "cancelled")]
    assert desk.tell(JobCancelRequested(J, "ann")).commands == [], "once is enough"
    desk.tell(JobEnded(J, 1, "cancelled"))
    assert desk.state("job") == JobState.CANCELLED


@pytest.mark.parametrize("outcome", ["error", "oom", "lost"])
def test_a_job_that_is_being_cancelled_is_not_tried_again(outcome: str) -> None:
    desk = Desk(machine("a1"))
    running(desk, max_retries=3)
    desk.tell(JobCancelRequested(J, "ann"))
    desk.tell(JobEnded(J, 1, outcome))  # type: ignore[arg-type]
    assert desk.state("job") == JobState.CANCELLED


def test_a_job_that_finishes_while_it_is_cancelled_has_succeeded() -> None:
    desk = Desk(machine("a1"))
    running(desk)
    desk.tell(JobCancelRequested(J, "ann"))
    desk.tell(JobEnded(J, 1, "ok"))
    assert desk.state("job") == JobState.SUCCEEDED


def test_a_cancelled_job_that_leaves_does_not_come_back() -> None:
    desk = Desk(machine("a1"))
    running(desk)
    desk.core.admission.tell_to_leave(desk.core.jobs[J], "Priority", None)
    desk.tell(JobCancelRequested(J, "ann"))
    desk.tell(JobVacated(J, 1, 0.0))
    assert desk.state("job") == JobState.CANCELLED


def test_cancelling_in_a_back_off_closes_at_once() -> None:
    desk = Desk(machine("a1"))
    running(desk, max_retries=1)
    desk.tell(JobEnded(J, 1, "error"))
    desk.tell(JobCancelRequested(J, "ann"))
    assert desk.state("job") == JobState.CANCELLED
    assert desk.tell(at_s=100.0).commands == []


# ---- limits, nodes, news


def test_an_attempt_over_its_time_limit_is_ended() -> None:
    desk = Desk(machine("a1"))
    running(desk, timeout_s=50.0)
    assert desk.tell(at_s=49.0).commands == []
    assert desk.tell(at_s=50.0).commands == [Kill(J, 1, "timeout")]
    desk.tell(JobEnded(J, 1, "timeout"))
    assert (desk.state("job"), desk.core.jobs[J].why) == (JobState.FAILED, "Timeout")


def test_with_its_node_a_job_is_tried_elsewhere_at_once() -> None:
    desk = Desk(machine("a1"), machine("a2"))
    running(desk, can_resume=True)
    gone = desk.core.jobs[J].grant.nodes[0]  # type: ignore[union-attr]
    rest = [node for node in (machine("a1"), machine("a2")) if node.node_id != gone]
    desk.tell(NodesSeen(tuple(rest)), JobEnded(J, 1, "lost"))
    assert desk.state("job") == JobState.ADMITTED
    assert desk.core.jobs[J].grant.nodes[0] != gone  # type: ignore[union-attr]


def test_what_no_node_can_hold_waits_until_one_can() -> None:
    desk = Desk(machine("a1"))
    desk.submit(spec("job", Shape("a100", 8)))
    assert desk.why("job") == "BadConstraints"
    desk.tell(NodesSeen((machine("a1"), machine("big", gpus=8))))
    assert desk.state("job") == JobState.ADMITTED


def test_a_refused_lease_goes_back_to_the_queue_and_waits_a_little() -> None:
    desk = Desk(machine("a1"))
    desk.submit(spec("job"))
    desk.tell(LeaseRefused(J, 1, "no placement group"))
    assert desk.state("job") == JobState.PENDING
    desk.tell(at_s=10.1)
    assert (desk.state("job"), desk.core.jobs[J].attempt) == (JobState.ADMITTED, 2)


@pytest.mark.parametrize(
    "late", [JobEnded(J, 1, "ok"), JobEnded(J, 1, "error"), JobVacated(J, 1), LeaseRefused(J, 1, ""), JobStarted(J, 1)]
)
def test_news_of_an_older_attempt_changes_nothing(late: object) -> None:
    desk = Desk(machine("a1"))
    running(desk, max_retries=1)
    desk.tell(JobEnded(J, 1, "lost"))
    before = desk.core.jobs[J].state, desk.core.jobs[J].attempt, desk.core.jobs[J].grant
    desk.tell(late)  # type: ignore[arg-type]
    assert before == (desk.core.jobs[J].state, desk.core.jobs[J].attempt, desk.core.jobs[J].grant)


def test_an_illegal_move_is_refused_with_the_story_and_changes_nothing() -> None:
    """A job that was never started cannot have succeeded."""
    desk = Desk(machine("a1"))
    desk.submit(spec("job", Shape("a100", 1)))
    with pytest.raises(BugError, match="from ADMITTED to SUCCEEDED") as caught:
        desk.tell(JobEnded(J, 1, "ok"))
    assert caught.value.code == "illegal_move"
    assert "holds 1 of a100-80g" in str(caught.value.context["story"])
    job = desk.core.jobs[J]
    assert (job.state, job.grant is not None, J in desk.core.book.holding) == (JobState.ADMITTED, True, True)
    assert desk.core.book.machines.free_units("a100-80g") == 3.0


# ---- dependencies


def test_a_job_waits_for_all_that_it_comes_after() -> None:
    desk = Desk(machine("a1"))
    desk.submit(spec("one", Shape("a100", 1)), spec("two", Shape("a100", 1)))
    desk.submit(spec("job", Shape("a100", 1), after=(JobId("one"), JobId("two"))))
    desk.tell(JobStarted(JobId("one"), 1), JobStarted(JobId("two"), 1))
    desk.tell(JobEnded(JobId("one"), 1, "ok"))
    assert (desk.state("job"), desk.why("job")) == (JobState.PENDING, "Dependency")
    desk.tell(JobEnded(JobId("two"), 1, "ok"))
    assert desk.state("job") == JobState.ADMITTED


def test_what_comes_after_a_failure_is_closed_down_the_line() -> None:
    desk = Desk(machine("a1"))
    running(desk)
    desk.submit(spec("next", after=(J,)), spec("last", after=(JobId("next"),)))
    decision = desk.tell(JobEnded(J, 1, "error"))
    assert [fact.job_id for fact in decision.facts if isinstance(fact, JobClosed)] == ["next", "last"]
    assert desk.core.jobs[JobId("last")].why == "DependencyFailed"


def test_what_comes_after_a_job_that_has_failed_already_is_closed_at_once() -> None:
    desk = Desk(machine("a1"), policy=Policy())
    running(desk)
    desk.tell(JobEnded(J, 1, "error"))
    desk.submit(spec("late", after=(J,)), spec("lost", after=(JobId("nobody"),)))
    assert desk.state("late") == desk.state("lost") == JobState.CANCELLED
