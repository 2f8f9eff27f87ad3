"""One attempt as a whole: its ranks start together, end together, and what came of it is one fact.

Pure coordination over `Rank`, whether that runs here or on another node. Invariants: a rank that fails ends all others;
exactly one last fact (`JobVacated` or `JobEnded`) is put, after all ranks have ended and their checkpoints are kept; an
attempt that was fenced off (`abandon`) puts none.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from fabric.errors import FabricError
from fabric.job import Outcome
from fabric.job_events import JobEnded, JobProgressed, JobStarted, JobVacated, RunFact
from fabric.running.attempt_use import attempt_use
from fabric.running.order import Ending, Order
from fabric.running.progress_file import Progress

POLL_S = 0.1
PROGRESS_EVERY_S = 1.0
KILL_GRACE_S = 3.0
"""What a job that was cancelled or has met a limit gets between SIGTERM and SIGKILL."""


class Rank(Protocol):
    """One process of an attempt. `poll` and `stop` return at once; nothing raises after `begin`."""

    def begin(self) -> str:
        """Prepare and start; the node it runs on. Blocks. Raises: FabricError, OSError."""
        ...

    def poll(self) -> Ending | None: ...

    def stop(self, grace_s: float) -> None: ...

    def progress(self) -> Progress | None: ...

    def keep(self) -> bool:
        """Mirror its checkpoint directory to the store; whether there was anything to keep. Blocks."""
        ...

    def close(self) -> None:
        """Send the rest of its log, remove its scratch files. Blocks."""
        ...


class Gang:
    """`put` takes the facts. `mark_kept(ranks, done)` makes the mirrored checkpoint the one that is restored next.
    `woken` may be set by anyone to make it look at once. `before_lost` blocks until a lost rank cannot be alive: by then
    `is_given_up` has told it so."""

    def __init__(
        self,
        order: Order,
        ranks: Sequence[Rank],
        put: Callable[[RunFact], int],
        mark_kept: Callable[[Sequence[int], float], None],
        woken: threading.Event | None = None,
        before_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.order = order
        self._ranks = ranks
        self._put = put
        self._mark_kept = mark_kept
        self._woken = woken or threading.Event()
        self._before_lost = before_lost
        self._is_preempted = False
        self._killed_as: Outcome | None = None
        self._is_abandoned = False
        self._first_bad: Ending | None = None
        self._progress: Progress | None = None
        self._reported: Progress | None = None
        self._reported_s = 0.0
        self._started_s = time.monotonic()
        self.is_given_up = False

    def preempt(self) -> None:
        self._is_preempted = True
        self._woken.set()

    def kill(self, outcome: Outcome) -> None:
        self._killed_as = self._killed_as or outcome
        self._woken.set()

    def abandon(self) -> None:
        """A newer attempt or epoch exists, or the lease is gone: end everything now and say nothing."""
        self._is_abandoned = True
        self._woken.set()

    def run(self) -> int | None:
        """From start to end; the ticket of the last fact, None where it was abandoned."""
        self._started_s = time.monotonic()
        return self._finish(self._wait_all(self._begin()))

    def _begin(self) -> dict[int, Ending]:
        """Start all ranks at once; the endings of those that could not."""
        with ThreadPoolExecutor(max_workers=min(32, len(self._ranks))) as pool:
            begun = list(pool.map(_begin_one, self._ranks))
        failed = {i: one for i, one in enumerate(begun) if isinstance(one, Ending)}
        if not failed:
            nodes = tuple(one for one in begun if isinstance(one, str))
            self._put(JobStarted(self.order.job_id, self.order.attempt, nodes))
        return failed

    def _wait_all(self, endings: dict[int, Ending]) -> list[Ending]:
        """Until every rank has ended."""
        is_stopping = False
        while True:
            for i, rank in enumerate(self._ranks):
                if i not in endings and (ending := rank.poll()) is not None:
                    endings[i] = ending
                    if ending.outcome != "ok" and not is_stopping and self._first_bad is None:
                        self._first_bad = ending
            self._first_bad = self._first_bad or next((e for e in endings.values() if e.outcome != "ok" and not is_stopping), None)
            if len(endings) == len(self._ranks):
                self._look_at_progress()
                return [endings[i] for i in range(len(self._ranks))]
            if self.order.timeout_s is not None and time.monotonic() - self._started_s > self.order.timeout_s:
                self.kill("timeout")
            if (grace_s := self._grace_s()) is not None:
                is_stopping = True
                for i, rank in enumerate(self._ranks):
                    if i not in endings:
                        rank.stop(grace_s)
            self._look_at_progress()
            self._woken.wait(POLL_S)
            self._woken.clear()

    def _grace_s(self) -> float | None:
        """How long the ranks have from now to leave; None where they may go on. The hardest reason counts."""
        how = self.order.how
        if self._is_abandoned:
            return 0.0
        if self._killed_as is not None or self._first_bad is not None:
            return min(KILL_GRACE_S, how.grace_s)
        return how.grace_s if self._is_preempted else None

    def _look_at_progress(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s < PROGRESS_EVERY_S:
            return
        self._reported_s = now_s
        self._progress = self._ranks[0].progress() or self._progress
        if self._progress is not None and self._progress != self._reported and not self._is_abandoned:
            self._reported = self._progress
            p = self._progress
            self._put(JobProgressed(self.order.job_id, self.order.attempt, p.done, p.total, p.checkpointed))

    def _finish(self, endings: Sequence[Ending]) -> int | None:
        self._reported_s = 0.0
        self._look_at_progress()
        if self._is_abandoned:
            self._close()
            return None
        use = attempt_use(self.order, time.monotonic() - self._started_s, endings)
        fact = dataclasses.replace(self._verdict(endings), use=use)
        self._close()
        if any(ending.outcome == "lost" for ending in endings):
            self.is_given_up = True
            self._before_lost()
        return self._put(fact)

    def _verdict(self, endings: Sequence[Ending]) -> JobVacated | JobEnded:
        job_id, attempt = self.order.job_id, self.order.attempt
        if self._killed_as is not None and self._first_bad is None:
            if self._killed_as in _KEPT:
                self._keep()
            return JobEnded(job_id, attempt, self._killed_as, _KILLED_BY[self._killed_as], _exit_code(endings))
        all_ok = all(ending.outcome == "ok" for ending in endings)
        if all_ok and not (self._is_preempted and self._progress is not None and self._progress.is_short):
            return JobEnded(job_id, attempt, "ok", exit_code=0)
        done = self._keep()
        if self._is_preempted and self._first_bad is None:
            return JobVacated(job_id, attempt, done, self._progress.total if self._progress is not None else None)
        bad = self._first_bad or next(ending for ending in endings if ending.outcome != "ok")
        return JobEnded(job_id, attempt, bad.outcome, bad.message, bad.exit_code)

    def _keep(self) -> float:
        """Mirror all ranks' checkpoints; the work that they keep. Where that fails, the checkpoint before it stays."""
        try:
            with ThreadPoolExecutor(max_workers=min(8, len(self._ranks))) as pool:
                kept = list(pool.map(lambda rank: rank.keep(), self._ranks))
            if any(kept):
                done = 0.0
                if self._progress is not None:
                    done = self._progress.done if self._progress.checkpointed is None else self._progress.checkpointed
                self._mark_kept([i for i, is_kept in enumerate(kept) if is_kept], done)
                return done
        except (FabricError, OSError):
            return 0.0
        return 0.0

    def _close(self) -> None:
        with ThreadPoolExecutor(max_workers=min(8, len(self._ranks))) as pool:
            list(pool.map(lambda rank: rank.close(), self._ranks))


_KILLED_BY = {"timeout": "it ran longer than its time limit", "cancelled": "it was cancelled", "budget": "its budget is spent"}
_KEPT = frozenset({"timeout", "budget"})
"""A limit ended it, not a person: with a higher one it may go on from what it has."""


def _begin_one(rank: Rank) -> str | Ending:
    try:
        return rank.begin()
    except MemoryError as error:
        return Ending("oom", repr(error))
    except (FabricError, OSError, ValueError) as error:
        return Ending("error", f"it could not be started: {error}")


def _exit_code(endings: Sequence[Ending]) -> int | None:
    return next((ending.exit_code for ending in endings if ending.exit_code), endings[0].exit_code)
