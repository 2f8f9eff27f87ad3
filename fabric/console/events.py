"""Server-sent events: what changed, told to every open page from one computation.

Invariants: no more than one event of a kind in `TICK_S` (of `overview`: in a second); a page is told of no job that its token may not
see; one that does not read is dropped, and comes back by itself; one whose token was revoked is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import anyio.to_thread
import pydantic_core

from fabric.api.tokens import Principal
from fabric.console.answers import Answers
from fabric.console.follower import Follower
from fabric.console.sight import Sight, sight_of
from fabric.errors import FabricError, RejectedError

TICK_S = 0.25
OVERVIEW_S = 1.0
BEAT_S = 10.0
CHECK_S = 3.0
MOST_READERS = 256
MOST_WAITING = 32
"""Events that one page may be behind."""
_log = logging.getLogger(__name__)
BEAT = b": beat\n\n"


class _Reader:
    def __init__(self, who: Principal, is_good: Callable[[], Principal]) -> None:
        self.who, self.sight, self.is_good = who, sight_of(who), is_good
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)

    def put(self, message: bytes) -> None:
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


class Events:
    """All open pages of one event loop. It works only while there are any."""

    def __init__(self, follower: Follower, answers: Answers) -> None:
        self._follower, self._answers = follower, answers
        self._readers: set[_Reader] = set()
        self._lock = threading.Lock()
        self._news: set[str] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._last: dict[Principal, Any] = {}
        self._overview_s = self._checked_s = float("-inf")
        follower.on_news = self.note

    @property
    def num_readers(self) -> int:
        return len(self._readers)

    def note(self, kind: str) -> None:
        """From any thread."""
        with self._lock:
            self._news.add(kind)

    def open(self, is_good: Callable[[], Principal]) -> AsyncIterator[bytes]:
        """The events for whoever `is_good` tells; asked again now and then. Raises: RejectedError (`too_many_waiting`, `forbidden`)."""
        if len(self._readers) >= MOST_READERS:
            hint = "close some of them"
            raise RejectedError("too many pages are open", code="too_many_waiting", hint=hint, retryable=True, retry_after_s=5.0)
        return self._stream(_Reader(is_good(), is_good))

    async def _stream(self, reader: _Reader) -> AsyncIterator[bytes]:
        self._readers.add(reader)
        self._follower.watch()
        if self._ticker is None or self._ticker.done():
            self._take_news()  # what was new before anybody looked is what a page finds
            self._ticker = asyncio.get_running_loop().create_task(self._tick_loop())
        try:
            yield encoded("hello", {"seq": self._follower.model.seq, "now_s": self._follower.now_s()})
            while True:
                message: bytes | None = BEAT
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        message = await reader.waiting.get()
                if message is None:
                    return
                yield message
        finally:
            self._readers.discard(reader)

    async def _tick_loop(self) -> None:
        while self._readers:
            await asyncio.sleep(TICK_S)
            try:
                await self._tick()
            except Exception:  # the pages stay open: the next tick tells them
                _log.exception("events failed")

    async def _tick(self) -> None:
        self._follower.watch()
        self._end_those_without_token()
        news, is_overview_due = self._take_news(), time.monotonic() - self._overview_s >= OVERVIEW_S
        if not news and not is_overview_due:
            return
        readers = list(self._readers)
        messages = await anyio.to_thread.run_sync(self._messages, news, {reader.who for reader in readers}, is_overview_due)
        for reader in readers:
            for message in messages.get(reader.who, ()):
                reader.put(message)

    def _take_news(self) -> set[str]:
        with self._lock:
            news, self._news = self._news, set()
        return news

    def _messages(self, news: set[str], whos: Iterable[Principal], is_overview_due: bool) -> dict[Principal, list[bytes]]:
        """What each is told. Those with the same sight share the work."""
        with self._follower.lock:
            changed = self._follower.model.changed() if "jobs" in news else set()
        of_jobs: dict[Sight, bytes] = {}
        now = {"now_s": self._follower.now_s()}
        shared = [encoded(kind, now) for kind in ("nodes", "models") if kind in news]
        found: dict[Principal, list[bytes]] = {}
        for who in whos:
            mine = found[who] = list(shared)
            if "jobs" in news:
                sight = sight_of(who)
                if sight not in of_jobs:
                    of_jobs[sight] = encoded("jobs", self._answers.changed_jobs(sight, changed))
                mine.append(of_jobs[sight])
            if is_overview_due and (overview := self._new_overview(who)) is not None:
                mine.append(encoded("overview", overview))
        if is_overview_due:
            self._overview_s = time.monotonic()
            self._last = {who: last for who, last in self._last.items() if who in found}
        return found

    def _new_overview(self, who: Principal) -> dict[str, Any] | None:
        """None: it is as it was told last."""
        overview = self._answers.overview(who)
        what = {key: value for key, value in overview.items() if key not in ("now_s", "seq")}
        if self._last.get(who) == what:
            return None
        self._last[who] = what
        return overview

    def _end_those_without_token(self) -> None:
        if time.monotonic() - self._checked_s < CHECK_S:
            return
        self._checked_s = time.monotonic()
        for reader in list(self._readers):
            try:
                reader.is_good()
            except FabricError:
                reader.end()


def encoded(kind: str, document: Any) -> bytes:
    """One event."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), pydantic_core.to_json(document, inf_nan_mode="null"))
