"""A plane that comes back from its snapshot is the plane that made it: states, shares, money, and what listings show."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric import codec
from fabric.job import AttemptUse, JobId, Shape
from fabric.job_events import JOURNALLED, JobEnded, JobReprioritised, JobStarted, JobSubmitted, JobVacated, NodesSeen
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.plane.restore import restore, snapshot_of
from fabric.plane.views import Aside, in_order
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Core
from tests.jobs import CATALOGUE, Desk, machine, spec

QUEUES = (QueuePolicy("default", budget_usd=5000.0), QueuePolicy("other"))
POLICY = Policy(queues=QUEUES)
BEGIN_S = 1.7e9


def a_desk() -> Desk:
    """One job has ended, three run, one waits; wall-clock times, as in a running fabric."""
    desk = Desk(machine("a1"), policy=POLICY)
    desk.tell(at_s=BEGIN_S)
    desk.submit(*(spec(f"j{n}", queue="other" if n % 2 else "default", submitted_s=BEGIN_S) for n in range(5)), run_s=3600.0)
    desk.tell(*(JobStarted(JobId(f"j{n}"), 1) for n in range(4)), at_s=BEGIN_S + 1)
    desk.tell(JobEnded(JobId("j0"), 1, "ok"), at_s=BEGIN_S + 300)
    desk.submit(spec("late", submitted_s=BEGIN_S), run_s=10.0)
    return desk


def test_shares_spent_money_states_and_what_listings_show_come_back(tmp_path: Path) -> None:
    desk = a_desk()
    shown = {JobId("j0"): Aside({"asks": "gpu"}, desk.launched[0].grant.option, ("a1",), BEGIN_S + 1, 0, 7.0)}
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.save_snapshot(STREAM, 0, snapshot_of(desk.core, shown))
    restored = restore(journal, Core(CATALOGUE, POLICY, is_planning=False))
    live, back = desk.core.book, restored.core.book

    assert restored.last_s == live.now_s == BEGIN_S + 300
    assert {key: (job.state, job.attempt) for key, job in back.jobs.items()} == {
        key: (job.state, job.attempt) for key, job in live.jobs.items()
    }
    assert back.held.keys() == live.held.keys()
    for later_s in (0.0, 60.0, 7200.0):
        now_s = live.now_s + later_s
        for queue in ("default", "other"):
            assert back.standing.shares(queue, "default", now_s) == pytest.approx(live.standing.shares(queue, "default", now_s))
            assert live.standing.queue_share(queue, now_s) > 0
        assert back.standing.spent_usd("default", now_s) == pytest.approx(live.standing.spent_usd("default", now_s))
    assert 0 < live.standing.spent_usd("default", live.now_s) < 1.0
    aside = restored.asides[JobId("j0")]
    before = shown[JobId("j0")]
    assert (aside.option, aside.nodes, aside.started_s, aside.exit_code) == (before.option, ("a1",), BEGIN_S + 1, 0)
    assert aside.summary is None, "read from the stored documents, once it is asked for"


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_class_that_was_set_after_the_submission_comes_back(with_snapshot: bool, tmp_path: Path) -> None:
    policy = Policy(classes=(PriorityClass("high", value=1), PriorityClass("low")))
    desk = Desk(machine("a1"), policy=policy)
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}")
    specs = [spec(name, Shape("a100", 4), priority="low", submitted_s=float(n)) for n, name in enumerate(("runs", "first", "second"))]
    facts = [JobSubmitted(one, "ann") for one in specs]
    facts += desk.tell(*facts).facts
    raised = [JobReprioritised(JobId(name), "high", "ops") for name in ("runs", "second")]
    desk.tell(*raised)
    if with_snapshot:
        journal.save_snapshot(STREAM, 0, snapshot_of(desk.core, {}))
    else:
        journal.append_all(STREAM, [*facts, *raised])
    core = restore(journal, Core(CATALOGUE, policy, is_planning=False)).core
    assert {name: job.spec.priority for name, job in core.jobs.items()} == {"runs": "high", "first": "low", "second": "high"}
    assert {name: job.cls.name for name, job in core.jobs.items() if job.cls} == {"runs": "high", "first": "low", "second": "high"}
    assert [job.spec.name for job in in_order(core)] == ["second", "first"]
    assert core.book.standing.held_values["default"] == {1: 1, **({} if with_snapshot else {0: 0})}


def test_facts_that_a_snapshot_is_ahead_of_change_nothing_when_they_are_replayed(tmp_path: Path) -> None:
    desk = Desk(machine("a1"), policy=POLICY)
    facts = [fact for fact in desk.submit(spec("one"), run_s=60.0).facts if type(fact) is not NodesSeen]
    assert [type(fact).__name__ for fact in facts] == ["JobDispatched"]
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.save_snapshot(STREAM, 0, snapshot_of(desk.core, {}))
    journal.append_all(STREAM, facts)
    job = restore(journal, Core(CATALOGUE, POLICY, is_planning=False)).core.jobs[JobId("one")]
    assert (job.state, job.attempt) == ("ADMITTED", 1)


def test_what_attempts_used_comes_back_and_counts_once(tmp_path: Path) -> None:
    desk, job_id = a_desk(), JobId("j0")
    use = AttemptUse(wall_s=10.0, cpu_asked_s=20.0, cpu_s=10.0, peak_memory_bytes=7, gpu_seen_s=10.0, gpu_busy_s=4.0)
    aside = Aside({})
    for attempt in (1, 1, 2):  # a runner tells it again where it got no answer
        aside.note(JobVacated(job_id, attempt, use=use), BEGIN_S)
    assert aside.use is not None and (aside.use.wall_s, aside.use.cpu_s, aside.use.gpu_busy_s) == (20.0, 20.0, 8.0)
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.save_snapshot(STREAM, 0, snapshot_of(desk.core, {job_id: aside, JobId("j1"): Aside({})}))
    journal.append(STREAM, JobEnded(job_id, 2, "ok", use=use))
    restored = restore(journal, Core(CATALOGUE, POLICY, is_planning=False))
    assert restored.asides[job_id].use == aside.use and restored.asides[JobId("j1")].use is None


def test_a_fact_of_a_release_that_did_not_measure_is_read() -> None:
    body = {"job_id": "j", "attempt": 1, "outcome": "ok", "message": "", "exit_code": 0}
    assert codec.fact_of(JOURNALLED, "JobEnded", body) == JobEnded(JobId("j"), 1, "ok", exit_code=0)
