"""One process's journal: append, replay, documents, keys and snapshots."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, delete, func, select
from sqlalchemy.engine import Connection

from fabric import codec
from fabric.errors import BugError
from fabric.fields import newer
from fabric.journal import snapshots
from fabric.journal.batch import Batch, Ready, Written, document_rows, ready
from fabric.journal.tables import SCHEMA_VERSION, documents, facts, faults, keys, open_engine, writing

READ_ROWS = 10_000
NAMES_PER_QUERY = 500


class Entry(NamedTuple):
    """One fact as it was written: its number, when (wall clock), its class's name and its fields, not yet decoded."""

    seq: int
    wall_s: float
    kind: str
    body: dict[str, Any]


class Place(NamedTuple):
    """Where a fact is: its number, and when it was written (wall clock)."""

    seq: int
    wall_s: float


class Journal:
    """One process's connections, for all of its threads. What a call wrote is on disk when it returns.

    Every method raises RuntimeFault `journal` when the database or its disk fails, and then it wrote nothing.
    """

    def __init__(self, url: str, *, is_reader: bool = False) -> None:
        """`is_reader`: for a process that must not hold up the one whose journal it is; it writes nothing."""
        with faults():
            self._engine = open_engine(url, is_reader=is_reader)
        # SQLite waits for its lock by polling; threads of one process need not.
        self._lock = threading.Lock()

    def append(self, stream: str, fact: Any) -> int:
        """Write one fact (a dataclass); returns its number."""
        return self.write([Batch(stream, (fact,))])[0].seq

    def append_all(
        self,
        stream: str,
        new_facts: Sequence[Any],
        *,
        documents: Mapping[str, Any] | None = None,
        key: str | None = None,
        stands_for: str = "",
        wall_s: float | None = None,
    ) -> Written:
        """Write one batch, see `Batch`."""
        return self.write([Batch(stream, new_facts, documents or {}, key, stands_for, wall_s)])[0]

    def write(self, batches: Sequence[Batch]) -> list[Written]:
        """Write batches in their order in one transaction: all, but for those whose key is taken. Raises: as `ready`."""
        return self.write_ready([ready(batch) for batch in batches])

    def write_ready(self, batches: Sequence[Ready]) -> list[Written]:
        with faults(), self._lock, writing(self._engine, {batch.stream for batch in batches}) as connection:
            takers = _take_keys(connection, batches)
            fresh = [batch for batch, taken_by in zip(batches, takers, strict=True) if taken_by is None]
            numbers = _insert_facts(connection, fresh)
            _replace_documents(connection, [row for batch in fresh for row in batch.documents])
        return [
            Written(_last(numbers[batch.stream], len(batch.facts)) if taken_by is None else 0, taken_by)
            for batch, taken_by in zip(batches, takers, strict=True)
        ]

    def replay(self, stream: str, after_seq: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, body) of every fact of a stream behind `after_seq`, oldest first; `codec.fact_of` makes facts of them."""
        for entry in self.entries(stream, after_seq):
            yield entry.kind, entry.body

    def entries(self, stream: str, after_seq: int = 0, *, kinds: Collection[str] = ()) -> Iterator[Entry]:
        """The same with number and time; with `kinds`, only facts of these. Raises: FabricError `journal_newer`."""
        query = select(facts).where(facts.c.stream == stream).order_by(facts.c.seq).limit(READ_ROWS)
        if kinds:
            query = query.where(facts.c.kind.in_(sorted(kinds)))
        while rows := self._rows(query.where(facts.c.seq > after_seq)):
            yield from map(_entry, rows)
            after_seq = rows[-1].seq

    def story(self, stream: str, subject: str) -> list[Entry]:
        """The facts about one job (or node), oldest first."""
        return [_entry(row) for row in self._rows(select(facts).where(_about(stream, subject)).order_by(facts.c.seq))]

    def newest(self, stream: str, kind: str, *, limit: int | None = None, since_s: float = 0.0) -> list[Place]:
        """Where the newest facts of a kind are, newest first; written at `since_s` (wall clock) or later."""
        query = select(facts.c.seq, facts.c.wall_s).where(_of_kind(stream, kind, since_s)).order_by(facts.c.seq.desc()).limit(limit)
        return [Place(row.seq, row.wall_s) for row in self._rows(query)]

    def count(self, stream: str, kind: str, *, since_s: float = 0.0) -> int:
        """How many of them there are."""
        return int(self._rows(select(func.count()).select_from(facts).where(_of_kind(stream, kind, since_s)))[0][0])

    def last_seq(self, stream: str) -> int:
        """The number of the stream's newest fact; 0: it has none."""
        return int(self._rows(select(func.max(facts.c.seq)).where(facts.c.stream == stream))[0][0] or 0)

    def first_since(self, stream: str, wall_s: float) -> int | None:
        """The number of the stream's first fact that happened at this time or later; None: there is none. Times never go back in a
        stream, so that some tens of facts are looked at, however many there are."""
        query = select(facts.c.seq, facts.c.wall_s).where(facts.c.stream == stream).order_by(facts.c.seq).limit(1)
        low, high, found = 1, self.last_seq(stream), None
        while low <= high:
            middle = (low + high) // 2
            rows = self._rows(query.where(facts.c.seq >= middle, facts.c.seq <= high))
            if not rows:
                high = middle - 1
            elif rows[0].wall_s >= wall_s:
                found, high = int(rows[0].seq), middle - 1
            else:
                low = int(rows[0].seq) + 1
        return found

    def ids_of(self, stream: str, names: Collection[str]) -> dict[str, str]:
        """What idempotency keys stand for; those that are free are left out."""
        with faults(), self._engine.connect() as connection:
            return _ids_of(connection, stream, list(names))

    def save(self, stream: str, new: Mapping[str, Any]) -> None:
        """Replace documents by name, all or none."""
        rows = document_rows(stream, new)
        with faults(), self._lock, writing(self._engine, {stream}) as connection:
            _replace_documents(connection, rows)

    def load(self, stream: str) -> dict[str, Any]:
        """Every document of a stream by name."""
        return {name: codec.loads(body) for name, body in self.texts(stream).items()}

    def documents(self, stream: str, names: Collection[str]) -> dict[str, Any]:
        """Some documents of a stream by name; those that are not there are left out."""
        found: dict[str, Any] = {}
        wanted = list(names)
        for start in range(0, len(wanted), NAMES_PER_QUERY):
            among = documents.c.name.in_(wanted[start : start + NAMES_PER_QUERY])
            for row in self._rows(select(documents.c.name, documents.c.body).where(documents.c.stream == stream, among)):
                found[row.name] = codec.loads(row.body)
        return found

    def texts(self, stream: str) -> dict[str, str]:
        """The same as JSON text, for a reader who goes on where one of them is none."""
        rows = self._rows(select(documents.c.name, documents.c.body).where(documents.c.stream == stream))
        return {row.name: row.body for row in rows}

    def document(self, stream: str, name: str) -> Any:
        """One document; None: there is none."""
        rows = self._rows(select(documents.c.body).where(documents.c.stream == stream, documents.c.name == name))
        return codec.loads(rows[0][0]) if rows else None

    def forget(self, stream: str, names: Iterable[str]) -> None:
        """Delete documents by name; one that is not there is passed over."""
        rows = [{"stream": stream, "name": name} for name in names]
        with faults(), self._lock, writing(self._engine, {stream}) as connection:
            _delete_documents(connection, rows)

    def save_snapshot(self, stream: str, seq: int, chunks: Iterable[bytes]) -> None:
        """Keep the state that the facts up to `seq` made. Chunks are written as they come, others' writes in between; until
        the last is on disk, the old snapshot counts. One caller at a time per stream."""
        with faults():
            snapshots.save(self._engine, self._lock, stream, seq, chunks)

    def load_snapshot(self, stream: str) -> tuple[int, Iterator[bytes]] | None:
        """The newest whole snapshot and its `seq`. Raises: FabricError `journal_newer`."""
        with faults():
            return snapshots.load(self._engine, stream)

    def prune(self, stream: str, before_seq: int, *, keep: Collection[str] = ()) -> int:
        """Delete the facts before `before_seq`, except those of the kinds in `keep`; returns how many. Raises: BugError
        `prune` where no snapshot holds what they did."""
        with faults(), self._lock, writing(self._engine, {stream}) as connection:
            covered = snapshots.newest(connection, stream)
            if before_seq > (covered.seq if covered else 0) + 1:
                raise BugError(f"no snapshot of {stream} holds the facts before {before_seq}", code="prune")
            newest = select(func.max(facts.c.seq)).scalar_subquery()
            # The newest of all stays: SQLite counts on from the highest number that it finds.
            old = and_(facts.c.stream == stream, facts.c.seq < before_seq, facts.c.seq < newest, facts.c.kind.not_in(sorted(keep)))
            return connection.execute(delete(facts).where(old)).rowcount

    def close(self) -> None:
        self._engine.dispose()

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        with faults(), self._engine.connect() as connection:
            return connection.execute(query).all()


def _entry(row: Any) -> Entry:
    if row.schema > SCHEMA_VERSION:
        raise newer(f"a fact {row.kind!r} of schema {row.schema}")
    return Entry(row.seq, row.wall_s, row.kind, codec.loads(row.body))


def _of_kind(stream: str, kind: str, since_s: float) -> Any:
    return and_(facts.c.stream == stream, facts.c.kind == kind, facts.c.wall_s >= since_s)


def _about(stream: str, subject: str) -> Any:
    return and_(facts.c.stream == stream, facts.c.subject == subject)


def _ids_of(connection: Connection, stream: str, names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(names), NAMES_PER_QUERY):
        among = keys.c.key.in_(names[start : start + NAMES_PER_QUERY])
        found.update(tuple(row) for row in connection.execute(select(keys.c.key, keys.c.stands_for).where(keys.c.stream == stream, among)))
    return found


def _take_keys(connection: Connection, batches: Sequence[Ready]) -> list[str | None]:
    """For each batch the id that its key stood for already; None: it has no key, or the key is its own from now on."""
    streams = {batch.stream for batch in batches if batch.key}
    asked = {stream: [batch.key["key"] for batch in batches if batch.key and batch.stream == stream] for stream in streams}
    taken = {stream: _ids_of(connection, stream, names) for stream, names in asked.items()}
    takers: list[str | None] = []
    new: list[dict[str, str]] = []
    for batch in batches:
        if batch.key is None:
            takers.append(None)
            continue
        takers.append(taken[batch.stream].get(batch.key["key"]))
        if takers[-1] is None:
            new.append(batch.key)
            taken[batch.stream][batch.key["key"]] = batch.key["stands_for"]
    if new:
        connection.execute(keys.insert(), new)
    return takers


def _insert_facts(connection: Connection, batches: Sequence[Ready]) -> dict[str, Iterator[int]]:
    """Per stream the numbers that its new facts got, in their order."""
    rows = [row for batch in batches for row in batch.facts]
    if rows:
        connection.execute(facts.insert(), rows)
    numbers: dict[str, Iterator[int]] = {}
    for stream in {batch.stream for batch in batches}:
        # Nobody else writes to the stream meanwhile: the newest are ours.
        num_new = sum(len(batch.facts) for batch in batches if batch.stream == stream)
        query = select(facts.c.seq).where(facts.c.stream == stream).order_by(facts.c.seq.desc()).limit(num_new)
        numbers[stream] = reversed(connection.execute(query).scalars().all()) if num_new else iter(())
    return numbers


def _last(numbers: Iterator[int], count: int) -> int:
    """Take the next `count` numbers; returns the last of them."""
    seq = 0
    for _ in range(count):
        seq = next(numbers)
    return seq


def _replace_documents(connection: Connection, rows: list[dict[str, Any]]) -> None:
    newest = {(row["stream"], row["name"]): row for row in rows}
    _delete_documents(connection, [{"stream": stream, "name": name} for stream, name in newest])
    if newest:
        connection.execute(documents.insert(), list(newest.values()))


def _delete_documents(connection: Connection, names: list[dict[str, Any]]) -> None:
    for start in range(0, len(names), NAMES_PER_QUERY):
        some = names[start : start + NAMES_PER_QUERY]
        for stream in {name["stream"] for name in some}:
            among = documents.c.name.in_([name["name"] for name in some if name["stream"] == stream])
            connection.execute(delete(documents).where(documents.c.stream == stream, among))
