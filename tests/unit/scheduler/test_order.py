"""Who goes first: class value, then shares, then who has waited too long, then age."""

from __future__ import annotations

import pytest

from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobStarted
from fabric.policy import Policy, PriorityClass
from fabric.states import JobState
from tests.jobs import Desk, machine, spec

FOUR = Shape("a100", 4)


def finish(desk: Desk, name: str, at_s: float) -> None:
    if desk.state(name) == JobState.ADMITTED:
        start(desk, name)
    desk.tell(JobEnded(JobId(name), desk.core.jobs[JobId(name)].attempt, "ok"), at_s=at_s)


def start(desk: Desk, *names: str) -> None:
    desk.tell(*(JobStarted(JobId(name), desk.core.jobs[JobId(name)].attempt) for name in names))


def test_the_higher_value_goes_first_whatever_came_earlier() -> None:
    policy = Policy(classes=(PriorityClass("production", value=10), PriorityClass("batch")))
    desk = Desk(machine("a1"), policy=policy)
    desk.submit(spec("holder", FOUR, priority="production"), run_s=100.0)
    desk.submit(spec("batch", FOUR, priority="batch", submitted_s=1.0), run_s=100.0)
    desk.submit(spec("late", FOUR, priority="production", submitted_s=2.0), run_s=100.0)
    finish(desk, "holder", 50.0)
    assert desk.started() == ["holder", "late"]


def test_jobs_of_one_class_start_in_the_order_of_their_submission() -> None:
    desk = Desk(machine("a1"))
    desk.submit(*(spec(f"j{n}", FOUR, submitted_s=float(10 - n)) for n in range(4)), run_s=10.0)
    for n, at_s in ((3, 20.0), (2, 30.0), (1, 40.0)):
        finish(desk, f"j{n}", at_s)
    assert desk.started() == ["j3", "j2", "j1", "j0"]


def test_a_job_without_a_named_class_gets_the_one_whose_nodes_it_asks_for() -> None:
    policy = Policy(classes=(PriorityClass("gpu-intensive", 3.0, selectors=("nvidia-tesla",)), PriorityClass("cpu-bound")))
    desk = Desk(machine("a1"), policy=policy)
    desk.submit(spec("gpu", Shape("any", 1)), spec("cpu", Shape("", cpus=1.0)), spec("named", Shape("any", 1), priority="cpu-bound"))
    classes = {name: job.cls.name for name, job in desk.core.jobs.items() if job.cls is not None}
    assert classes == {"gpu": "gpu-intensive", "cpu": "cpu-bound", "named": "cpu-bound"}


@pytest.mark.parametrize("better", ["shorter", "younger"])
def test_a_stream_of_better_jobs_does_not_hold_one_back_for_ever(better: str) -> None:
    """Ranks, as a plan gives them, put every new job before the old one; it starts in bounded time all the same."""
    desk = Desk(machine("a1"))
    desk.submit(spec("first", FOUR), run_s=100.0)
    desk.submit(spec("old", FOUR), run_s=100.0 if better == "younger" else 1000.0)
    running, number, now_s = "first", 0, 0.0
    while desk.state("old") == JobState.PENDING and now_s < 50_000.0:
        number += 1
        desk.submit(spec(f"new{number}", FOUR, submitted_s=now_s), run_s=100.0)
        new = desk.core.jobs[JobId(f"new{number}")]
        if new.state is JobState.PENDING:
            new.rank = -1.0 - number
            desk.core.book.push(new)
        start(desk, running)
        now_s += 100.0
        finish(desk, running, now_s)
        running = next(iter(desk.core.book.holding))
    assert now_s < 12_500.0
    assert desk.state("old") == JobState.ADMITTED
    assert number > 5, "others went first for a while"
