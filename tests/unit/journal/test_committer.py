"""Group commit: many callers, few transactions, an answer to each."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from fabric.errors import RuntimeFault, UserError
from fabric.events import NodeCordoned
from fabric.journal import Batch, Committer, Journal, Written

CALLERS = 20


@pytest.fixture
def committer(journal: Journal) -> Iterator[Committer]:
    made = Committer(journal)
    yield made
    made.close()


def names_in(journal: Journal) -> list[str]:
    return [body["node_id"] for _, body in journal.replay("jobs")]


def fact(name: str) -> NodeCordoned:
    return NodeCordoned(name, "ann")


def at_once(num_callers: int, committer: Committer) -> tuple[list[Written], list[BaseException]]:
    """Each caller commits two facts, all at the same time."""
    written: list[Written] = []
    errors: list[BaseException] = []

    def call(number: int) -> None:
        try:
            written.append(committer.commit("jobs", [fact(f"{number}a"), fact(f"{number}b")]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(num_callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return written, errors


def test_what_was_committed_is_there(journal: Journal, committer: Committer) -> None:
    written = committer.commit("jobs", [fact("n1"), fact("n2")], documents={"x": 1}, key="k", stands_for="n1", wall_s=3.0)
    assert [entry.seq for entry in journal.entries("jobs")][-1] == written.seq
    assert names_in(journal) == ["n1", "n2"]
    assert journal.load("jobs") == {"x": 1}
    assert committer.commit("jobs", [fact("n3")], key="k", stands_for="n3") == (0, "n1")


def test_many_callers_each_get_their_own_number_and_facts_stay_together(journal: Journal, committer: Committer) -> None:
    written, errors = at_once(CALLERS, committer)
    assert errors == []
    names = names_in(journal)
    assert sorted(names) == sorted(f"{number}{half}" for number in range(CALLERS) for half in "ab")
    assert all(first[:-1] == second[:-1] for first, second in zip(names[::2], names[1::2], strict=True))
    assert sorted(one.seq for one in written) == [entry.seq for entry in journal.entries("jobs")][1::2]


def test_those_who_wait_share_a_transaction(journal: Journal, committer: Committer) -> None:
    transactions: list[object] = []
    event.listen(journal._engine, "commit", transactions.append)
    with journal._lock:  # the disk is busy with somebody's write
        answers = [committer.submit([Batch("jobs", [fact(f"n{number}")])]) for number in range(CALLERS)]
    numbers = [answer.result()[0].seq for answer in answers]
    assert names_in(journal) == [f"n{number}" for number in range(CALLERS)], "in the order in which they came"
    assert numbers == [entry.seq for entry in journal.entries("jobs")]
    assert len(transactions) <= 2


def test_a_bad_batch_hurts_its_own_caller_alone(journal: Journal, committer: Committer) -> None:
    with journal._lock:
        good = committer.submit([Batch("jobs", [fact("n1")])])
        with pytest.raises(UserError):
            committer.submit([Batch("jobs", [fact("n2")], key="", stands_for="n2")])
        with pytest.raises(TypeError):
            committer.submit([Batch("jobs", [NodeCordoned("n3", object())])])  # type: ignore[arg-type]
    good.result()
    assert names_in(journal) == ["n1"]


def test_when_the_database_fails_every_caller_is_told_and_the_next_ones_are_served(journal: Journal, committer: Committer) -> None:
    with journal._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE facts RENAME TO away")
    written, errors = at_once(CALLERS, committer)
    assert written == []
    assert [getattr(error, "code", error) for error in errors] == ["journal"] * CALLERS
    with journal._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO facts")
    committer.commit("jobs", [fact("n1")])
    assert names_in(journal) == ["n1"]


def test_the_same_key_from_many_callers_at_once_is_taken_by_one(journal: Journal, committer: Committer) -> None:
    with journal._lock:
        tries = [committer.submit([Batch("jobs", [fact(f"n{n}")], key="k", stands_for=f"n{n}")]) for n in range(CALLERS)]
    assert [answer.result()[0].taken_by for answer in tries] == [None] + ["n0"] * (CALLERS - 1)
    assert names_in(journal) == ["n0"]


def test_closing_writes_what_was_handed_in_and_refuses_the_rest(journal: Journal) -> None:
    committer = Committer(journal)
    answers = [committer.submit([Batch("jobs", [fact(f"n{number}")])]) for number in range(CALLERS)]
    committer.close()
    assert all(answer.done() for answer in answers)
    assert len(names_in(journal)) == CALLERS
    with pytest.raises(RuntimeFault) as caught:
        committer.commit("jobs", [fact("late")])
    assert caught.value.code == "journal"
    committer.close()


def test_an_answer_cannot_be_cancelled_because_it_may_be_on_disk(journal: Journal, committer: Committer) -> None:
    with journal._lock:
        answer = committer.submit([Batch("jobs", [fact("n1")])])
        assert not answer.cancel()
    assert answer.result()[0].seq > 0


def test_a_long_queue_is_written_in_several_transactions(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.journal.committer.MAX_FACTS", 10)
    committer = Committer(journal)
    transactions: list[object] = []
    event.listen(journal._engine, "commit", transactions.append)
    with journal._lock:
        answers = [committer.submit([Batch("jobs", [fact(f"n{number}")])]) for number in range(50)]
    for answer in answers:
        answer.result()
    committer.close()
    assert len(transactions) >= 10
    assert names_in(journal) == [f"n{number}" for number in range(50)]
