"""The journal: what was appended is on disk, in order, whole or not at all."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import FabricError, RuntimeFault
from fabric.events import LeaseGranted, NodeCordoned, NodeUncordoned
from fabric.journal import Journal
from fabric.types import Lease
from tests.unit.journal.conftest import url_of

FACTS = [NodeCordoned("n1", "ann"), NodeUncordoned("n1", "bob"), NodeCordoned("n2", "ünal")]


def facts_in(journal: Journal, stream: str = "pool-hot") -> list[tuple[str, dict[str, Any]]]:
    return list(journal.replay(stream))


def test_facts_come_back_in_the_order_in_which_they_were_appended(journal: Journal) -> None:
    for fact in FACTS:
        journal.append("pool-hot", fact)
    assert facts_in(journal) == [
        ("NodeCordoned", {"node_id": "n1", "by": "ann"}),
        ("NodeUncordoned", {"node_id": "n1", "by": "bob"}),
        ("NodeCordoned", {"node_id": "n2", "by": "ünal"}),
    ]


def test_streams_are_apart(journal: Journal) -> None:
    journal.append("pool-hot", FACTS[0])
    journal.append("pool-cold", FACTS[2])
    assert [body["node_id"] for _, body in facts_in(journal, "pool-cold")] == ["n2"]
    assert facts_in(journal, "pool-warm") == []


def test_a_fact_with_parts_comes_back_with_all_of_them(journal: Journal) -> None:
    journal.append("pool-hot", LeaseGranted(Lease("l", "job", "n1", {"GPU": 0.5}), "ann"))
    ((_, body),) = facts_in(journal)
    assert body == {"lease": {"lease_id": "l", "owner": "job", "node_id": "n1", "demand": {"GPU": 0.5}}, "by": "ann"}


def test_facts_and_documents_outlive_the_process_that_wrote_them(journal_url: str) -> None:
    first = Journal(journal_url)
    first.append("pool-hot", FACTS[0])
    first.save("profiler", {"task": {"version": 1}})
    first.close()
    second = Journal(journal_url)
    assert len(facts_in(second)) == 1
    assert second.load("profiler") == {"task": {"version": 1}}


def test_saving_a_document_again_replaces_it_and_no_other(journal: Journal) -> None:
    journal.save("profiler", {"a": 1, "b": [1, 2]})
    journal.save("other", {"a": "kept"})
    journal.save("profiler", {"a": {"new": True}, "c": None})
    assert journal.load("profiler") == {"a": {"new": True}, "b": [1, 2], "c": None}
    assert journal.load("other") == {"a": "kept"}


def test_when_one_document_cannot_be_written_none_is(journal: Journal) -> None:
    journal.save("profiler", {"a": 1})
    with pytest.raises(TypeError):
        journal.save("profiler", {"a": 2, "b": object()})
    assert journal.load("profiler") == {"a": 1}


@dataclass(frozen=True)
class Strange:
    what: object


def test_a_fact_that_is_not_plain_is_refused_and_nothing_written(journal: Journal) -> None:
    with pytest.raises(TypeError, match="does not belong in the journal"):
        journal.append("pool-hot", Strange(object()))
    assert facts_in(journal) == []


def test_every_connection_writes_ahead_and_syncs_fully(tmp_path: Path) -> None:
    journal = Journal(url_of(tmp_path))
    journal.append("pool-hot", FACTS[0])
    for _ in range(2):
        with journal._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "2 is FULL"
    assert (tmp_path / "journal.db-wal").exists()
    with sqlite3.connect(tmp_path / "journal.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_journals_on_one_database_see_each_others_facts(journal_url: str) -> None:
    one, two = Journal(journal_url), Journal(journal_url)
    one.append("pool-hot", FACTS[0])
    two.append("pool-hot", FACTS[1])
    one.append("pool-hot", FACTS[2])
    assert facts_in(one) == facts_in(two)
    assert [kind for kind, _ in facts_in(two)] == ["NodeCordoned", "NodeUncordoned", "NodeCordoned"]


def test_many_processes_may_start_and_write_at_once(journal_url: str) -> None:
    errors: list[BaseException] = []
    ready = threading.Barrier(6)

    def work(number: int) -> None:
        try:
            ready.wait()
            journal = Journal(journal_url)
            for index in range(5):
                journal.append("pool-hot", NodeCordoned(f"{number}-{index}", "ann"))
            journal.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    written = [body["node_id"] for _, body in facts_in(Journal(journal_url))]
    assert sorted(written) == sorted(f"{number}-{index}" for number in range(6) for index in range(5))
    for number in range(6):
        assert [name for name in written if name.startswith(f"{number}-")] == [f"{number}-{index}" for index in range(5)]


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: writes then fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_our_error_and_nothing_is_half_written(tmp_path: Path) -> None:
    journal = Journal(url_of(tmp_path))
    journal.append("pool-hot", FACTS[0])
    journal.save("profiler", {"a": "old", "b": "old"})
    wal_bytes = (tmp_path / "journal.db-wal").stat().st_size
    with full_disk(wal_bytes + 10_000):
        for _ in range(2):
            with pytest.raises(RuntimeFault) as caught:
                journal.append("pool-hot", NodeCordoned("n1", "a" * 100_000))
            assert (caught.value.code, caught.value.hint) == ("journal", "is the disk full, or state_dir not writable?")
        with pytest.raises(RuntimeFault):
            journal.save("profiler", {"a": "new", "b": "x" * 100_000})
    assert len(facts_in(journal)) == 1
    assert journal.load("profiler") == {"a": "old", "b": "old"}
    journal.append("pool-hot", FACTS[1])
    assert len(facts_in(Journal(url_of(tmp_path)))) == 2, "room again: it goes on"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_our_error(tmp_path: Path) -> None:
    Journal(url_of(tmp_path)).close()
    tmp_path.chmod(0o500)
    (tmp_path / "journal.db").chmod(0o400)
    with pytest.raises(RuntimeFault):
        Journal(url_of(tmp_path)).append("pool-hot", FACTS[0])


def test_a_file_opened_read_only_is_our_error_and_stays_as_it_was(tmp_path: Path) -> None:
    Journal(url_of(tmp_path)).append("pool-hot", FACTS[0])
    journal = Journal(url_of(tmp_path))
    with journal._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(RuntimeFault, match="readonly") as caught:
        journal.append("pool-hot", FACTS[1])
    assert caught.value.code == "journal"
    assert len(facts_in(journal)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{file}/deeper/journal.db",
        "sqlite:///{folder}",
        "nonsense",
        "nosuchdb://host/db",
        "mysql+pymysql://h/d",
        "sqlite:///{garbage}",
    ],
    ids=["below a file", "a folder", "no URL", "no such database", "no driver", "no database file"],
)
def test_a_place_where_no_journal_can_be_is_our_error(tmp_path: Path, url: str) -> None:
    file, folder, garbage = tmp_path / "file", tmp_path / "folder", tmp_path / "garbage"
    file.touch()
    folder.mkdir()
    garbage.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(RuntimeFault) as caught:
        Journal(url.format(file=file, folder=folder, garbage=garbage))
    assert caught.value.code == "journal"


def test_a_broken_journal_is_our_error_also_when_it_is_read(tmp_path: Path) -> None:
    journal = Journal(url_of(tmp_path))
    with journal._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE facts")
        connection.exec_driver_sql("DROP TABLE documents")
    for read in (lambda: facts_in(journal), lambda: journal.load("profiler")):
        with pytest.raises(RuntimeFault) as caught:
            read()
        assert caught.value.code == "journal"


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Journal("sqlite:///~/state/journal.db").append("pool-hot", FACTS[0])
    assert (tmp_path / "state" / "journal.db").exists()


def test_what_the_journal_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    Journal(url_of(tmp_path)).append("pool-hot", FACTS[0])
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}, "launch documents may hold secrets"


def test_replay_goes_on_behind_a_number(journal: Journal) -> None:
    numbers = [journal.append("pool-hot", fact) for fact in FACTS]
    assert numbers == sorted(set(numbers))
    assert journal.last_seq("pool-hot") == numbers[-1]
    assert journal.last_seq("pool-cold") == 0
    assert [body["node_id"] for _, body in journal.replay("pool-hot", after_seq=numbers[1])] == ["n2"]
    assert list(journal.replay("pool-hot", after_seq=numbers[2])) == []


def test_replay_reads_a_long_log_in_pieces(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.journal.log.READ_ROWS", 3)
    for count in range(1, 8):
        journal.append("pool-hot", NodeCordoned(f"n{count}", "ann"))
        assert [body["node_id"] for _, body in facts_in(journal)] == [f"n{number}" for number in range(1, count + 1)]


def test_a_reader_reads_while_a_writer_holds_its_lock_and_makes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    Journal(url).append("pool-hot", FACTS[0])
    writer = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    reader = Journal(url, is_reader=True)
    assert len(facts_in(reader)) == 1 and len(reader.newest("pool-hot", "NodeCordoned")) == 1
    writer.execute("ROLLBACK")
    writer.close()
    empty = sqlite3.connect(tmp_path / "empty.db")
    empty.execute("CREATE TABLE other (n)")
    empty.close()
    with pytest.raises(RuntimeFault):
        facts_in(Journal(f"sqlite:///{tmp_path / 'empty.db'}", is_reader=True))
    with pytest.raises(RuntimeFault, match="not there"):
        Journal(f"sqlite:///{tmp_path / 'gone.db'}", is_reader=True)
    assert not (tmp_path / "gone.db").exists(), "an empty journal would keep a copy from being brought back"


def test_the_newest_of_a_kind_are_found_and_counted(journal: Journal) -> None:
    for number, fact in enumerate((*FACTS, FACTS[0])):
        journal.append_all("pool-hot", [fact], wall_s=100.0 + number)
    journal.append_all("pool-cold", [FACTS[0]], wall_s=200.0)
    assert [place.wall_s for place in journal.newest("pool-hot", "NodeCordoned")] == [103.0, 102.0, 100.0]
    assert [place.wall_s for place in journal.newest("pool-hot", "NodeCordoned", limit=2)] == [103.0, 102.0]
    assert [place.wall_s for place in journal.newest("pool-hot", "NodeCordoned", since_s=102.5)] == [103.0]
    first = journal.newest("pool-hot", "NodeCordoned")[-1]
    assert [entry.wall_s for entry in journal.entries("pool-hot", first.seq - 1)] == [100.0, 101.0, 102.0, 103.0]
    assert (journal.count("pool-hot", "NodeCordoned"), journal.count("pool-hot", "NodeCordoned", since_s=102.0)) == (3, 2)
    assert (journal.newest("pool-hot", "JobSubmitted"), journal.count("pool-hot", "JobSubmitted")) == ([], 0)


def test_the_first_fact_since_a_time_is_found_whatever_lies_between(journal: Journal) -> None:
    assert journal.first_since("pool-hot", 0.0) is None
    numbers: list[tuple[float, int]] = []
    for number in range(60):
        at_s = 1000.0 + number // 3  # three happen at a time
        if number % 5 == 4:
            journal.append_all("pool-cold", FACTS[:2], wall_s=at_s)
        numbers.append((at_s, journal.append_all("pool-hot", FACTS[:1], wall_s=at_s).seq))
    for asked_s in (0.0, 999.9, 1000.0, 1000.5, 1007.0, 1019.0):
        assert journal.first_since("pool-hot", asked_s) == next(seq for at_s, seq in numbers if at_s >= asked_s)
    assert journal.first_since("pool-hot", 1019.1) is None
    assert journal.first_since("pool-warm", 0.0) is None


def test_some_documents_may_be_read_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.journal.log.NAMES_PER_QUERY", 2)
    journal.save("jobs", {f"j{n}": {"n": n} for n in range(7)})
    journal.save("others", {"j1": {"n": -1}})
    assert journal.documents("jobs", ["j1", "j5", "gone", "j6"]) == {"j1": {"n": 1}, "j5": {"n": 5}, "j6": {"n": 6}}
    assert journal.documents("jobs", []) == {}


def test_entries_may_be_asked_for_by_kind(journal: Journal) -> None:
    for fact in FACTS:
        journal.append("pool-hot", fact)
    assert [entry.body["by"] for entry in journal.entries("pool-hot", kinds={"NodeUncordoned"})] == ["bob"]


def test_a_row_of_a_newer_schema_is_refused(journal: Journal) -> None:
    journal.append("pool-hot", FACTS[0])
    with journal._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE facts SET schema = 99")
    with pytest.raises(FabricError) as caught:
        facts_in(journal)
    assert caught.value.code == "journal_newer"


def test_one_document_may_be_read_and_forgotten_alone(journal: Journal) -> None:
    journal.save("profiler", {"a": {"x": 1}, "b": 2})
    journal.save("other", {"a": "theirs"})
    assert journal.document("profiler", "a") == {"x": 1}
    journal.forget("profiler", ["a", "none such"])
    assert journal.document("profiler", "a") is None
    assert journal.load("profiler") == {"b": 2}
    assert journal.document("other", "a") == "theirs"
