"""A live SQLite file, followed through its write-ahead log so that no commit is missed and no writer is held up.

A read transaction is open at all times, each begun before the one before it ends. While one is open, SQLite begins the log anew at
most once, and only where the transaction had seen all of the old one; so what is read behind it has no gaps. The log would grow
as long as it is read: it is written back to the database here, at a moment without commits; where there is none, commits wait
for some milliseconds once in `HARD_FRAMES`. Source: https://sqlite.org/wal.html, https://litestream.io/how-it-works/

Only for a process of its own. POSIX drops a process's locks on a file when it closes any descriptor of it, and SQLite's are such.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fabric.errors import RuntimeFault
from fabric.shipping.wal import FRAME_BYTES, HEADER_BYTES, Change, Header, Place, beginning, is_still, read_committed, read_header

SOFT_FRAMES = 500
"""Below the 1,000 at which the writers would see to it themselves."""
HARD_FRAMES = 4_000
MOST_FRAMES = 8_000
"""Read at once."""
_WRITER_WAIT_MS = 200
_ROUNDS = 5


class Source:
    """Close it only when the process ends. Every method raises RuntimeFault: `source_lost` where the thread is lost (somebody
    replaced the file, or its log): begin anew with a copy of all; `source_failed` where the disk or the lock fails."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._fds: list[int] = []
        self._connections: list[sqlite3.Connection] = []
        with self._faults():
            # Never created here: a file that is gone is not to come back empty.
            self._data = self._opened(file)
            self._readers = [self._connected(), self._connected()]
            self._writer, self._checkpointer = self._connected(), self._connected()
            self._writer.execute(f"PRAGMA busy_timeout={_WRITER_WAIT_MS}")
            self._begin(self._readers[0])
            self._log = self._opened(file.with_name(f"{file.name}-wal"))
            self.page_bytes = int(self._writer.execute("PRAGMA page_size").fetchone()[0])
            self._header: Header | None = None
            self._place: Place | None = None
            self._written_back: Place | None = None
            self.whole_log()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for fd in self._fds:
            os.close(fd)
        self._connections, self._fds = [], []

    def drain(self) -> Change:
        """What was committed since the last call, as one change, or the first of it; empty: nothing."""
        with self._faults():
            self._check_files()
            current, spare = self._readers
            self._begin(spare)
            found, is_all = self._read_on()
            if is_all:
                self._readers = [spare, current]
            # What is not read yet is safe behind the transaction that began before it.
            self._readers[1].execute("ROLLBACK")
        return found

    def whole_log(self) -> Change:
        """All that the log holds now: what the database file may not have yet. `drain` goes on behind where this was first called."""
        with self._faults():
            header = read_header(self._log)
            if header is None:
                return Change()
            # What was committed before this call lies within the file as it is now.
            most_frames = max(1, (os.fstat(self._log).st_size - HEADER_BYTES) // (FRAME_BYTES + header.page_bytes))
            found, place, _ = read_committed(self._log, header, beginning(header), most_frames=most_frames)
            if self._header is None:
                self._header, self._place = header, place
        return found

    def num_pages(self) -> int:
        """Of the file, without what only the log has."""
        with self._faults():
            return os.fstat(self._data).st_size // self.page_bytes

    def read_pages(self, first: int, count: int) -> dict[int, bytes]:
        """Pages of the file by number, `first` (from 1) and those behind it; fewer at its end. They may be of different moments, even
        half-written: what was committed while one reads has to be laid over them."""
        size = self.page_bytes
        with self._faults():
            raw = os.pread(self._data, count * size, (first - 1) * size)
        return {first + index: raw[index * size : (index + 1) * size] for index in range(len(raw) // size)}

    def tidy(self) -> Change:
        """Keep the log short; what was committed meanwhile, as `drain`. Call it behind one."""
        if self._num_frames() < SOFT_FRAMES or self._place == self._written_back:
            return Change()
        found = Change()
        with self._faults():
            if self._write_back() or self._num_frames() < HARD_FRAMES:
                return found
        # Nearly all is read and written back before the writers have to wait.
        for _ in range(_ROUNDS):
            before = self._num_frames()
            found.add(self.drain())
            with self._faults():
                if self._write_back():
                    return found
            if self._num_frames() - before < SOFT_FRAMES:
                break
        with self._faults():
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # writers are at it: the next turn
                return found
        try:
            found.add(self.drain())
            with self._faults():
                self._write_back()
        finally:
            self._writer.execute("ROLLBACK")
        return found

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _read_on(self) -> tuple[Change, bool]:
        """What is new, and whether that is all."""
        header = read_header(self._log)
        if header is None:  # it was emptied, or its first bytes are being written
            return Change(), True
        if self._header is None or self._place is None:
            self._header, self._place = header, beginning(header)
        elif header.salts != self._header.salts:
            if not header.follows(self._header):
                raise self._lost("its log was begun anew more than once")
            self._header, self._place = header, beginning(header)
        elif not is_still(self._log, header, self._place):
            raise self._lost("its log was overwritten")
        found, self._place, is_all = read_committed(self._log, header, self._place, most_frames=MOST_FRAMES)
        return found, is_all

    def _write_back(self) -> bool:
        """Without waiting for anybody; whether the log can begin anew, and what is open does not keep it from that."""
        _, in_log, done = self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if in_log != done:
            return False
        # A transaction that begins on a log that is all written back reads the file alone.
        current, spare = self._readers
        self._begin(spare)
        current.execute("ROLLBACK")
        self._readers = [spare, current]
        self._written_back = self._place
        return True

    def _num_frames(self) -> int:
        return 0 if self._place is None else (self._place.offset - HEADER_BYTES) // (FRAME_BYTES + self.page_bytes)

    def _begin(self, reader: sqlite3.Connection) -> None:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def _connected(self) -> sqlite3.Connection:
        made = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=5)
        self._connections.append(made)
        mode = made.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            raise self._lost(f"its journal mode is {mode}")
        made.execute("PRAGMA synchronous=FULL")
        return made

    def _opened(self, file: Path) -> int:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def _check_files(self) -> None:
        for fd, file in zip(self._fds, (self.file, self.file.with_name(f"{self.file.name}-wal")), strict=True):
            if not os.path.samestat(os.fstat(fd), file.stat()):
                raise self._lost(f"{file.name} was replaced")

    def _lost(self, why: str) -> RuntimeFault:
        return RuntimeFault(f"{self.file}: {why}", code="source_lost", hint="shipping begins anew with a whole copy")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise self._lost(f"{error.filename} is gone") from error
        except (OSError, sqlite3.Error) as error:
            raise RuntimeFault(f"cannot follow {self.file}: {error}", code="source_failed") from error
