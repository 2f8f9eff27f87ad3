"""Batches: facts, documents and an idempotency key, written whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from fabric import codec
from fabric.errors import UserError
from fabric.events import NodeCordoned
from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Option, Shape
from fabric.job_events import JOURNALLED, JobDispatched, JobEnded, JobStarted, JobSubmitted, PolicyApplied
from fabric.journal import Batch, Journal

LAUNCH = LaunchSpec("program", "python train.py", env={"A": "ü"}, secrets={"TOKEN": "x"})


def spec(name: str) -> JobSpec:
    shapes = (Shape("a100", 4, num_bundles=2),)
    return JobSpec(JobId(name), name, "ann", "research", "default", "program", shapes, "train", 1.5, tags={"team": "vision"})


def submitted(name: str) -> JobSubmitted:
    return JobSubmitted(spec(name), "ann")


def facts_in(journal: Journal, stream: str = "jobs") -> list[Any]:
    return [codec.fact_of(JOURNALLED, kind, body) for kind, body in journal.replay(stream)]


def test_facts_of_the_job_plane_come_back_as_they_were(journal: Journal) -> None:
    facts = [
        submitted("j1"),
        JobDispatched(JobId("j1"), 1, Grant(Option(0, "a100-80g", 2, 8.0, 3.5), ("n1", "n2")), "Fit"),
        JobStarted(JobId("j1"), 1, ("n1", "n2")),
        PolicyApplied(1, {"spec": {"classes": [1, None, {"x": 0.5}]}}, "bob"),
        JobEnded(JobId("j1"), 1, "error", "Schlüssel fehlt", 3),
    ]
    written = journal.append_all("jobs", facts, wall_s=12.5)
    assert facts_in(journal) == facts
    entries = list(journal.entries("jobs"))
    assert written.seq == entries[-1].seq
    assert {entry.wall_s for entry in entries} == {12.5}


def test_each_batch_is_told_the_number_of_its_own_last_fact(journal: Journal) -> None:
    journal.append("jobs", submitted("first"))
    batches = [
        Batch("jobs", [submitted("a"), submitted("b")]),
        Batch("other", [submitted("x")]),
        Batch("jobs", documents={"policy": 1}),
        Batch("jobs", [submitted("c")]),
    ]
    numbers = [written.seq for written in journal.write(batches)]
    seq_of = {entry.body["spec"]["job_id"]: entry.seq for stream in ("jobs", "other") for entry in journal.entries(stream)}
    assert numbers == [seq_of["b"], seq_of["x"], 0, seq_of["c"]]
    assert seq_of["a"] < seq_of["b"] < seq_of["c"]


def test_a_key_stands_for_the_first_job_that_took_it(journal: Journal) -> None:
    first = journal.append_all("jobs", [submitted("j1")], documents={"j1": LAUNCH}, key="nightly", stands_for="j1")
    again = journal.append_all("jobs", [submitted("j2")], documents={"j2": LAUNCH}, key="nightly", stands_for="j2")
    assert (first.taken_by, again) == (None, (0, "j1"))
    assert facts_in(journal) == [submitted("j1")]
    assert journal.load("jobs").keys() == {"j1"}
    assert journal.ids_of("jobs", ["nightly", "weekly"]) == {"nightly": "j1"}


def test_a_key_in_another_stream_is_another_key(journal: Journal) -> None:
    journal.append_all("jobs", [submitted("j1")], key="nightly", stands_for="j1")
    assert journal.append_all("models", [submitted("m1")], key="nightly", stands_for="m1").taken_by is None


def test_in_one_transaction_only_the_batches_with_a_taken_key_are_left_out(journal: Journal) -> None:
    journal.append_all("jobs", [submitted("old")], key="k0", stands_for="old")
    batches = [
        Batch("jobs", [submitted("j1")], key="k1", stands_for="j1"),
        Batch("jobs", [submitted("j2")], key="k0", stands_for="j2"),
        Batch("jobs", [submitted("j3")], key="k1", stands_for="j3"),
        Batch("jobs", [submitted("j4")]),
        Batch("jobs", [submitted("j5"), submitted("j6")], key="array", stands_for="j5"),
    ]
    assert [written.taken_by for written in journal.write(batches)] == [None, "old", "j1", None, None]
    assert [fact.spec.job_id for fact in facts_in(journal)] == ["old", "j1", "j4", "j5", "j6"]


def test_a_key_outlives_the_process_that_took_it(journal_url: str) -> None:
    first = Journal(journal_url)
    first.append_all("jobs", [submitted("j1")], key="nightly", stands_for="j1")
    first.close()
    assert Journal(journal_url).append_all("jobs", [submitted("j2")], key="nightly", stands_for="j2").taken_by == "j1"


def test_thousands_of_keys_go_in_one_transaction(journal: Journal) -> None:
    batches = [Batch("jobs", [submitted(f"j{n}")], {f"j{n}": n}, key=f"k{n}", stands_for=f"j{n}") for n in range(1200)]
    assert {written.taken_by for written in journal.write(batches)} == {None}
    assert [written.taken_by for written in journal.write(batches)] == [f"j{n}" for n in range(1200)]
    assert len(facts_in(journal)) == len(journal.load("jobs")) == 1200


def test_a_launch_document_is_stored_with_its_submission(journal: Journal) -> None:
    journal.append_all("jobs", [submitted("j1")], documents={"j1": LAUNCH})
    assert codec.decode(LaunchSpec, journal.document("jobs", "j1")) == LAUNCH


def test_the_last_of_two_documents_of_one_name_stays(journal: Journal) -> None:
    journal.write([Batch("jobs", documents={"policy": 1}), Batch("jobs", documents={"policy": 2})])
    assert journal.load("jobs") == {"policy": 2}


def test_nothing_is_written_when_one_fact_or_document_is_not_plain(journal: Journal) -> None:
    bad = PolicyApplied(1, {"x": object()}, "ann")
    for batches in (
        [Batch("jobs", [submitted("j1"), bad])],
        [Batch("jobs", [submitted("j1")]), Batch("jobs", documents={"x": object()})],
    ):
        with pytest.raises(TypeError, match="does not belong in the journal"):
            journal.write(batches)
    assert facts_in(journal) == []
    assert journal.load("jobs") == {}


def test_the_story_of_a_job_is_its_facts_in_order(journal: Journal) -> None:
    one, other = JobId("j1"), JobId("j2")
    journal.append_all("jobs", [submitted("j1"), submitted("j2"), JobStarted(one, 1), JobStarted(other, 1)])
    journal.append_all("other", [submitted("j1")])
    journal.append_all("jobs", [PolicyApplied(1, {}, "ann"), JobEnded(one, 1, "ok")])
    assert [entry.kind for entry in journal.story("jobs", "j1")] == ["JobSubmitted", "JobStarted", "JobEnded"]
    assert journal.story("jobs", "j3") == []


def test_a_node_has_a_story_too(journal: Journal) -> None:
    journal.append_all("pool-hot", [NodeCordoned("n1", "ann"), NodeCordoned("n2", "bob")])
    assert [entry.body["by"] for entry in journal.story("pool-hot", "n2")] == ["bob"]


@pytest.mark.parametrize("name", ["", "k" * 513, "a\0b", "\ud800"], ids=["empty", "too long", "NUL", "half a character"])
def test_a_key_that_no_database_takes_is_the_users_error(journal: Journal, name: str) -> None:
    with pytest.raises(UserError) as caught:
        journal.append_all("jobs", [submitted("j1")], key=name, stands_for="j1")
    assert caught.value.code == "bad_key"
    assert facts_in(journal) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "𝔘ñï", "\u2028'\";--"], ids=["NUL", "half a character", "astral", "quotes"])
def test_any_text_may_stand_in_a_fact(journal: Journal, text: str) -> None:
    journal.append("jobs", JobEnded(JobId("j1"), 1, "error", text))
    assert [fact.message for fact in facts_in(journal)] == [text]
