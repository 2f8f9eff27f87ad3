"""The registry's tables, in the journal's database, and what a failure of that database means.

What never changes of a version is one JSON body; what is searched, sorted or changed has a column or a table of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from fabric.errors import RuntimeFault, UnavailableError
from fabric.journal.tables import open_engine, writing
from fabric.registry.limits import MAX_KEY, MAX_METADATA_KEY, MAX_METADATA_VALUE, MAX_METRIC, MAX_WHY

NAME_CHARS = 63
USER_CHARS = 128
LOCK = "registry"

metadata = MetaData()
models = Table(
    "registry_models",
    metadata,
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("user", String(USER_CHARS), nullable=False),
    Column("created_s", Float, nullable=False),
    # Of all that were ever given, deleted ones too: a number is never given again.
    Column("last_number", Integer, nullable=False),
)
versions = Table(
    "registry_versions",
    metadata,
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", String(MAX_KEY)),
    Column("framework", String(64), nullable=False),
    Column("user", String(USER_CHARS), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("why", String(MAX_WHY), nullable=False),
    Column("signature", Text),
    Column("body", Text, nullable=False),
    # What a search for words looks at, in small letters.
    Column("words", Text, nullable=False),
    UniqueConstraint("name", "key"),
    Index("registry_versions_by_time", "created_s"),
)
labels = Table(
    "registry_metadata",
    metadata,
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", String(MAX_METADATA_KEY), primary_key=True),
    Column("value", String(MAX_METADATA_VALUE), nullable=False),
    Index("registry_metadata_by_value", "key", "value"),
)
metrics = Table(
    "registry_metrics",
    metadata,
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("metric", String(MAX_METRIC), primary_key=True),
    Column("value", Float(53), nullable=False),
    Index("registry_metrics_by_value", "metric", "value"),
)
aliases = Table(
    "registry_aliases",
    metadata,
    Column("name", String(NAME_CHARS), primary_key=True),
    Column("alias", String(NAME_CHARS), primary_key=True),
    Column("number", Integer, nullable=False),
)


def open_tables(url: str) -> Engine:
    """Connections to the journal's database, which gets the registry's tables where it lacks them."""
    engine = open_engine(url)
    with writing(engine, [LOCK]) as connection:
        metadata.create_all(connection)
    return engine


@contextlib.contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other of the registry overlaps, in any process."""
    with faults(), writing(engine, [LOCK]) as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """What is read in it belongs together."""
    # An SQLite transaction sees one state of the database by itself.
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with faults(), engine.connect().execution_options(**options) as connection:
        yield connection


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Whatever the database or its disk raises, as our own error; nothing was changed then."""
    try:
        yield
    except ImportError as error:
        hint = "pip install 'tierfabric[postgres]'"
        raise RuntimeFault(f"the database driver is missing: {error}", code="missing_package", hint=hint) from error
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        if any(word in reason for word in ("is full", "No space left", "disk I/O error")):
            hint = "make room on the machine of the journal"
            raise RuntimeFault(f"nothing was registered: {reason}", code="storage_full", hint=hint) from error
        hint = "what is served goes on; try again when the journal's database is back"
        raise UnavailableError(f"the registry cannot be reached: {reason}", hint=hint) from error
