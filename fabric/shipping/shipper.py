"""Ships one SQLite file: what was committed as one change after the other, and a copy of all pages now and then.

One turn after the other, in one thread; what the store takes long for runs in another, one errand at a time. However long that is,
the local file is followed meanwhile, up to some `MAX_PENDING_BYTES`; then it is let go, so that its log does not fill the disk, and a
new timeline begins once the store takes bytes again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RuntimeFault
from fabric.shipping.owner import Claim
from fabric.shipping.piece import Label, Piece
from fabric.shipping.places import Mark, Places, mark_bytes, new_timeline, superfluous
from fabric.shipping.source import Source
from fabric.shipping.wal import Change

PART_BYTES = 4 << 20
MAX_CHANGES = 5_000
"""Behind one base: what a restore has to fetch one by one."""
MIN_BASE_BYTES = 16 << 20
"""A new base is made once changes have half of the bytes of the last, and this many: what is shipped in all stays within three times
what changes."""
MAX_PENDING_BYTES = (64 << 20, 256 << 20)
"""What waits in memory for the store: half of the file, within these."""
RETRY_S = (1.0, 2.0, 5.0, 10.0)
State = Literal["copying", "shipping", "failing", "superseded"]
Submit = Callable[[Callable[[], Any]], "Future[Any]"]
_log = logging.getLogger(__name__)


class ShipStatus(TypedDict):
    """`lag_s`: what was committed longer ago is in the store; None: there is no whole copy of this life yet. `changes`, `bytes`:
    shipped so far. `error`: what fails now."""

    state: State
    lag_s: float | None
    changes: int
    bytes: int
    error: str | None


@dataclass(slots=True)
class _Errand:
    """`run` in the store's thread, `done` with its answer in ours."""

    run: Callable[[], Any]
    done: Callable[[Any], None]
    is_change: bool = False
    future: Future[Any] | None = None


@dataclass(slots=True)
class _Copying:
    """A base in the making. `needs`: the last change that belongs to it, known once all of its pages were read."""

    number: int
    log: Change
    next_page: int = 1
    num_parts: int = 0
    num_bytes: int = 0
    needs: int | None = None


class Shipper:
    """`submit` runs a call and gives its future. `turn` whenever time has passed or a future is done."""

    def __init__(
        self, file: Path, places: Places, store: ArtefactStore, claim: Claim, epoch: int, submit: Submit, *, interval_s: float
    ) -> None:
        self._file, self._places, self._store, self._claim, self._epoch, self._submit = file, places, store, claim, epoch, submit
        self._interval_s = interval_s
        self._source: Source | None = None
        self._timeline: str | None = None
        self._errand: _Errand | None = None
        self._pending = Change()
        self._copying: _Copying | None = None
        self._base, self._next = 0, 1
        self._base_bytes = self._bytes_behind = self._changes_behind = 0
        self._is_whole = self._is_over = self._was_change = False
        self._drained_s = self._retry_s = float("-inf")
        self._cut_s: float | None = None
        self._synced_s: float | None = None
        self._failures = 0
        self._error: str | None = None
        self._num_changes = self._num_bytes = 0

    @property
    def is_over(self) -> bool:
        """Another owns the place."""
        return self._is_over

    @property
    def future(self) -> Future[Any] | None:
        """Of what the store is doing."""
        return self._errand.future if self._errand else None

    @property
    def is_all_shipped(self) -> bool:
        return self._is_over or (self._is_whole and not self._pending and self._errand is None)

    @property
    def next_s(self) -> float:
        """When the file is to be looked at again."""
        return self._drained_s + self._interval_s if self._source is not None else float("inf")

    def status(self, now_s: float) -> ShipStatus:
        state: State = "shipping" if self._is_whole else "copying"
        if self._is_over or self._error:
            state = "superseded" if self._is_over else "failing"
        lag_s = None if self._synced_s is None else max(0.0, now_s - self._synced_s)
        return ShipStatus(state=state, lag_s=lag_s, changes=self._num_changes, bytes=self._num_bytes, error=self._error)

    def turn(self, now_s: float, *, at_once: bool = False) -> None:
        """`at_once`: look for commits now, whenever the last look was."""
        self._settle(now_s)
        if self._is_over:
            return
        if self._source is not None and (at_once or now_s - self._drained_s >= self._interval_s):
            self._guarded(lambda source: self._drain(source, now_s), now_s)
        if self._errand is None and now_s >= self._retry_s:
            self._guarded(lambda source: self._choose(source, now_s), now_s)
            if self._source is None and self._errand is None and now_s >= self._retry_s:
                self._errand = _Errand(self._find_timeline, lambda timeline: self._begin(timeline, now_s))
        if self._errand is not None and self._errand.future is None and now_s >= self._retry_s:
            self._errand.future = self._submit(self._errand.run)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    # -- the file ----------------------------------------------------------------------------------------------------------

    def _drain(self, source: Source, now_s: float) -> None:
        self._pending.add(source.drain())
        self._pending.add(source.tidy())
        self._drained_s = now_s
        if not self._pending and not (self._errand and self._errand.is_change):
            self._note_synced(now_s)
        least, most = MAX_PENDING_BYTES
        if len(self._pending.pages) * source.page_bytes > min(max(least, source.num_pages() * source.page_bytes // 2), most):
            raise RuntimeFault("the store is too slow, or away", code="store_too_slow")

    def _guarded(self, look: Callable[[Source], None], now_s: float) -> None:
        """What fails at the file costs its timeline."""
        if self._source is None:
            return
        try:
            look(self._source)
        except FabricError as error:
            self._let_go(str(error))
            self._fail(error, now_s)

    def _let_go(self, why: str) -> None:
        _log.warning("shipping of %s begins anew: %s", self._file.name, why)
        self.close()
        self._timeline, self._copying, self._pending, self._is_whole = None, None, Change(), False
        if self._errand is not None:  # what is under way ends for itself, and changes nothing any more
            self._errand = _Errand(lambda: None, lambda _: None, future=self._errand.future) if self._errand.future else None

    # -- what to do next ---------------------------------------------------------------------------------------------------

    def _find_timeline(self) -> str:
        self._claim.hold(now=True)
        known = self._places.bases(entry.key for entry in self._store.entries(self._places.top))
        return new_timeline(self._epoch, known, uuid.uuid4().hex[:8])

    def _begin(self, timeline: str, now_s: float) -> None:
        self._source = Source(self._file)
        self._timeline, self._next, self._is_whole, self._drained_s = timeline, 1, False, now_s
        self._cut_s = None
        self._copy(self._source)

    def _copy(self, source: Source) -> None:
        """Begin a base. The log as it is comes first: what the file lacks may be written to it while it is read."""
        self._copying = _Copying(self._next, source.whole_log())
        self._base, self._bytes_behind, self._changes_behind = self._next, 0, 0

    def _choose(self, source: Source, now_s: float) -> None:
        copying = self._copying
        # In turns: neither waits for the other, however slow the store. What belongs to a base comes before its mark.
        is_bases_turn = copying is not None and self._was_change and (copying.needs is None or copying.needs < self._next)
        self._was_change = bool(self._pending) and not is_bases_turn
        if self._was_change:
            self._send_change(source)
        elif copying is not None:
            if copying.needs is None:
                self._send_part(source, copying, now_s)
            else:
                mark = mark_bytes(Mark(copying.num_parts, copying.needs))
                self._errand = _Errand(lambda: self._write(self._places.mark(*self._at), mark), lambda _: self._note_whole(copying))
        elif self._changes_behind >= MAX_CHANGES or self._bytes_behind >= max(MIN_BASE_BYTES, self._base_bytes // 2):
            self._copy(source)
        elif self._claim.is_due():
            self._errand = _Errand(self._claim.hold, lambda _: None)

    @property
    def _at(self) -> tuple[str, int]:
        return self._timeline or "", self._base

    def _send_change(self, source: Source) -> None:
        change, cut_s = self._pending, self._drained_s
        self._pending = Change()
        piece = Piece(Label(*self._at, change=self._next), source.page_bytes, change.num_pages, change.pages)
        self._next += 1

        def done(num_bytes: int) -> None:
            self._cut_s = cut_s
            self._num_changes += 1
            self._changes_behind += 1
            self._bytes_behind += num_bytes
            if self._is_whole:
                self._synced_s = cut_s

        self._errand = _Errand(lambda: self._write(self._places.key(piece.label), piece), done, is_change=True)

    def _send_part(self, source: Source, copying: _Copying, now_s: float) -> None:
        """The log, then the file in parts. Behind the last, what was committed until then makes them a database."""
        part, num_pages = copying.num_parts, max(source.num_pages(), copying.log.num_pages)
        pages = copying.log.pages
        if part > 0:
            wanted = max(1, PART_BYTES // source.page_bytes)
            pages = source.read_pages(copying.next_page, wanted)
            copying.next_page += len(pages)
            if len(pages) < wanted:
                self._drain(source, now_s)
                copying.needs = self._next if self._pending else self._next - 1
        else:
            num_pages = copying.log.num_pages or source.num_pages()
            copying.log = Change(num_pages=copying.log.num_pages)
        copying.num_parts += 1
        piece = Piece(Label(*self._at, part=part), source.page_bytes, num_pages, pages)

        def done(num_bytes: int) -> None:
            copying.num_bytes += num_bytes

        self._errand = _Errand(lambda: self._write(self._places.key(piece.label), piece), done)

    def _note_whole(self, copying: _Copying) -> None:
        self._copying, self._base_bytes, self._is_whole = None, copying.num_bytes, True
        if self._cut_s is not None:
            self._synced_s = self._cut_s
        self._errand = _Errand(self._prune, lambda _: None)

    def _note_synced(self, now_s: float) -> None:
        self._cut_s = now_s
        if self._is_whole:
            self._synced_s = now_s

    # -- the store ---------------------------------------------------------------------------------------------------------

    def _write(self, key: str, what: Piece | bytes) -> int:
        """In the store's thread."""
        self._claim.hold()
        body = what.pack() if isinstance(what, Piece) else what
        self._store.write_bytes(key, body)
        return len(body)

    def _prune(self) -> int:
        self._claim.hold(now=True)
        try:
            known = self._places.bases(entry.key for entry in self._store.entries(self._places.top))
            for base in superfluous(known, self._at[0]):
                # Its mark first: what is half deleted is not taken for a copy.
                self._store.delete(self._places.mark(base.timeline, base.number))
                self._store.delete(self._places.base(base.timeline, base.number))
        except FabricError as error:  # what is left over costs room, and is tried again behind the next base
            _log.warning("old copies of %s stay: %s", self._file.name, error)
        return 0

    def _settle(self, now_s: float) -> None:
        errand = self._errand
        if errand is None or errand.future is None or not errand.future.done():
            return
        try:
            answer = errand.future.result()
            self._errand = None
            errand.done(answer)
        except Exception as error:  # a store raises what its client library likes
            errand.future = None  # the very same again, unless it was its answer that failed
            self._fail(error, now_s)
        else:
            self._num_bytes += answer if isinstance(answer, int) else 0
            self._failures, self._error = 0, None

    def _fail(self, error: Exception, now_s: float) -> None:
        self._error = str(error)
        if isinstance(error, FabricError) and error.code == "superseded":
            self._let_go(self._error)
            self._is_over = True
            return
        if self._failures == 0:
            _log.warning("shipping of %s fails, and is tried again: %s", self._file.name, error)
        self._retry_s = now_s + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
