"""Snapshots in the journal's database: parts, each in a transaction of its own, and an empty last one that makes them whole.

A crash in between leaves parts that nobody reads; the next snapshot clears them away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection, Engine

from fabric.fields import newer
from fabric.journal.tables import SCHEMA_VERSION, snapshots, writing


def newest(connection: Connection, stream: str) -> Any:
    """(number, seq, schema) of the newest whole snapshot; None: there is none."""
    columns = (snapshots.c.number, snapshots.c.seq, snapshots.c.schema)
    whole = select(*columns).where(snapshots.c.stream == stream, snapshots.c.is_last == 1)
    return connection.execute(whole.order_by(snapshots.c.number.desc()).limit(1)).first()


def save(engine: Engine, lock: threading.Lock, stream: str, seq: int, chunks: Iterable[bytes]) -> None:
    with lock, writing(engine, {stream}) as connection:
        old = newest(connection, stream)
        number = old.number + 1 if old else 1
        _delete_all_but(connection, stream, number - 1)
    row = {"stream": stream, "number": number, "seq": seq, "schema": SCHEMA_VERSION, "is_last": 0}
    num_parts = 0
    for chunk in chunks:
        with lock, writing(engine, {stream}) as connection:
            connection.execute(snapshots.insert(), {**row, "part": num_parts, "body": chunk})
        num_parts += 1
    with lock, writing(engine, {stream}) as connection:
        connection.execute(snapshots.insert(), {**row, "part": num_parts, "body": b"", "is_last": 1})
        _delete_all_but(connection, stream, number)


def load(engine: Engine, stream: str) -> tuple[int, Iterator[bytes]] | None:
    with engine.connect() as connection:
        # One transaction: a newer snapshot may replace this one meanwhile, and then this one is read to its end.
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        found = newest(connection, stream)
        if found is None:
            return None
        if found.schema > SCHEMA_VERSION:
            raise newer(f"a snapshot of schema {found.schema}")
        of_it = (snapshots.c.stream == stream, snapshots.c.number == found.number, snapshots.c.is_last == 0)
        bodies = connection.execute(select(snapshots.c.body).where(*of_it).order_by(snapshots.c.part)).scalars().all()
    return int(found.seq), iter(bodies)


def _delete_all_but(connection: Connection, stream: str, number: int) -> None:
    connection.execute(delete(snapshots).where(snapshots.c.stream == stream, snapshots.c.number != number))
