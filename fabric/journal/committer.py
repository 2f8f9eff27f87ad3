"""Group commit: the batches of many threads share one transaction, and so one fsync.

Batches of one caller stay together and callers keep their order. A transaction takes whatever has come while the last one was
written; nobody waits for company.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from fabric.errors import RuntimeFault
from fabric.journal.batch import Batch, Ready, Written, ready
from fabric.journal.log import Journal
from fabric.metrics import declared
from fabric.metrics.tally import Tally

MAX_FACTS = 4096
"""A transaction takes no further callers beyond this, so that the first ones do not wait for too long."""


class _Ticket(NamedTuple):
    batches: list[Ready]
    answer: Future[list[Written]]


class Committer:
    """One thread that writes for all others. `close` writes what was handed in before it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.pace = Tally()
        self._queue: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="commit", daemon=True)
        self._thread.start()

    def commit(
        self,
        stream: str,
        facts: Sequence[Any],
        *,
        documents: Mapping[str, Any] | None = None,
        key: str | None = None,
        stands_for: str = "",
        wall_s: float | None = None,
    ) -> Written:
        """Write one batch; returns when it is on disk. Raises: as `Journal.write`, and then nothing of it was written."""
        return self.submit([Batch(stream, facts, documents or {}, key, stands_for, wall_s)]).result()[0]

    def submit(self, batches: Sequence[Batch]) -> Future[list[Written]]:
        """Hand batches in, all or none, without waiting. Raises: as `ready`, at once."""
        ticket = _Ticket([ready(batch) for batch in batches], Future())
        # From now on it cannot be cancelled: it may be on disk already.
        ticket.answer.set_running_or_notify_cancel()
        with self._lock:
            if self._is_closed:
                raise RuntimeFault("the journal is closed", code="journal", hint="the scheduler is going down; try again")
            self._queue.put(ticket)
        return ticket.answer

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        is_open = True
        while is_open:
            group: list[_Ticket] = []
            num_facts = 0
            while num_facts < MAX_FACTS and (not group or not self._queue.empty()):
                ticket = self._queue.get()
                if ticket is None:
                    is_open = False
                    break
                group.append(ticket)
                num_facts += 1 + sum(len(batch.facts) for batch in ticket.batches)
            if group:
                self._write(group)

    def _write(self, group: list[_Ticket]) -> None:
        began_s = time.monotonic()
        try:
            written = iter(self._journal.write_ready([batch for ticket in group for batch in ticket.batches]))
        except BaseException as error:  # every caller is told; the thread must live on for the next ones
            for ticket in group:
                ticket.answer.set_exception(error)
            return
        self.pace.observe(declared.COMMIT, time.monotonic() - began_s)
        for ticket in group:
            ticket.answer.set_result([next(written) for _ in ticket.batches])
