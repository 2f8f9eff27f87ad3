"""A database made from its copy in the store: the newest that is whole and sound, else the one before it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RuntimeFault
from fabric.shipping.piece import Label, Piece, corrupt, unpack
from fabric.shipping.places import Base, Places, read_mark

NUM_FETCHERS = 8
_AHEAD = 16
_LOCK_BYTE = 1 << 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """Which copy it was, and how many changes of it were laid over; `problems`: what was not sound and is therefore missing, or was
    passed over."""

    timeline: str
    base: int
    changes: int
    problems: tuple[str, ...]


class _Chain(NamedTuple):
    """The changes behind a base without a gap, and what is wrong where they end."""

    labels: list[Label]
    problem: str | None


def make_database(store: ArtefactStore, places: Places, target: Path) -> Made | None:
    """Write the newest sound copy to the new file `target`, on disk and checked; None: nothing whole was ever shipped.

    Raises: RuntimeFault (`copy_corrupt` where none of the copies is sound; `storage_failed`; `restore_failed` where `target` cannot be
    written). Where it raises, `target` is not there.
    """
    bases = places.bases(entry.key for entry in store.entries(places.top))
    problems: list[str] = []
    for base in reversed([one for one in bases if one.is_marked]):
        try:
            with _new_file(target) as file:
                made = _made(store, places, base, _chain(bases, base), file)
            _check(target)
        except FabricError as error:
            target.unlink(missing_ok=True)
            if error.code != "copy_corrupt":
                raise
            problems.append(error.message)
            _log.warning("copy %s/%d cannot be used: %s", base.timeline, base.number, error.message)
            continue
        return Made(base.timeline, base.number, made.changes, (*problems, *made.problems))
    if problems:
        raise RuntimeFault(
            f"no copy in {store.url} under {places.top} is sound: {'; '.join(problems)}",
            code="copy_corrupt",
            hint=f"put a copy of your own in place, or delete {places.top} in the store to begin anew",
        )
    return None


def _chain(bases: Iterable[Base], base: Base) -> _Chain:
    behind = [one for one in bases if one.timeline == base.timeline and one.number >= base.number]
    found = {change: Label(one.timeline, one.number, change=change) for one in behind for change in one.changes}
    labels: list[Label] = []
    while (label := found.get(base.number + len(labels))) is not None:
        labels.append(label)
    missing = len(found) - len(labels)
    problem = f"change {base.number + len(labels)} of {base.timeline} is gone, and {missing} behind it" if missing else None
    return _Chain(labels, problem)


def _made(store: ArtefactStore, places: Places, base: Base, chain: _Chain, file: int) -> Made:
    mark = read_mark(store, places.mark(base.timeline, base.number))
    problems = [chain.problem] if chain.problem else []
    parts = [Label(base.timeline, base.number, part) for part in range(mark.num_parts)]
    database = _Database(file)
    # The log as it was when the copy began is newer than the pages of the file.
    for piece in _fetched(store, places, [*parts[1:], *parts[:1]]):
        database.lay(piece)
    num_changes = 0
    try:
        for piece in _fetched(store, places, chain.labels):
            database.lay(piece)
            num_changes += 1
    except FabricError as error:
        if error.code != "copy_corrupt":
            raise
        problems.append(f"{error.message}: {len(chain.labels) - num_changes} changes are missing")
    if base.number + num_changes - 1 < mark.needs:
        raise corrupt(f"base {base.number} of {base.timeline} lacks changes that belong to it: {'; '.join(problems)}")
    database.finish()
    return Made(base.timeline, base.number, num_changes, tuple(problems))


def _fetched(store: ArtefactStore, places: Places, labels: list[Label]) -> Iterator[Piece]:
    """In their order, some ahead."""

    def fetch(label: Label) -> Piece:
        key = places.key(label)
        try:
            body = store.read_bytes(key)
        except FabricError as error:
            if error.code == "artefact_not_found":
                raise corrupt(f"{key} is gone") from error
            raise
        return unpack(body, label, key)

    with ThreadPoolExecutor(NUM_FETCHERS) as pool:
        waiting: deque[Future[Piece]] = deque()
        coming = iter(labels)
        try:
            while True:
                while len(waiting) < _AHEAD and (label := next(coming, None)) is not None:
                    waiting.append(pool.submit(fetch, label))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


class _Database:
    """Pages laid over each other in an open file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._page_bytes = self._num_pages = 0
        self._has = np.zeros(1024, np.bool_)

    def lay(self, piece: Piece) -> None:
        size = self._page_bytes = piece.page_bytes
        self._num_pages = piece.num_pages
        for first, pages in _runs(piece):
            last = first + len(pages) - 1
            if last >= len(self._has):
                self._has = np.concatenate((self._has, np.zeros(last + len(self._has), np.bool_)))
            self._has[first : last + 1] = True
            _write_all(self._file, b"".join(pages), (first - 1) * size)

    def finish(self) -> None:
        """Raises: RuntimeFault (`copy_corrupt`) where pages are missing."""
        missing = np.flatnonzero(~self._has[1 : self._num_pages + 1]) + 1
        # SQLite keeps its locks in this page, and never writes it.
        missing = missing[missing != _LOCK_BYTE // max(1, self._page_bytes) + 1]
        if self._num_pages >= len(self._has) or len(missing):
            raise corrupt(f"{len(missing) or 'many'} of {self._num_pages} pages are in no piece")
        os.ftruncate(self._file, self._num_pages * self._page_bytes)
        os.fsync(self._file)


def _runs(piece: Piece) -> Iterator[tuple[int, list[bytes]]]:
    first, run = 0, list[bytes]()
    for number, page in sorted(piece.pages.items()):
        if run and number != first + len(run):
            yield first, run
            run = []
        if not run:
            first = number
        run.append(page)
    if run:
        yield first, run


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[int]:
    with restoring(target):
        file = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)


@contextlib.contextmanager
def restoring(target: Path) -> Iterator[None]:
    """What the disk under `target` raises, as our own."""
    try:
        yield
    except OSError as error:
        hint = "is the disk full, or state_dir not writable? It is tried again when the fabric's actors start anew"
        raise RuntimeFault(f"cannot write {target}: {error.strerror or error}", code="restore_failed", hint=hint) from error


def _check(file: Path) -> None:
    """Raises: RuntimeFault (`copy_corrupt`) where SQLite finds it broken."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise corrupt(f"what was put together is no sound database: {found}")
