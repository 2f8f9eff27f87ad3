"""A database with something to lose, a shipper that does its errands at once, and what can be wrong with a store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fabric.artefacts import ArtefactStore
from fabric.shipping.copy import Made, make_database
from fabric.shipping.owner import Claim
from fabric.shipping.places import Places
from fabric.shipping.shipper import Shipper

FABRIC = "lab/1.0"


def at_once(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future


def contents(file: Path) -> list[str]:
    """All that a database says, as SQL."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


class Lab:
    """`database` is written by `run`; `turn` lets the shipper do one thing, `ship` all that there is to do."""

    def __init__(self, folder: Path, *, epoch: int = 1, identity: str = "me") -> None:
        self.folder, self.file = folder, folder / "journal.db"
        self.now_s = 0.0
        self.database = sqlite3.connect(self.file, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v BLOB)")
        self.store = ArtefactStore(f"file://{folder}/store")
        self.places = Places(FABRIC, "journal")
        self.shipper = self.a_shipper(epoch, identity)

    def a_shipper(self, epoch: int, identity: str) -> Shipper:
        claim = Claim(self.store, FABRIC, epoch, identity, clock=lambda: self.now_s)
        return Shipper(self.file, self.places, self.store, claim, epoch, at_once, interval_s=0.0)

    def run(self, sql: str, *values: object) -> None:
        self.database.execute(sql, values)

    def put(self, number: int, size: int = 3000) -> None:
        self.run("REPLACE INTO t VALUES (?, ?)", number, os.urandom(size))

    def turn(self) -> None:
        self.now_s += 1
        self.shipper.turn(self.now_s)

    def ship(self) -> None:
        """Also what was committed meanwhile."""
        self.turn()
        for _ in range(1000):
            if self.shipper.is_all_shipped:
                return
            self.turn()
        raise AssertionError(self.shipper.status(self.now_s))

    def copy(self) -> tuple[Made | None, list[str]]:
        target = self.folder / "copy.db"
        target.unlink(missing_ok=True)
        made = make_database(self.store, self.places, target)
        return made, contents(target) if made else []

    def keys(self, word: str = "") -> list[str]:
        return [entry.key for entry in self.store.entries("shipping") if word in entry.key]

    def path(self, key: str) -> Path:
        return self.folder / "store" / key

    def close(self) -> None:
        self.database.close()
        self.shipper.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()
