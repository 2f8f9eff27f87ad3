"""The console's jobs and leases are those of the scheduler, whether it followed along or came back from disk."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.console.job_row import PENDING, STATES
from fabric.console.read_model import ReadModel
from fabric.console.restored import HORIZON_S, restored
from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobStarted
from fabric.journal import Entry
from fabric.plane.driver import STREAM
from tests.jobs import CATALOGUE, spec
from tests.journalled_desk import BEGIN_S, JournalledDesk


def follow(model: ReadModel, desk: JournalledDesk) -> None:
    for entry in desk.journal.entries(STREAM, model.seq):
        model.apply(entry)


def compared(model: ReadModel) -> object:
    """All that two models have to agree on; why a job waits, the scheduler tells."""
    rows = [dataclasses.replace(row, why="", detail="") if row.state == PENDING else row for row in model.table.rows]
    return rows, sorted(model.book.rows()), model.seq, model.table.counts(), model.book.by_node().keys()


def as_the_core_has_it(model: ReadModel, desk: JournalledDesk) -> None:
    prices, now_s = model.table.prices, desk.now_s
    for job in desk.core.jobs.values():
        row = model.table.rows[model.table.numbers[job.spec.job_id]]
        spent = job.spent_usd
        if job.grant is not None:
            spent += desk.core.book.standing.usd_per_s(job.grant.option) * (now_s - job.dispatched_s)
            assert row.nodes == job.grant.nodes
        assert (STATES[row.state], row.attempt, row.priority) == (job.state.value, job.attempt, job.spec.priority)
        if job.state.is_final:
            assert (row.why, row.detail) == (job.why, job.detail)
        if row.flavor:
            assert row.cost_usd(prices, now_s) == pytest.approx(spent)
        assert row.ended_s == (job.ended_s if job.state.is_final else None)
        held = {node for node, jobs in model.book.by_node().items() for each, _ in jobs if model.table.rows[each] is row}
        assert held == set(job.grant.nodes if job.grant is not None else ())
        assert model.book.is_open(model.table.numbers[row.id], row.attempt) == job.is_holding


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), num_steps=st.integers(1, 60), snapshot_at=st.integers(0, 60), pace=st.integers(1, 7))
def test_a_model_that_came_back_equals_one_that_followed_along(seed: int, num_steps: int, snapshot_at: int, pace: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        desk, followed = JournalledDesk(Path(folder)), ReadModel(CATALOGUE)
        for step in range(num_steps):
            desk.step(chance)
            if step == snapshot_at:
                desk.save_snapshot()
            if step % pace == 0:
                follow(followed, desk)
        follow(followed, desk)
        as_the_core_has_it(followed, desk)
        back = restored(desk.journal, CATALOGUE, desk.now_s)
        assert compared(back) == compared(followed)
        desk.journal.close()


def test_facts_that_come_again_change_nothing(tmp_path: Path) -> None:
    desk, once, twice = JournalledDesk(tmp_path), ReadModel(CATALOGUE), ReadModel(CATALOGUE)
    for _ in range(80):
        desk.step(random.Random(len(desk.core.jobs)))
    follow(once, desk)
    for entry in desk.journal.entries(STREAM):
        twice.apply(entry)
        twice.apply(entry)
    assert compared(twice) == compared(once)


def test_a_lease_that_began_before_the_horizon_is_there_after_a_restart(tmp_path: Path) -> None:
    desk = JournalledDesk(tmp_path)
    desk.submit(spec("long", submitted_s=BEGIN_S), spec("short", submitted_s=BEGIN_S), run_s=60.0)
    desk.tell(JobStarted(JobId("long"), 1), JobStarted(JobId("short"), 1))
    desk.tell(JobEnded(JobId("short"), 1, "ok"), at_s=BEGIN_S + 60)
    desk.tell(at_s=BEGIN_S + 2 * HORIZON_S)
    desk.submit(spec("new", Shape("a100", 1), submitted_s=desk.now_s))
    desk.save_snapshot()
    back = restored(desk.journal, CATALOGUE, desk.now_s)
    held = {back.table.rows[job].id for jobs in back.book.by_node().values() for job, _ in jobs}
    shown = {back.table.rows[row[4]].id: row[6] for row in back.book.rows() if row[0] == "lease"}
    assert held == {"long", "new"} and shown == {"long": BEGIN_S, "new": desk.now_s}, "short ended before the horizon"
    desk.tell(JobEnded(JobId("long"), 1, "ok"), at_s=desk.now_s + 5)
    follow(back, desk)
    assert {back.table.rows[job].id for jobs in back.book.by_node().values() for job, _ in jobs} == {"new"}


def test_another_priority_is_shown(tmp_path: Path) -> None:
    desk, model = JournalledDesk(tmp_path), ReadModel(CATALOGUE)
    desk.submit(spec("one", priority="low", submitted_s=BEGIN_S))
    follow(model, desk)
    model.apply(Entry(model.seq + 1, BEGIN_S + 1, "JobReprioritised", {"job_id": "one", "priority": "high", "by": "ann"}))
    assert model.view(0, frozenset(), BEGIN_S + 2)["priority"] == "high"


def test_a_fact_that_cannot_be_read_does_not_stop_those_behind_it(tmp_path: Path) -> None:
    desk, model = JournalledDesk(tmp_path), ReadModel(CATALOGUE)
    desk.submit(spec("one", submitted_s=BEGIN_S))
    follow(model, desk)
    for body in ({"job_id": "one"}, {"job_id": "one", "attempt": 2, "grant": {"option": [], "nodes": 7}}):
        model.apply(Entry(model.seq + 1, BEGIN_S, "JobDispatched", body))
    before = model.seq
    desk.tell(JobStarted(JobId("one"), 1), JobEnded(JobId("one"), 1, "ok"), at_s=BEGIN_S + 5)
    for entry in list(desk.journal.entries(STREAM))[-2:]:
        model.apply(entry._replace(seq=entry.seq + 2))
    assert model.seq > before and model.table.counts() == {"SUCCEEDED": 1}


def test_a_fact_of_a_later_release_is_passed_over(tmp_path: Path) -> None:
    desk, model = JournalledDesk(tmp_path), ReadModel(CATALOGUE)
    desk.submit(spec("one", submitted_s=BEGIN_S))
    follow(model, desk)
    before = compared(model)
    model.apply(Entry(model.seq, BEGIN_S + 1, "JobPraised", {"job_id": "one", "by": "ann"}))
    assert compared(model) == before and model.newest_s == BEGIN_S + 1
