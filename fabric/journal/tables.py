"""The journal's tables, how a database gets them, and what its failures mean.

A database of an earlier release is brought up to date when it is opened. One writer at a time: a transaction that writes
holds SQLite's write lock from its start, or PostgreSQL's advisory lock of every stream that it writes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from fabric.errors import RuntimeFault

SCHEMA_VERSION = 1
"""Of the bodies of facts and chunks: raised when a release writes what an older one would misread."""
BUSY_TIMEOUT_S = 30
STREAM_CHARS, KIND_CHARS, SUBJECT_CHARS, NAME_CHARS = 64, 64, 128, 512

_metadata = MetaData()
# SQLite counts up by itself only in a column that is called INTEGER.
_Seq = BigInteger().with_variant(Integer, "sqlite")
facts = Table(
    "facts",
    _metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("stream", String(STREAM_CHARS), nullable=False),
    Column("kind", String(KIND_CHARS), nullable=False),
    Column("schema", Integer, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("subject", String(SUBJECT_CHARS)),
    Index("facts_by_stream", "stream", "seq"),
    Index("facts_by_subject", "stream", "subject", "seq"),
)
documents = Table(
    "documents",
    _metadata,
    Column("stream", String(STREAM_CHARS), primary_key=True),
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("body", Text, nullable=False),
)
keys = Table(
    "idempotency_keys",
    _metadata,
    Column("stream", String(STREAM_CHARS), primary_key=True),
    Column("key", String(NAME_CHARS), primary_key=True),
    Column("stands_for", String(SUBJECT_CHARS), nullable=False),
)
snapshots = Table(
    "snapshots",
    _metadata,
    Column("stream", String(STREAM_CHARS), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("seq", _Seq, nullable=False),
    Column("schema", Integer, nullable=False),
    # The last part, which is empty, makes the snapshot whole.
    Column("is_last", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)


def open_engine(url: str, *, is_reader: bool = False) -> Engine:
    """Connections to the database, which gets the tables that it lacks. A reader takes it as it is, and never holds the lock that writers
    wait for; nor does it make a file, which on a new head would keep the journal's copy from being brought back."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = sql.create_engine(parsed, pool_pre_ping=True)
    else:
        if parsed.database and parsed.database != ":memory:":
            file = Path(parsed.database).expanduser()
            if is_reader and not file.exists():
                raise FileNotFoundError(f"{file} is not there (yet)")
            parsed = parsed.set(database=str(_private_file(file)))
        engine = sql.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
        sql.event.listen(engine, "connect", _harden)
        sql.event.listen(engine, "begin", _begin)
    if not is_reader:
        with writing(engine, ["schema"]) as connection:
            _migrate(connection)
    return engine


def _private_file(file: Path) -> Path:
    """Documents may hold secrets: a new file is its owner's alone, and SQLite gives those beside it the same mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    return file


def _harden(connection: Any, _record: Any) -> None:
    # None: the driver begins no transaction by itself; `_begin` does.
    connection.isolation_level = None
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _enter_wal(connection: Any) -> None:
    """SQLite waits for a lock, but not where two change a new file's mode at once: the second is told "locked" there and then."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail, not wait, when another process wrote in between.
    will_write = connection.get_execution_options().get("will_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if will_write else "BEGIN")


@contextlib.contextmanager
def writing(engine: Engine, streams: Iterable[str]) -> Iterator[Connection]:
    """A transaction that no other writer of these streams overlaps: numbers are given in the order of commits."""
    with engine.execution_options(will_write=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            for lock in sorted({zlib.crc32(f"tierfabric {stream}".encode()) for stream in streams}):
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(lock)))
        yield connection


def _migrate(connection: Connection) -> None:
    _metadata.create_all(connection)
    known = sql.inspect(connection)
    if all(column["name"] != "subject" for column in known.get_columns(facts.name)):
        connection.execute(sql.text(f"ALTER TABLE facts ADD COLUMN subject VARCHAR({SUBJECT_CHARS})"))
    present = {index["name"] for index in known.get_indexes(facts.name)}
    for index in facts.indexes:
        if index.name not in present:
            index.create(connection)


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Whatever the database, the disk or a missing driver raises, as our own error."""
    try:
        yield
    except ImportError as error:
        hint = 'for PostgreSQL: pip install "psycopg[binary]", and journal_url: postgresql+psycopg://…'
        raise RuntimeFault(f"the journal's database driver is missing: {error}", code="journal", hint=hint) from error
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        hint = "is the disk full, or state_dir not writable?"
        raise RuntimeFault(f"the journal cannot be used: {reason}", code="journal", hint=hint) from error
