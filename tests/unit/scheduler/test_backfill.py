"""Room and quota that is kept for the head of the queue, and what may run beside and before it."""

from __future__ import annotations

import pytest

from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobStarted
from fabric.policy import Policy, QueuePolicy
from fabric.states import JobState
from tests.jobs import CPU, Desk, machine, spec


def run(desk: Desk, *names: str) -> None:
    desk.tell(*(JobStarted(JobId(name), 1) for name in names))


def filled(policy: Policy | None = None, *, queue: str = "default") -> Desk:
    """One node of four: `long` holds two of them for 100 s, `head` wants all four next."""
    desk = Desk(machine("a1"), policy=policy or Policy(restart_s=0.0))
    desk.submit(spec("long", Shape("a100", 2), queue=queue), run_s=100.0)
    run(desk, "long")
    desk.submit(spec("head", Shape("a100", 4), queue=queue, submitted_s=1.0), run_s=50.0)
    return desk


@pytest.mark.parametrize(("run_s", "starts"), [(99.0, True), (101.0, False), (None, False)])
def test_a_job_goes_before_the_head_only_if_it_ends_in_time(run_s: float | None, starts: bool) -> None:
    desk = filled()
    desk.submit(spec("small", Shape("a100", 1), submitted_s=2.0), run_s=run_s)
    assert (desk.state("small") == JobState.ADMITTED) is starts
    assert starts or desk.why("small") == "Priority"


def test_the_head_starts_when_it_was_promised() -> None:
    desk = filled()
    for number in range(10):
        desk.submit(spec(f"small{number}", Shape("a100", 1), submitted_s=2.0 + number), run_s=90.0 + 2 * number)
    started = [name for name in desk.started() if name.startswith("small")]
    assert started == ["small0", "small1"]
    run(desk, *started)
    desk.tell(*(JobEnded(JobId(name), 1, "ok") for name in ("long", *started)), at_s=100.0)
    assert desk.started()[-1] == "head"


def test_a_job_that_stays_longer_may_use_what_the_head_leaves() -> None:
    """The head wants two of the four that will be free."""
    desk = Desk(machine("a1"), policy=Policy(restart_s=0.0))
    desk.submit(spec("long", Shape("a100", 3)), run_s=100.0)
    run(desk, "long")
    desk.submit(spec("head", Shape("a100", 3), submitted_s=1.0), run_s=50.0)
    desk.submit(spec("beside", Shape("a100", 1), submitted_s=2.0), run_s=1e6)
    assert desk.state("beside") == JobState.ADMITTED


def test_the_head_is_not_starved_by_jobs_of_which_nothing_is_known() -> None:
    """The running ones have no predicted end; even so, nobody else gets what they leave."""
    desk = Desk(machine("a1"))
    desk.submit(spec("x1", Shape("a100", 2)), spec("x2", Shape("a100", 2)))
    run(desk, "x1", "x2")
    desk.submit(spec("head", Shape("a100", 4), submitted_s=1.0))
    for number in range(5):
        desk.submit(spec(f"small{number}", Shape("a100", 1), submitted_s=2.0))
    desk.tell(JobEnded(JobId("x1"), 1, "ok"), at_s=30.0)
    assert desk.started() == ["x1", "x2"]
    desk.tell(JobEnded(JobId("x2"), 1, "ok"), at_s=2000.0)
    assert desk.started()[2] == "head"


def test_each_flavor_has_a_head_of_its_own() -> None:
    desk = Desk(machine("a1"), machine("c1", CPU, cpus=4.0), policy=Policy(restart_s=0.0))
    desk.submit(spec("ga", Shape("a100", 2)), spec("ca", Shape("cpu", cpus=2.0)), run_s=100.0)
    run(desk, "ga", "ca")
    desk.submit(spec("gpu-head", Shape("a100", 4), submitted_s=1.0), spec("cpu-head", Shape("cpu", cpus=4.0), submitted_s=1.0), run_s=10.0)
    desk.submit(spec("g", Shape("a100", 1), submitted_s=2.0), spec("c", Shape("cpu", cpus=1.0), submitted_s=2.0), run_s=1000.0)
    assert sorted(desk.started()) == ["ca", "ga"]


def test_quota_is_kept_for_the_head_like_room() -> None:
    policy = Policy(queues=(QueuePolicy("lab", nominal={"gpu": 4.0}),), restart_s=0.0)
    desk = Desk(machine("a1"), machine("a2"), policy=policy)
    desk.submit(spec("long", Shape("a100", 2), queue="lab"), run_s=100.0)
    run(desk, "long")
    desk.submit(spec("head", Shape("a100", 4), queue="lab", submitted_s=1.0), run_s=50.0)
    assert desk.why("head") == "QuotaExhausted"
    desk.submit(spec("quick", Shape("a100", 1), queue="lab", submitted_s=2.0), run_s=50.0)
    desk.submit(spec("slow", Shape("a100", 1), queue="lab", submitted_s=3.0), run_s=500.0)
    assert desk.started() == ["long", "quick"]
    assert desk.why("slow") == "Priority"


def test_a_head_that_borrows_keeps_nobody_from_its_own_quota() -> None:
    queues = (QueuePolicy("rich", "all", nominal={"gpu": 4.0}), QueuePolicy("poor", "all", nominal={"gpu": 4.0}))
    desk = Desk(machine("a1"), machine("a2"), policy=Policy(queues=queues, restart_s=0.0))
    desk.submit(spec("long", Shape("a100", 2), queue="poor"), run_s=100.0)
    run(desk, "long")
    desk.submit(spec("head", Shape("a100", 4, num_bundles=2), queue="poor", submitted_s=1.0), run_s=50.0)
    desk.submit(spec("mine", Shape("a100", 2), queue="rich", submitted_s=2.0), run_s=90.0)
    assert desk.state("mine") == JobState.ADMITTED


def test_the_head_is_looked_at_again_when_its_time_comes() -> None:
    desk = filled()
    assert desk.core.wake_s == pytest.approx(100.0, abs=0.01)
