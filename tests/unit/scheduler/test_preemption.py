"""Who has to leave for whom, and who leaves first."""

from __future__ import annotations

import random

import pytest

from fabric.job import JobEstimate, JobId, Shape
from fabric.job_events import JobEnded, JobEstimated, JobPreempted, JobProgressed, JobStarted, JobSubmitted, JobVacated, Preempt
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.states import JobState
from tests.jobs import T4, Desk, machine, spec

CLASSES = (PriorityClass("high", value=10), PriorityClass("mid", value=5), PriorityClass("low"))
LONG_S = 10_000.0


def desk_of(*queues: QueuePolicy, restart_s: float = 60.0) -> Desk:
    return Desk(machine("a1"), policy=Policy(classes=CLASSES, queues=queues or (QueuePolicy("default"),), restart_s=restart_s))


def hold(desk: Desk, name: str, gpus: int = 1, *, run_s: float | None = LONG_S, **kwargs: object) -> None:
    desk.submit(spec(name, Shape("a100", gpus), **{"priority": "low", **kwargs}), run_s=run_s)  # type: ignore[arg-type]
    desk.tell(JobStarted(JobId(name), 1))
    assert desk.state(name) == JobState.RUNNING


def leaving(desk: Desk) -> list[str]:
    return sorted(job.spec.name for job in desk.core.jobs.values() if job.state is JobState.PREEMPTING)


def test_higher_value_takes_the_place_of_lower() -> None:
    desk = desk_of()
    hold(desk, "low", 4)
    decision = desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=1.0), run_s=LONG_S)
    assert decision.facts == [JobPreempted(JobId("low"), 1, "Preempted", JobId("high"))]
    assert decision.commands == [Preempt(JobId("low"), 1, "Preempted")]
    desk.tell(JobVacated(JobId("low"), 1, 0.0), at_s=5.0)
    assert desk.started() == ["low", "high"]
    assert desk.state("low") == JobState.PENDING


@pytest.mark.parametrize("value", ["low", "mid"])
def test_equal_or_higher_value_stays(value: str) -> None:
    desk = desk_of()
    hold(desk, "first", 4, priority=value)
    desk.submit(spec("second", Shape("a100", 4), priority="low", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []


def test_the_lowest_value_leaves_before_the_cheapest() -> None:
    desk = desk_of()
    hold(desk, "mid", 2, priority="mid")
    desk.tell(at_s=1000.0)
    hold(desk, "low", 2, submitted_s=1000.0)
    desk.tell(at_s=5000.0)
    desk.submit(spec("high", Shape("a100", 2), priority="high", submitted_s=5000.0), run_s=LONG_S)
    assert leaving(desk) == ["low"]


def test_of_equal_value_the_one_that_loses_least_leaves() -> None:
    """`kept` has run longer, but a checkpoint keeps nearly all of its work."""
    desk = desk_of()
    hold(desk, "kept", 2)
    desk.tell(at_s=500.0)
    hold(desk, "lost", 2, submitted_s=500.0)
    desk.tell(JobProgressed(JobId("kept"), 1, 0.3, 1.0, 0.299), JobProgressed(JobId("lost"), 1, 0.2, 1.0, 0.0), at_s=3000.0)
    desk.submit(spec("high", Shape("a100", 2), priority="high", submitted_s=3000.0), run_s=LONG_S)
    assert leaving(desk) == ["kept"]


def test_nobody_leaves_in_vain() -> None:
    """One job of two units does it; the one of one unit, that was looked at first, stays."""
    desk = desk_of()
    hold(desk, "two", 3)
    desk.tell(at_s=100.0)
    hold(desk, "one", 1, submitted_s=100.0)
    desk.submit(spec("high", Shape("a100", 3), priority="high", submitted_s=100.0), run_s=LONG_S)
    assert leaving(desk) == ["two"]


def test_nobody_leaves_where_it_would_not_make_room() -> None:
    desk = desk_of()
    hold(desk, "mid", 2, priority="high")
    hold(desk, "low", 2)
    desk.submit(spec("big", Shape("a100", 4), priority="high", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []


def test_what_ends_by_itself_within_a_restart_is_waited_for() -> None:
    desk = desk_of(restart_s=60.0)
    hold(desk, "low", 4, run_s=100.0)
    desk.tell(at_s=120.0)
    desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=120.0), run_s=LONG_S)
    assert leaving(desk) == []
    desk.tell(JobEnded(JobId("low"), 1, "ok"), at_s=160.0)
    assert desk.state("high") == JobState.ADMITTED


def test_a_job_that_does_not_end_when_it_should_is_not_waited_for_for_ever() -> None:
    """Predicted to end soon, it goes on: once a report says so, it has to leave after all."""
    desk = desk_of()
    hold(desk, "low", 4, run_s=100.0)
    desk.tell(at_s=120.0)
    desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=120.0), run_s=LONG_S)
    desk.tell(JobProgressed(JobId("low"), 1, 0.01), at_s=130.0)
    desk.tell(JobProgressed(JobId("low"), 1, 0.02), at_s=170.0)
    assert leaving(desk) == ["low"]


def test_a_job_that_may_not_be_preempted_stays() -> None:
    desk = desk_of()
    hold(desk, "pinned", 4, is_preemptible=False)
    desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []


@pytest.mark.parametrize(
    ("priority", "t4_s", "leaves"),
    [("high", 1000.0, True), ("high", 300.0, False), ("low", 1000.0, False)],
    ids=["much slower", "a little slower", "no value to go first with"],
)
def test_an_urgent_job_does_not_settle_for_a_free_flavor_on_which_it_would_take_much_longer(
    priority: str, t4_s: float, leaves: bool
) -> None:
    desk = Desk(machine("a1"), machine("t1", T4), policy=Policy(classes=CLASSES, restart_s=60.0))
    hold(desk, "low", 4)
    desk.tell(
        JobSubmitted(spec("urgent", Shape("gpu", 4), priority=priority, submitted_s=1.0), "ann"),
        JobEstimated(JobId("urgent"), JobEstimate(1.0, {(0, "a100-80g"): 1 / 100.0, (0, "t4"): 1 / t4_s})),
    )
    assert (leaving(desk), desk.state("urgent")) == ((["low"], JobState.PENDING) if leaves else ([], JobState.ADMITTED))
    if leaves:
        desk.tell(JobVacated(JobId("low"), 1, 0.0), at_s=5.0)
        grant = desk.core.jobs[JobId("urgent")].grant
        assert grant is not None
        assert grant.option.flavor == "a100-80g"


@pytest.mark.parametrize(
    ("queue", "high"),
    [(QueuePolicy("default"), {"budget_usd": 1e-6}), (QueuePolicy("default", max_units_per_user=5.0), {"user": "ann"})],
    ids=["no budget", "a user's limit"],
)
def test_nobody_leaves_for_a_job_that_then_may_not_start(queue: QueuePolicy, high: dict[str, object]) -> None:
    desk = Desk(machine("a1"), machine("a2"), policy=Policy(classes=CLASSES, queues=(queue,), restart_s=60.0))
    hold(desk, "first", 4, priority="high", user="ann")
    hold(desk, "low", 4, user="bob")
    desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=1.0, **high), run_s=LONG_S)  # type: ignore[arg-type]
    assert leaving(desk) == []
    desk.submit(spec("other", Shape("a100", 4), priority="high", submitted_s=1.0, user="eve"), run_s=LONG_S)
    assert leaving(desk) == ["low"]


def test_the_room_is_kept_for_the_one_for_whom_others_left() -> None:
    desk = desk_of()
    hold(desk, "low1", 2)
    hold(desk, "low2", 2)
    desk.submit(spec("high", Shape("a100", 4), priority="high", submitted_s=1.0), run_s=LONG_S)
    desk.tell(JobVacated(JobId("low1"), 1, 0.0), at_s=2.0)
    desk.submit(spec("sneak", Shape("a100", 1), priority="high", submitted_s=2.0), run_s=1.0)
    assert desk.started() == ["low1", "low2"]
    desk.tell(JobVacated(JobId("low2"), 1, 0.0), at_s=3.0)
    assert desk.started()[2] == "high"


# ---- across queues

LAB = QueuePolicy("lab", "all", nominal={"gpu": 2.0})
TEAM = QueuePolicy("team", "all", nominal={"gpu": 2.0})


def test_what_was_lent_is_reclaimed() -> None:
    desk = desk_of(LAB, TEAM)
    hold(desk, "own", 2, queue="lab")
    hold(desk, "borrowed", 2, queue="lab", priority="high")
    desk.submit(spec("back", Shape("a100", 2), queue="team", priority="low", submitted_s=1.0), run_s=LONG_S)
    assert len(leaving(desk)) == 1, "the lower value leaves; what is left is within its quota"


def test_what_is_only_partly_borrowed_is_reclaimed_after_a_while() -> None:
    desk = desk_of(LAB, TEAM)
    hold(desk, "big", 4, queue="lab")
    desk.submit(spec("back", Shape("a100", 2), queue="team", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []
    while desk.now_s < 200.0 and not leaving(desk):
        desk.tell(at_s=max(desk.core.wake_s, desk.now_s + 0.1))
    assert leaving(desk) == ["big"]


def test_queues_at_the_edge_of_their_quotas_do_not_throw_each_other_out_without_end() -> None:
    """Every eviction leaves somebody below its quota who could reclaim in its turn; at one moment this must come to an end."""
    queues = tuple(QueuePolicy(f"q{n}", "all", nominal={"gpu": 8.0}) for n in range(4))
    desk = Desk(*(machine(f"a{n}", gpus=8.0) for n in range(4)), policy=Policy(queues=queues, restart_s=0.0))
    luck = random.Random(3)
    shapes = [Shape("a100", 1, num_bundles=size) for size in (1, 2, 3, 5)]
    jobs = [spec(f"j{n}", luck.choice(shapes), queue=f"q{luck.randrange(4)}", submitted_s=float(n)) for n in range(120)]
    desk.submit(*jobs, run_s=LONG_S)
    num_evicted, due = 0, list(desk.launched)
    for _ in range(200):
        desk.launched.clear()
        decision = desk.tell(*(JobStarted(launch.job_id, launch.attempt) for launch in due))
        left = [command for command in decision.commands if isinstance(command, Preempt)]
        num_evicted += len(left)
        decision = desk.tell(*(JobVacated(command.job_id, command.attempt) for command in left))
        due = list(desk.launched)
        if not due and not left:
            break
    else:
        pytest.fail(f"{num_evicted} evicted, and no end")


def test_nobody_reclaims_what_is_within_its_quota() -> None:
    desk = desk_of(LAB, TEAM)
    hold(desk, "own", 2, queue="lab")
    hold(desk, "mine", 2, queue="team")
    desk.submit(spec("more", Shape("a100", 2), queue="team", priority="low", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []
    assert desk.why("more") == "QuotaExhausted"


@pytest.mark.parametrize(
    ("rule", "cls", "expected"), [("Never", "high", 0), ("LowerPriority", "low", 0), ("LowerPriority", "high", 1), ("Any", "low", 1)]
)
def test_reclaiming_follows_the_policy(rule: str, cls: str, expected: int) -> None:
    team = QueuePolicy("team", "all", nominal={"gpu": 2.0}, reclaim_within_cohort=rule)  # type: ignore[arg-type]
    desk = desk_of(LAB, team)
    hold(desk, "b1", 2, queue="lab", priority="low")
    hold(desk, "b2", 2, queue="lab", priority="low")
    desk.submit(spec("back", Shape("a100", 2), queue="team", priority=cls, submitted_s=1.0), run_s=LONG_S)
    assert len(leaving(desk)) == expected


def test_within_a_queue_never_means_never() -> None:
    desk = desk_of(QueuePolicy("lab", nominal={"gpu": 4.0}, within_queue="Never"))
    hold(desk, "low", 4, queue="lab")
    desk.submit(spec("high", Shape("a100", 4), queue="lab", priority="high", submitted_s=1.0), run_s=LONG_S)
    assert leaving(desk) == []
