"""Who waits is predicted anew when its family shows another pace."""

from __future__ import annotations

import threading

import pytest

from fabric.job import JobId
from fabric.job_events import JobEstimated, JobFact, JobStarted, JobSubmitted
from fabric.plane.siblings import BATCH, Siblings
from fabric.policy import Policy
from profiler.families import Families
from tests.jobs import CATALOGUE, Desk, machine, spec


class Told:
    """A driver that turns at once, and remembers how much it was told at a time."""

    def __init__(self, desk: Desk) -> None:
        self.core, self.lock, self.desk = desk.core, threading.RLock(), desk
        self.batches: list[int] = []

    def tell_and_wait(self, *facts: JobFact) -> None:
        self.batches.append(len(facts))
        self.desk.tell(*facts)


def waiting(num: int) -> tuple[Families, Told]:
    """One job that runs and `num` of its family that wait for its GPU, and one of another."""
    desk, families = Desk(machine("a1", gpus=1.0), policy=Policy(restart_s=0.0)), Families(CATALOGUE)
    for name in ("first", *(f"j{n:04}" for n in range(num)), "stranger"):
        one = spec(name, family="other" if name == "stranger" else "train")
        desk.tell(JobSubmitted(one, one.user), JobEstimated(one.job_id, families.estimate(one)))
    desk.tell(JobStarted(JobId("first"), 1))
    return families, Told(desk)


def predicted_s(told: Told, name: str) -> float:
    job = told.core.jobs[JobId(name)]
    assert job.estimate is not None
    return 1.0 / job.estimate.rates[0, "a100-80g"]


def test_all_that_wait_are_told_a_few_at_a_time_and_strangers_are_not() -> None:
    families, told = waiting(2 * BATCH + 50)
    siblings = Siblings(families, told)  # type: ignore[arg-type]
    before_s = predicted_s(told, "stranger")
    families.hear(told.core.jobs[JobId("first")].spec, 0, "a100-80g", 1 / 4000.0)
    assert len(siblings.first("train")) == BATCH
    siblings.renew()
    assert told.batches == [BATCH, BATCH, 50]
    assert predicted_s(told, "j0449") == pytest.approx(4000.0)
    assert predicted_s(told, "stranger") == before_s


def test_what_was_told_already_is_no_news() -> None:
    families, told = waiting(3)
    siblings = Siblings(families, told)  # type: ignore[arg-type]
    first = told.core.jobs[JobId("first")].spec
    assert families.hear(first, 0, "a100-80g", 1 / 4000.0)
    siblings.note("train")
    siblings.renew()
    assert not families.hear(first, 0, "a100-80g", 1 / 4100.0)
    siblings.note("train")
    siblings.renew()
    assert told.batches == [3]
