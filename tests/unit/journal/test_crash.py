"""What is left after a kill -9, after a full disk, and of an earlier release."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from fabric import codec
from fabric.errors import RuntimeFault
from fabric.events import JOURNALLED, LeaseGranted, NodeCordoned
from fabric.journal import Batch, Committer, Journal
from fabric.types import Lease
from tests.unit.journal.conftest import url_of

RECORDED = Path(__file__).parent / "recorded"
PAYLOAD = "x" * 2000

APPENDER = """
import sys, threading
from fabric.events import NodeCordoned
from fabric.journal import Committer, Journal

journal = Journal(sys.argv[1])
committer = Committer(journal)
out = threading.Lock()

def work(name):
    for number in range(1_000_000):
        facts = [NodeCordoned(f"{name}-{number}-{part}", "x" * 200) for part in range(3)]
        committer.commit("jobs", facts, documents={f"{name}": number}, key=f"{name}-{number}", stands_for=name)
        with out:
            print(name, number, flush=True)

for name in "abcd":
    threading.Thread(target=work, args=(name,)).start()
"""
SNAPSHOTTER = """
import sys
from fabric.journal import Journal

journal = Journal(sys.argv[1])
for seq in range(1_000_000):
    journal.save_snapshot("jobs", seq, (b"%d " % seq + bytes(5000) for _ in range(20)))
    print(seq, flush=True)
"""


def killed_after(lines: int, program: str, url: str) -> list[list[str]]:
    """What a process had acknowledged when SIGKILL hit it, in the middle of its work."""
    command = [sys.executable, "-c", program, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    # A line may have been cut off: then it was not acknowledged.
    return [line.split() for line in seen if line.endswith("\n")]


@pytest.mark.parametrize("lines", [1, 120])
def test_after_kill_9_every_acknowledged_fact_is_there_and_no_batch_in_part(journal_url: str, lines: int) -> None:
    acknowledged = killed_after(lines, APPENDER, journal_url)
    journal = Journal(journal_url)
    written = [body["node_id"] for _, body in journal.replay("jobs")]
    documents = journal.load("jobs")
    for name in "abcd":
        last = max((int(number) for who, number in acknowledged if who == name), default=-1)
        own = [one for one in written if one.startswith(f"{name}-")]
        num_batches = len(own) // 3
        assert num_batches in (last + 1, last + 2), "what was acknowledged, and at most the one that was under way"
        assert own == [f"{name}-{number}-{part}" for number in range(num_batches) for part in range(3)]
        assert documents.get(name, -1) == num_batches - 1, "facts and documents together"
        keys = [f"{name}-{number}" for number in range(num_batches + 1)]
        assert journal.ids_of("jobs", keys) == dict.fromkeys(keys[:-1], name)
    journal.append("jobs", NodeCordoned("after", "ann"))
    assert [body["node_id"] for _, body in journal.replay("jobs")] == [*written, "after"]


def test_after_kill_9_a_snapshot_is_whole(journal_url: str) -> None:
    acknowledged = killed_after(3, SNAPSHOTTER, journal_url)
    journal = Journal(journal_url)
    found = journal.load_snapshot("jobs")
    assert found is not None
    seq, chunks = found
    assert seq in (int(acknowledged[-1][0]), int(acknowledged[-1][0]) + 1)
    assert [chunk.split(b" ")[0] for chunk in chunks] == [b"%d" % seq] * 20
    journal.save_snapshot("jobs", 7, [b"on"])
    assert journal.load_snapshot("jobs") is not None


@contextlib.contextmanager
def full(journal: Journal) -> Iterator[None]:
    """The database may not grow by a page."""
    with journal._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    try:
        yield
    finally:
        with journal._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1073741823")


def check_that_a_full_disk_leaves_nothing_half_written(journal: Journal, disk_is_full: contextlib.AbstractContextManager[None]) -> None:
    journal.append("jobs", NodeCordoned("n0", "ann"))
    journal.save_snapshot("jobs", 1, [b"old"])
    committer = Committer(journal)
    with disk_is_full:
        for _ in range(3):
            with pytest.raises(RuntimeFault, match=r"full|I/O") as caught:
                batch = Batch("jobs", [NodeCordoned(f"n{i}", PAYLOAD) for i in range(200)], {"d": PAYLOAD}, key="k", stands_for="n")
                committer.submit([batch]).result()
            assert caught.value.code == "journal"
            assert "disk full" in str(caught.value.hint)
        with pytest.raises(RuntimeFault):
            journal.save_snapshot("jobs", 2, [bytes(100_000)] * 20)
        assert [body["node_id"] for _, body in journal.replay("jobs")] == ["n0"], "it can still be read"
    assert journal.ids_of("jobs", ["k"]) == {}
    assert journal.load("jobs") == {}
    found = journal.load_snapshot("jobs")
    assert found is not None
    assert list(found[1]) == [b"old"]
    committer.commit("jobs", [NodeCordoned("n1", "ann")], key="k", stands_for="n1")
    journal.save_snapshot("jobs", 2, [b"new"])
    assert [body["node_id"] for _, body in journal.replay("jobs")] == ["n0", "n1"], "room again: it goes on"
    committer.close()


def test_a_full_database_leaves_nothing_half_written(sqlite_journal: Journal) -> None:
    check_that_a_full_disk_leaves_nothing_half_written(sqlite_journal, full(sqlite_journal))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_file_system_leaves_nothing_half_written(small_disk: Path) -> None:
    journal = Journal(url_of(small_disk))
    check_that_a_full_disk_leaves_nothing_half_written(journal, filled(small_disk))
    journal.close()


def test_the_recorded_journal_of_an_earlier_release_opens(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as old:
        old.executescript((RECORDED / "release-0.1.0.sql").read_text())
    check_the_recorded(url_of(tmp_path))


def test_the_recorded_journal_of_an_earlier_release_opens_on_postgresql(postgres_url: str) -> None:
    script = (RECORDED / "release-0.1.0.sql").read_text().replace("seq INTEGER NOT NULL", "seq SERIAL NOT NULL")
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip() and statement not in ("BEGIN TRANSACTION", "COMMIT"):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("SELECT setval('facts_seq_seq', 7)")
    engine.dispose()
    check_the_recorded(postgres_url)


def check_the_recorded(url: str) -> None:
    journal = Journal(url)
    facts = [codec.fact_of(JOURNALLED, kind, body) for kind, body in journal.replay("pool-hot")]
    assert [type(fact).__name__ for fact in facts] == [
        "NodeCordoned", "NodeUncordoned", "LeaseGranted", "NodeDrainRequested", "NodeDrainRefused", "LeaseReleased",
    ]  # fmt: skip
    assert facts[2] == LeaseGranted(Lease("l1", "job", "n2", {"GPU": 0.5}), "ünal")
    assert journal.load("profiler") == {"task@1": {"version": 1, "task": "task@1"}}
    assert journal.append_all("pool-hot", [NodeCordoned("n2", "ann")], key="k", stands_for="n2").seq == 8
    journal.close()
    again = Journal(url)
    assert [entry.seq for entry in again.story("pool-hot", "n2")] == [8]
    again.save_snapshot("pool-hot", 8, [b"x"])
    assert len(list(again.replay("pool-hot"))) == 7
    again.close()
