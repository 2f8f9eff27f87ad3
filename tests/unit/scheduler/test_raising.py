"""A job's class set anew: its place among those that wait, who may make it leave, and what it is charged to."""

from __future__ import annotations

import pytest

from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobPreempted, JobReprioritised, JobStarted, JobSubmitted, LeaseRefused
from fabric.plane.views import in_order
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Decision
from fabric.scheduler.share import COMMITTED_S
from fabric.states import JobState
from tests.jobs import Desk, machine, spec

FOUR = Shape("a100", 4)
LONG_S = 10_000.0
CLASSES = (PriorityClass("high", value=10), PriorityClass("mid", value=5), PriorityClass("low"), PriorityClass("rival", 3.0))


def desk_of(*queues: QueuePolicy) -> Desk:
    return Desk(machine("a1"), policy=Policy(classes=CLASSES, queues=queues or (QueuePolicy("default"),)))


def waiting(*names: str) -> Desk:
    """`first` runs in class high; the others wait in class low, in this order."""
    desk = desk_of()
    desk.submit(spec("first", FOUR, priority="high"), run_s=LONG_S)
    desk.submit(*(spec(name, FOUR, priority="low", submitted_s=1.0 + n) for n, name in enumerate(names)), run_s=LONG_S)
    desk.tell(JobStarted(JobId("first"), 1))
    return desk


def raised(desk: Desk, name: str, priority: str) -> Decision:
    return desk.tell(JobReprioritised(JobId(name), priority, "ann"))


def order(desk: Desk) -> list[str]:
    return [job.spec.name for job in in_order(desk.core)]


def test_a_raised_job_goes_before_those_that_came_earlier_and_starts_first() -> None:
    desk = waiting("a", "b", "c")
    assert order(desk) == ["a", "b", "c"]
    raised(desk, "c", "mid")
    assert order(desk) == ["c", "a", "b"]
    desk.tell(JobEnded(JobId("first"), 1, "ok"))
    assert desk.started() == ["first", "c"]


def test_a_lowered_job_goes_behind_those_of_its_old_class() -> None:
    desk = waiting("a", "b")
    raised(desk, "a", "mid")
    raised(desk, "b", "mid")
    raised(desk, "a", "low")
    assert order(desk) == ["b", "a"]
    raised(desk, "a", "mid")
    assert order(desk) == ["a", "b"], "its age counts from its submission"


def test_the_same_class_again_changes_nothing() -> None:
    desk = waiting("a", "b")
    group, changes = desk.core.jobs[JobId("a")].group, desk.core.pace.changes
    assert raised(desk, "a", "low") == Decision([], [])
    assert desk.core.jobs[JobId("a")].group is group and desk.core.pace.changes == changes


def test_a_raised_job_makes_a_lower_one_leave() -> None:
    desk = desk_of()
    desk.submit(spec("runs", FOUR, priority="low"), run_s=LONG_S)
    desk.tell(JobStarted(JobId("runs"), 1))
    desk.submit(spec("waits", FOUR, priority="low", submitted_s=1.0), run_s=LONG_S)
    assert raised(desk, "waits", "high").facts == [JobPreempted(JobId("runs"), 1, "Preempted", JobId("waits"))]


def test_a_running_job_that_is_raised_stays_and_one_that_is_lowered_leaves_for_who_waits() -> None:
    desk = desk_of()
    desk.submit(spec("runs", FOUR, priority="low"), run_s=LONG_S)
    desk.tell(JobStarted(JobId("runs"), 1))
    raised(desk, "runs", "mid")
    assert desk.submit(spec("waits", FOUR, priority="mid", submitted_s=1.0), run_s=LONG_S).facts == []
    assert raised(desk, "runs", "high").facts == []
    assert raised(desk, "runs", "low").facts == [JobPreempted(JobId("runs"), 1, "Preempted", JobId("waits"))]


def test_what_runs_is_charged_to_its_new_class_from_then_on() -> None:
    """`rival` and `low` are of one value: within it, shares decide."""
    desk = desk_of()
    desk.submit(spec("runs", FOUR, priority="low"), run_s=LONG_S)
    desk.tell(JobStarted(JobId("runs"), 1))
    desk.tell(at_s=1000.0)
    standing, usd, committed_usd = desk.core.book.standing, 4 * 3.6 * 1000 / 3600, 4 * 3.6 * COMMITTED_S / 3600
    raised(desk, "runs", "rival")
    assert standing.class_share("default", "low", 1000.0) == pytest.approx(usd, rel=0.01)
    assert standing.class_share("default", "rival", 1000.0) == pytest.approx(committed_usd / 3.0, rel=0.01)
    desk.tell(at_s=2000.0)
    assert standing.class_share("default", "low", 2000.0) == pytest.approx(usd, rel=0.01)
    assert standing.class_share("default", "rival", 2000.0) == pytest.approx((usd + committed_usd) / 3.0, rel=0.01)
    assert standing.queue_share("default", 2000.0) == pytest.approx(2 * usd + committed_usd, rel=0.01)
    assert standing.user_units == {("ann", "default"): 4} and standing.user_jobs == {("ann", "default"): 1}
    desk.tell(JobEnded(JobId("runs"), 1, "ok"), at_s=2000.0)
    assert not any(num for values in standing.held_values.values() for num in values.values())
    assert not any(standing.user_units.values()) and not any(standing.unlimited_values.values())


def test_a_quota_that_is_full_keeps_a_raised_job_waiting() -> None:
    desk = Desk(machine("a1"), machine("a2"), policy=Policy(classes=CLASSES, queues=(QueuePolicy("default", nominal={"gpu": 4.0}),)))
    desk.submit(spec("runs", FOUR, priority="mid"), run_s=LONG_S)
    desk.tell(JobStarted(JobId("runs"), 1))
    desk.submit(spec("waits", FOUR, priority="low", submitted_s=1.0), run_s=LONG_S)
    raised(desk, "waits", "mid")
    assert (desk.state("waits"), desk.why("waits")) == (JobState.PENDING, "QuotaExhausted")
    desk.tell(JobEnded(JobId("runs"), 1, "ok"))
    assert desk.state("waits") == JobState.ADMITTED


def test_what_waits_for_another_or_for_its_next_try_has_its_new_class_then() -> None:
    desk = waiting("a")
    desk.submit(spec("after", FOUR, priority="low", after=(JobId("a"),), submitted_s=0.5), run_s=LONG_S)
    raised(desk, "after", "mid")
    assert (desk.why("after"), desk.core.jobs[JobId("after")].group) == ("Dependency", None)
    desk.tell(JobEnded(JobId("first"), 1, "ok"))
    desk.tell(LeaseRefused(JobId("a"), 1, "no placement group"), at_s=1.0)
    raised(desk, "a", "mid")
    a = desk.core.jobs[JobId("a")]
    assert (desk.state("a"), a.group, a.cls and a.cls.name) == (JobState.PENDING, None, "mid")
    desk.submit(spec("late", FOUR, priority="low", submitted_s=2.0))
    assert desk.started()[-1] == "late", "it waits for its next try all the same"
    desk.tell(JobStarted(JobId("late"), 1))
    desk.tell(JobEnded(JobId("late"), 1, "ok"), at_s=100.0)
    assert desk.started()[-1] == "a"


def test_of_a_job_that_has_ended_or_is_unknown_nothing_changes() -> None:
    desk = desk_of()
    desk.submit(spec("done", FOUR, priority="low"))
    desk.tell(JobStarted(JobId("done"), 1))
    desk.tell(JobEnded(JobId("done"), 1, "ok"))
    raised(desk, "done", "high")
    raised(desk, "nobody", "high")
    assert desk.core.jobs[JobId("done")].spec.priority == "low" and JobId("nobody") not in desk.core.jobs


def test_without_a_named_class_the_policy_gives_one() -> None:
    desk = waiting("a")
    raised(desk, "a", "mid")
    raised(desk, "a", "")
    unnamed = desk.core.jobs[JobId("a")].cls
    desk.tell(JobSubmitted(spec("other", FOUR, submitted_s=9.0), "ann"))
    assert unnamed == desk.core.jobs[JobId("other")].cls
