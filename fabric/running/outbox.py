"""Facts on their way to the scheduler: kept until it has taken them, in order, at least once.

Invariants: a scheduler that is away costs nothing but the wait; of several progress facts of one attempt in a row only
the last is sent; a fact that the scheduler refuses for good (its attempt is over) is dropped and its attempt marked.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from fabric.errors import RejectedError
from fabric.job_events import JobFact, JobProgressed, RunFact
from fabric.ports import Report

MAX_BATCH = 256
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class Outbox:
    """`on_refused(job_id, attempt)` is called when the scheduler says that an attempt is not its own any more."""

    def __init__(self, report: Report, epoch: int, on_refused: Callable[[str, int], None] | None = None) -> None:
        self.epoch = epoch
        self._report = report
        self._on_refused = on_refused
        self._facts: deque[tuple[int, RunFact]] = deque()
        self._num_put = 0
        self._num_taken = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._loop, name="outbox", daemon=True).start()

    def put(self, fact: RunFact) -> int:
        """A ticket for `wait`."""
        with self._changed:
            if self._facts and _replaces(fact, self._facts[-1][1]):
                self._facts.pop()
            self._num_put += 1
            self._facts.append((self._num_put, fact))
            self._changed.notify_all()
            return self._num_put

    def wait(self, ticket: int, timeout_s: float | None = None) -> bool:
        """Whether the fact, and all before it, have been taken or refused."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_taken >= ticket, timeout_s)

    def _loop(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._facts))
                batch = list(self._facts)[:MAX_BATCH]
            if self._send(batch):
                pause_s = FIRST_PAUSE_S
                continue
            threading.Event().wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _send(self, batch: list[tuple[int, RunFact]]) -> bool:
        try:
            self._report(self.epoch, [fact for _, fact in batch])
        except RejectedError as error:
            if error.retryable:
                return False
            if len(batch) > 1:  # one of them is refused: each by itself
                return all(self._send([one]) for one in batch)
            self._refuse(batch[0][1], error)
        except Exception as error:  # the scheduler is away, or Ray is: what it is does not matter
            _log.info("report kept num=%d because=%r", len(batch), error)
            return False
        self._drop(batch[-1][0])
        return True

    def _refuse(self, fact: JobFact, error: RejectedError) -> None:
        assert isinstance(fact, RunFact)
        _log.warning("report refused job=%s attempt=%d because=%s", fact.job_id, fact.attempt, error.message)
        if self._on_refused is not None:
            self._on_refused(fact.job_id, fact.attempt)

    def _drop(self, ticket: int) -> None:
        with self._changed:
            while self._facts and self._facts[0][0] <= ticket:
                self._facts.popleft()
            self._num_taken = max(self._num_taken, ticket)
            self._changed.notify_all()


def _replaces(fact: RunFact, last: RunFact) -> bool:
    is_progress = isinstance(fact, JobProgressed) and isinstance(last, JobProgressed)
    return is_progress and (fact.job_id, fact.attempt) == (last.job_id, last.attempt)
