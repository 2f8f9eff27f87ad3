"""Snapshots: whole or the one before; facts that they cover may go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from fabric.errors import BugError, FabricError, RuntimeFault
from fabric.events import NodeCordoned
from fabric.journal import Journal


def read(journal: Journal, stream: str = "jobs") -> tuple[int, list[bytes]] | None:
    found = journal.load_snapshot(stream)
    return None if found is None else (found[0], list(found[1]))


def fact(number: int) -> NodeCordoned:
    return NodeCordoned(f"n{number}", "ann")


def test_a_snapshot_comes_back_in_its_parts(journal: Journal) -> None:
    assert read(journal) is None
    journal.save_snapshot("jobs", 7, [b"one", b"\0\xff", b""])
    assert read(journal) == (7, [b"one", b"\0\xff", b""])
    assert read(journal, "other") is None


def test_a_snapshot_of_nothing_is_a_snapshot(journal: Journal) -> None:
    journal.save_snapshot("jobs", 0, [])
    assert read(journal) == (0, [])


def test_the_newest_snapshot_replaces_the_one_before_and_no_other(journal: Journal) -> None:
    journal.save_snapshot("other", 3, [b"theirs"])
    for seq in (5, 9, 9):
        journal.save_snapshot("jobs", seq, [b"a%d" % seq, b"b"])
    assert read(journal) == (9, [b"a9", b"b"])
    assert read(journal, "other") == (3, [b"theirs"])
    with journal._engine.connect() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM snapshots").scalar()
    assert count == (2 + 1) + (1 + 1), "old parts are gone"


def test_the_old_snapshot_counts_until_the_new_one_is_whole(journal: Journal) -> None:
    journal.save_snapshot("jobs", 5, [b"old"])

    def breaks_off() -> Iterator[bytes]:
        yield b"new"
        assert read(journal) == (5, [b"old"])
        raise OSError("the machine goes down")

    with pytest.raises(RuntimeFault):
        journal.save_snapshot("jobs", 9, breaks_off())
    assert read(journal) == (5, [b"old"])
    journal.save_snapshot("jobs", 10, [b"newer"])
    assert read(journal) == (10, [b"newer"])


def test_others_write_while_a_snapshot_is_made(journal: Journal) -> None:
    def slow() -> Iterator[bytes]:
        for number in range(3):
            journal.append("jobs", fact(number))
            yield b"part"

    journal.save_snapshot("jobs", 0, slow())
    assert len(list(journal.replay("jobs"))) == 3


def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_to_its_end(journal: Journal) -> None:
    journal.save_snapshot("jobs", 5, [b"a", b"b"])
    found = journal.load_snapshot("jobs")
    assert found is not None
    assert next(found[1]) == b"a"
    journal.save_snapshot("jobs", 6, [b"c"])
    assert list(found[1]) == [b"b"]


def test_a_snapshot_that_is_replaced_between_two_reads_is_still_read_whole(journal: Journal, journal_url: str) -> None:
    journal.save_snapshot("jobs", 5, [b"a", b"b"])
    other = Journal(journal_url)
    replaced: list[int] = []

    def replace(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "FROM snapshots" in statement and not replaced:
            replaced.append(6)
            other.save_snapshot("jobs", 6, [b"c"])

    event.listen(journal._engine, "after_cursor_execute", replace)
    assert read(journal) == (5, [b"a", b"b"])
    assert read(journal) == (6, [b"c"])
    other.close()


def test_a_snapshot_of_a_newer_release_is_refused(journal: Journal) -> None:
    journal.save_snapshot("jobs", 5, [b"a"])
    with journal._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE snapshots SET schema = 99")
    with pytest.raises(FabricError) as caught:
        journal.load_snapshot("jobs")
    assert caught.value.code == "journal_newer"


def test_only_facts_that_a_snapshot_covers_can_be_pruned(journal: Journal) -> None:
    numbers = [journal.append("jobs", fact(number)) for number in range(6)]
    with pytest.raises(BugError):
        journal.prune("jobs", numbers[0] + 1)
    journal.save_snapshot("jobs", numbers[3], [b"state"])
    with pytest.raises(BugError):
        journal.prune("jobs", numbers[5])
    assert journal.prune("jobs", numbers[3]) == 3
    assert [entry.seq for entry in journal.entries("jobs")] == numbers[3:]
    assert journal.prune("jobs", numbers[3]) == 0


def test_pruning_keeps_the_kinds_that_it_is_told_and_other_streams(journal: Journal) -> None:
    journal.append("jobs", fact(1))
    journal.append("other", fact(2))
    last = journal.append("jobs", fact(3))
    journal.save_snapshot("jobs", last, [])
    assert journal.prune("jobs", last, keep={"NodeCordoned"}) == 0
    assert journal.prune("jobs", last, keep={"NodeUncordoned"}) == 1
    assert len(list(journal.replay("other"))) == 1


def test_numbers_grow_on_although_everything_was_pruned(journal: Journal) -> None:
    last = [journal.append("jobs", fact(number)) for number in range(5)][-1]
    journal.save_snapshot("jobs", last, [])
    journal.prune("jobs", last + 1)
    new = journal.append("jobs", fact(9))
    assert new > last, "the tail behind the snapshot is found by number"
    assert [entry.seq for entry in journal.entries("jobs", after_seq=last)] == [new]
