"""History, kept: an append-only log of facts and a table of small documents, in one SQL database.

SQLite (WAL, synchronous=FULL) by default, anything SQLAlchemy reaches by URL. Nothing else reads these tables. Replay
gives facts back in the order in which they were written; it decides nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text, create_engine, delete, event, inspect, select
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from fabric.errors import RuntimeFault

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30

_metadata = MetaData()
_facts = Table(
    "facts",
    _metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("stream", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("schema", Integer, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("facts_by_stream", "stream", "seq"),
)
_documents = Table(
    "documents",
    _metadata,
    Column("stream", String(64), primary_key=True),
    Column("name", String(512), primary_key=True),
    Column("body", Text, nullable=False),
)


class Journal:
    """One process's connection. Every append is on disk when it returns."""

    def __init__(self, url: str) -> None:
        with _faults():
            self._engine = _engine(url)
            for table in _metadata.sorted_tables:
                _create(self._engine, table)

    def append(self, stream: str, fact: Any) -> None:
        """Write one fact (a dataclass). Raises: RuntimeFault `journal`, and then nothing was written."""
        row = {"stream": stream, "kind": type(fact).__name__, "schema": SCHEMA_VERSION, "wall_s": time.time()}
        row["body"] = json.dumps(dataclasses.asdict(fact), default=_plain)
        with _faults(), self._engine.begin() as connection:
            connection.execute(_facts.insert().values(row))

    def replay(self, stream: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, body) of every fact of a stream, oldest first."""
        query = select(_facts.c.kind, _facts.c.body).where(_facts.c.stream == stream).order_by(_facts.c.seq)
        with _faults(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        for kind, body in rows:
            yield kind, json.loads(body)

    def save(self, stream: str, documents: Mapping[str, Any]) -> None:
        """Replace documents by name, all or none."""
        rows = [{"stream": stream, "name": name, "body": json.dumps(body, default=_plain)} for name, body in documents.items()]
        with _faults(), self._engine.begin() as connection:
            for row in rows:
                connection.execute(delete(_documents).where(_documents.c.stream == stream, _documents.c.name == row["name"]))
                connection.execute(_documents.insert().values(row))

    def load(self, stream: str) -> dict[str, Any]:
        """Every document of a stream by name."""
        query = select(_documents.c.name, _documents.c.body).where(_documents.c.stream == stream)
        with _faults(), self._engine.connect() as connection:
            return {name: json.loads(body) for name, body in connection.execute(query)}

    def close(self) -> None:
        self._engine.dispose()


def _create(engine: Engine, table: Table) -> None:
    try:
        table.create(engine, checkfirst=True)
    except SQLAlchemyError:
        # Another process made it between the check and the creation: all actors of a fabric start at once.
        if not inspect(engine).has_table(table.name):
            raise


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        file = Path(parsed.database).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        parsed = parsed.set(database=str(file))
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _harden(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} does not belong in the journal")


@contextlib.contextmanager
def _faults() -> Iterator[None]:
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
