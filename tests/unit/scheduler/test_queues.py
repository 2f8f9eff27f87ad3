"""Quotas, borrowing, lending, limits of users, budgets of jobs and of queues."""

from __future__ import annotations

import pytest

from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobStarted, Kill
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.states import JobState
from tests.jobs import T4, Desk, machine, spec


def ones(count: int, queue: str, **kwargs: object) -> list[object]:
    return [spec(f"{queue}{n}", Shape("gpu", 1), queue=queue, submitted_s=float(n), **kwargs) for n in range(count)]  # type: ignore[arg-type]


def held(desk: Desk, queue: str) -> int:
    return sum(job.spec.queue == queue for job in desk.core.book.holding.values())


@pytest.mark.parametrize(
    ("lab", "team", "expected"),
    [
        ({"nominal": {"gpu": 2.0}}, {"nominal": {"gpu": 2.0}}, 2),
        ({"nominal": {"gpu": 2.0}, "cohort": "all"}, {"nominal": {"gpu": 2.0}, "cohort": "all"}, 4),
        ({"nominal": {"gpu": 2.0}, "cohort": "all", "borrowing_limit": {"gpu": 1.0}}, {"nominal": {"gpu": 2.0}, "cohort": "all"}, 3),
        ({"nominal": {"gpu": 2.0}, "cohort": "all"}, {"nominal": {"gpu": 2.0}, "cohort": "all", "lending_limit": {"gpu": 1.0}}, 3),
        ({"nominal": {"a100-80g": 1.0}}, {}, 8 - 3),
        ({}, {"nominal": {"gpu": 2.0}}, 8),
    ],
    ids=["alone", "all borrowed", "borrowing limit", "lending limit", "by flavor", "no quota"],
)
def test_what_a_queue_may_hold(lab: dict[str, object], team: dict[str, object], expected: int) -> None:
    """Four A100 and four T4, all asked for by one queue."""
    policy = Policy(queues=(QueuePolicy("lab", **lab), QueuePolicy("team", **team)))  # type: ignore[arg-type]
    desk = Desk(machine("a1"), machine("t1", T4), policy=policy)
    desk.submit(*ones(10, "lab"), run_s=100.0)  # type: ignore[arg-type]
    assert held(desk, "lab") == expected


def test_who_stays_within_its_quota_goes_before_who_borrows() -> None:
    queues = (QueuePolicy("lab", "all", nominal={"gpu": 2.0}, weight=100.0), QueuePolicy("team", "all", nominal={"gpu": 2.0}))
    desk = Desk(machine("a1"), policy=Policy(queues=queues))
    desk.submit(*ones(4, "lab"), *ones(4, "team"), run_s=100.0)  # type: ignore[arg-type]
    assert (held(desk, "lab"), held(desk, "team")) == (2, 2)


def test_a_user_holds_no_more_than_allowed() -> None:
    desk = Desk(machine("a1"), policy=Policy(queues=(QueuePolicy("lab", max_units_per_user=2.0, max_jobs_per_user=1),)))
    desk.submit(spec("big", Shape("a100", 3), queue="lab"), spec("one", Shape("a100", 1), queue="lab", submitted_s=1.0), run_s=10.0)
    desk.submit(spec("two", Shape("a100", 1), queue="lab", submitted_s=2.0), run_s=10.0)
    desk.submit(spec("bob", Shape("a100", 2), queue="lab", user="bob", submitted_s=3.0), run_s=10.0)
    assert sorted(desk.started()) == ["bob", "one"]
    assert desk.why("big") == desk.why("two") == "UserLimit"
    desk.tell(JobStarted(JobId("one"), 1))
    desk.tell(JobEnded(JobId("one"), 1, "ok"), at_s=10.0)
    assert desk.state("two") == JobState.ADMITTED


# ---- budgets


def test_a_job_does_not_start_where_its_budget_does_not_reach() -> None:
    """An hour of an A100 costs 3.60, of a T4 0.36 USD."""
    desk = Desk(machine("a1"), machine("t1", T4))
    desk.submit(spec("poor", Shape("gpu", 1), budget_usd=1.0), spec("broke", Shape("gpu", 1), budget_usd=0.1), run_s=3600.0)
    assert desk.core.jobs[JobId("poor")].grant is not None
    assert desk.core.jobs[JobId("poor")].grant.option.flavor == "t4"  # type: ignore[union-attr]
    assert desk.why("broke") == "BudgetExceeded"


def test_a_job_of_unknown_length_is_ended_when_its_budget_is_spent() -> None:
    desk = Desk(machine("a1"))
    desk.submit(spec("job", Shape("a100", 1), budget_usd=3.6))
    desk.tell(JobStarted(JobId("job"), 1))
    assert desk.core.wake_s == pytest.approx(3600.0)
    assert desk.tell(at_s=3599.0).commands == []
    assert desk.tell(at_s=3600.1).commands == [Kill(JobId("job"), 1, "budget")]


BUDGET = QueuePolicy("lab", budget_usd=3.6, budget_period_s=86400.0)
CLASSES = (PriorityClass("high", value=10), PriorityClass("low", weight=0.5))


def test_once_a_queue_has_spent_its_budget_its_jobs_count_as_the_lowest_class() -> None:
    desk = Desk(machine("a1"), policy=Policy(classes=CLASSES, queues=(BUDGET, QueuePolicy("team"))))
    desk.submit(spec("first", Shape("a100", 4), queue="lab", priority="high"))
    desk.tell(JobStarted(JobId("first"), 1))
    desk.submit(spec("lab", Shape("a100", 4), queue="lab", priority="high", submitted_s=1.0), run_s=10.0)
    assert desk.core.jobs[JobId("lab")].cls == CLASSES[0]
    assert desk.core.wake_s <= 900.1, "four A100 spend 3.60 USD in 900 s"
    desk.tell(at_s=901.0)
    assert desk.core.jobs[JobId("lab")].cls == CLASSES[1]
    desk.submit(spec("team", Shape("a100", 4), queue="team", priority="high", submitted_s=902.0), run_s=10.0)
    desk.tell(JobEnded(JobId("first"), 1, "ok"), at_s=903.0)
    assert desk.started() == ["first", "team"]


def test_with_the_next_period_the_budget_is_there_again() -> None:
    desk = Desk(machine("a1"), policy=Policy(classes=CLASSES, queues=(BUDGET,)))
    desk.submit(spec("first", Shape("a100", 4), queue="lab", priority="high"))
    desk.tell(JobStarted(JobId("first"), 1))
    desk.submit(spec("next", Shape("a100", 4), queue="lab", priority="high", submitted_s=1.0), run_s=10.0)
    desk.tell(at_s=86000.0)
    assert desk.core.jobs[JobId("next")].cls == CLASSES[1]
    desk.tell(at_s=86400.5)
    assert desk.core.jobs[JobId("next")].cls == CLASSES[0]
