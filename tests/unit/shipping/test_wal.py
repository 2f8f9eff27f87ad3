"""The log is believed as far as SQLite would believe it."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.shipping.wal import FRAME_BYTES, HEADER_BYTES, beginning, is_still, read_committed, read_header


@pytest.fixture(params=[512, 4096, 65536])
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Of three commits."""
    database = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    database.execute(f"PRAGMA page_size={request.param}")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    for _ in range(2):
        database.execute("INSERT INTO t VALUES (?)", (os.urandom(100_000),))
    yield tmp_path / "a.db-wal"
    database.close()


def read(log: Path) -> tuple[int, int]:
    """The size of the database behind the last commit, and where that ends."""
    file = os.open(log, os.O_RDONLY)
    header = read_header(file)
    assert header is not None
    change, place, is_all = read_committed(file, header, beginning(header))
    assert is_all and is_still(file, header, place)
    os.close(file)
    return change.num_pages, place.offset


def test_all_that_was_committed_is_read(log: Path) -> None:
    num_pages, end = read(log)
    assert num_pages > 3
    assert end == log.stat().st_size


def test_a_log_that_is_cut_or_changed_anywhere_ends_at_the_commit_before(log: Path, tmp_path: Path) -> None:
    whole = log.read_bytes()
    (page_bytes,) = struct.unpack_from(">I", whole, 8)
    frame = FRAME_BYTES + page_bytes
    commits = [
        HEADER_BYTES + (index + 1) * frame
        for index in range((len(whole) - HEADER_BYTES) // frame)
        if struct.unpack_from(">I", whole, HEADER_BYTES + index * frame + 4)[0]
    ]
    assert len(commits) == 3
    other = tmp_path / "other-wal"
    for at in (*range(commits[0], len(whole), 4099), len(whole) - 1):
        sound = max([end for end in commits if end <= at])
        other.write_bytes(whole[:at])
        assert read(other)[1] == sound
        changed = bytearray(whole)
        changed[at] ^= 1
        other.write_bytes(changed)
        assert read(other)[1] == sound


def test_a_log_without_a_whole_header_has_nothing(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other-wal"
    for content in (b"", log.read_bytes()[:31], b"x" * 64):
        other.write_bytes(content)
        file = os.open(other, os.O_RDONLY)
        assert read_header(file) is None
        os.close(file)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 30))
def test_portions_are_together_what_is_read_at_once(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], portion: int) -> None:
    folder = tmp_path_factory.mktemp("portions")
    database = sqlite3.connect(folder / "a.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    for size in sizes:
        database.execute("INSERT INTO t VALUES (zeroblob(?))", (size * 4000,))
    file = os.open(folder / "a.db-wal", os.O_RDONLY)
    header = read_header(file)
    assert header is not None
    whole = read_committed(file, header, beginning(header))
    change, place, is_all = read_committed(file, header, beginning(header), most_frames=portion)
    while not is_all:
        more, place, is_all = read_committed(file, header, place, most_frames=portion)
        change.add(more)
    assert (change.pages, change.num_pages, place) == (whole.change.pages, whole.change.num_pages, whole.place)
    os.close(file)
    database.close()
