"""Drives the scheduler's core in real time: facts in, decisions journalled, commands performed.

One thread turns. Invariants: a command is performed only after the decision behind it is on disk; whoever tells a fact and
waits is answered only after it is on disk; while the disk is full nothing is performed and nothing is lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from fabric.errors import FabricError, RuntimeFault
from fabric.job_events import JOURNALLED, JobCommand, JobFact
from fabric.journal import Committer
from fabric.metrics import declared
from fabric.metrics.tally import Tally
from fabric.scheduler.core import Core, Decision

STREAM = "jobs"
LONGEST_SLEEP_S = 5.0
RETRY_S = 1.0
_log = logging.getLogger(__name__)


class WallClock:
    """Wall-clock seconds that never go back: taken once, then carried on by the monotonic clock."""

    def __init__(self, at_least_s: float = 0.0) -> None:
        self._offset_s = max(time.time(), at_least_s) - time.monotonic()

    def now_s(self) -> float:
        return self._offset_s + time.monotonic()


class Driver:
    """`perform(command)` carries a command out and returns at once. `lock` guards the core: hold it to read. `on_decided(facts)`
    is called under the lock with everything that was applied, for those who follow what happens."""

    def __init__(
        self,
        core: Core,
        committer: Committer,
        perform: Callable[[JobCommand], None],
        clock: WallClock,
        on_decided: Callable[[Sequence[JobFact]], None] = lambda _facts: None,
    ) -> None:
        self.core = core
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.pace = Tally()
        self._committer = committer
        self._perform = perform
        self._clock = clock
        self._on_decided = on_decided
        self._inbox: deque[tuple[tuple[JobFact, ...], bool, Future[None] | None]] = deque()
        self._wake = threading.Event()
        self._is_open = True
        self._unwritten_since_s: float | None = None
        self._thread = threading.Thread(target=self._loop, name="schedule", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, *facts: JobFact, is_written: bool = False) -> None:
        """Hand facts in without waiting. `is_written`: they are in the journal already."""
        self._put(facts, is_written, None)

    def tell_and_wait(self, *facts: JobFact, is_written: bool = False) -> None:
        """Returns when the facts are applied, and on disk where they are of the kind that is kept. Raises: RuntimeFault
        (`closed`): nobody turns any more."""
        answer: Future[None] = Future()
        self._put(facts, is_written, answer)
        answer.result()

    def close(self) -> None:
        """Turn no more. Who waits is told so."""
        self._is_open = False
        self._wake.set()
        self._thread.join()
        self._refuse_the_rest()

    @property
    def num_told(self) -> int:
        """Batches that wait for their turn."""
        return len(self._inbox)

    def lag_s(self) -> float:
        """How long the facts of the turn that is under way wait to be on disk; 0 where none does."""
        since_s = self._unwritten_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def _put(self, facts: tuple[JobFact, ...], is_written: bool, answer: Future[None] | None) -> None:
        self._inbox.append((facts, is_written, answer))
        self._wake.set()
        if not self._is_open and not self._thread.is_alive():
            self._refuse_the_rest()  # `close` may have looked before this was put in

    def _refuse_the_rest(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                _, _, answer = self._inbox.popleft()
                if answer is not None:
                    answer.set_exception(RuntimeFault("the scheduler is closed", code="closed"))

    def _loop(self) -> None:
        while self._is_open:
            try:
                self._sleep()
                self._turn()
            except Exception:
                _log.exception("the scheduler's turn failed")
                time.sleep(RETRY_S)

    def _sleep(self) -> None:
        """Until there is something to do."""
        with self.lock:
            sleep_s = min(LONGEST_SLEEP_S, max(0.0, self.core.wake_s - self._clock.now_s()))
        if not self._inbox and sleep_s > 0:
            self._wake.wait(sleep_s)
        self._wake.clear()

    def _turn(self) -> None:
        taken = [self._inbox.popleft() for _ in range(len(self._inbox))]
        told = [fact for facts, _, _ in taken for fact in facts]
        fresh = [fact for facts, is_written, _ in taken if not is_written for fact in facts]
        now_s = self._clock.now_s()
        answers = [answer for _, _, answer in taken if answer is not None]
        began_s = time.monotonic()
        self._unwritten_since_s = began_s if taken else None
        try:
            with self.lock:
                decision = self._handle(told, now_s)
                decided_s = time.monotonic()
                self._on_decided([*told, *decision.facts])
                self.changed.notify_all()
            self._write([fact for fact in (*fresh, *decision.facts) if type(fact).__name__ in JOURNALLED], now_s)
        except Exception as error:
            for answer in answers:
                answer.set_exception(error)
            raise
        finally:
            self._unwritten_since_s = None
        for answer in answers:
            answer.set_result(None)
        for command in decision.commands:
            try:
                self._perform(command)
            except FabricError as error:
                _log.warning("%s failed: %s", type(command).__name__, error.message)
        self.pace.observe(declared.DECISION, decided_s - began_s)
        self.pace.observe(declared.CYCLE, time.monotonic() - began_s)

    def _handle(self, told: Sequence[JobFact], now_s: float) -> Decision:
        try:
            return self.core.handle(*told, now_s=now_s)
        except FabricError:
            # One fact that cannot be applied must not take the others with it; applying one again changes nothing.
            _log.exception("facts num=%d are applied one by one", len(told))
        decision = Decision([], [])
        for fact in told:
            try:
                one = self.core.handle(fact, now_s=now_s)
            except FabricError:
                _log.exception("fact dropped: %r", fact)
                continue
            decision.facts.extend(one.facts)
            decision.commands.extend(one.commands)
        return decision

    def _write(self, facts: Sequence[JobFact], now_s: float) -> None:
        """What was decided must be on disk before it is done: with the disk full, wait for room."""
        while facts:
            try:
                self._committer.commit(STREAM, facts, wall_s=now_s)
                return
            except FabricError as error:
                _log.error("journal num=%d failed, tried again: %s", len(facts), error.message)
                if not self._is_open:
                    raise
                time.sleep(RETRY_S)
