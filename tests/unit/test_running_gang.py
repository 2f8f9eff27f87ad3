"""How an attempt's ranks start and end together, and what one fact comes of it. No Ray, no processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fabric.errors import RejectedError, RuntimeFault
from fabric.job import JobId, LaunchSpec, Outcome
from fabric.job_events import JobEnded, JobFact, JobProgressed, JobStarted, JobVacated
from fabric.running.attempt_use import attempt_use
from fabric.running.gang import Gang
from fabric.running.order import Ending, Order, RankUse
from fabric.running.outbox import Outbox, RunFact
from fabric.running.progress_file import Progress

OK, FAILED, TERMINATED = Ending("ok", exit_code=0), Ending("error", "boom", 1), Ending("error", "ended by SIGTERM", 143)


class PlayedRank:
    """Ends with `ends` by itself, or with `stopped` when it is told to."""

    def __init__(self, ends: Ending | None = None, stopped: Ending = TERMINATED, begins: Exception | None = None, has_files: bool = False):
        self.ending = ends
        self.stopped = stopped
        self.begins = begins
        self.has_files = has_files
        self.graces_s: list[float] = []
        self.said: Progress | None = None
        self.is_closed = False

    def begin(self) -> str:
        if self.begins is not None:
            raise self.begins
        return "node"

    def poll(self) -> Ending | None:
        return self.ending

    def stop(self, grace_s: float) -> None:
        self.graces_s.append(grace_s)
        self.ending = self.ending or self.stopped

    def progress(self) -> Progress | None:
        return self.said

    def keep(self) -> bool:
        return self.has_files

    def close(self) -> None:
        self.is_closed = True


class Played:
    """A gang in a thread of its own, with the facts it put."""

    def __init__(self, *ranks: PlayedRank, timeout_s: float | None = None, keeps: Callable[..., None] | None = None) -> None:
        self.ranks = ranks
        self.facts: list[RunFact] = []
        self.kept: list[tuple[list[int], float]] = []
        order = Order(1, JobId("j"), 1, "try", "program", LaunchSpec("program", grace_s=20.0), timeout_s=timeout_s)
        mark = keeps or (lambda ranks, done: self.kept.append((list(ranks), done)))
        self.gang = Gang(order, list(ranks), self._put, mark)
        self.thread = threading.Thread(target=self.gang.run)
        self.thread.start()

    def _put(self, fact: RunFact) -> int:
        self.facts.append(fact)
        return len(self.facts)

    def end(self) -> list[Any]:
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert all(rank.is_closed for rank in self.ranks)
        return self.facts


def test_all_ranks_well_is_ok() -> None:
    assert Played(PlayedRank(OK), PlayedRank(OK)).end() == [JobStarted("j", 1, ("node", "node")), JobEnded("j", 1, "ok", exit_code=0)]


def test_a_rank_that_fails_ends_the_others_and_names_the_reason() -> None:
    other = PlayedRank()
    assert Played(other, PlayedRank(FAILED)).end()[-1] == JobEnded("j", 1, "error", "boom", 1)
    assert other.graces_s == [3.0]


def test_a_rank_that_cannot_start_ends_the_others_and_nothing_is_said_to_run() -> None:
    other = PlayedRank()
    facts = Played(other, PlayedRank(begins=RuntimeFault("no disk"))).end()
    assert facts == [JobEnded("j", 1, "error", "it could not be started: no disk", None)]
    assert other.graces_s


def test_preempted_ranks_get_the_whole_grace_and_the_checkpoint_s_work_survives() -> None:
    first = PlayedRank(has_files=True)
    first.said = Progress(70.0, 100.0, checkpointed=60.0)
    played = Played(first, PlayedRank())
    played.gang.preempt()
    assert played.end()[-1] == JobVacated("j", 1, 60.0, 100.0)
    assert first.graces_s[0] == 20.0
    assert played.kept == [([0], 60.0)]


def test_without_a_checkpoint_nothing_survives_a_preemption() -> None:
    rank = PlayedRank()
    rank.said = Progress(70.0, 100.0)
    played = Played(rank)
    played.gang.preempt()
    assert played.end()[-1] == JobVacated("j", 1, 0.0, 100.0)


def test_a_checkpoint_that_cannot_be_stored_keeps_nothing() -> None:
    def fail(*_: Any) -> None:
        raise RuntimeFault("the disk is full", code="storage_full")

    played = Played(PlayedRank(has_files=True), keeps=fail)
    played.gang.preempt()
    assert played.end()[-1] == JobVacated("j", 1, 0.0)


@pytest.mark.parametrize(("said", "kind"), [(None, JobEnded), (Progress(100.0, 100.0), JobEnded), (Progress(50.0, 100.0), JobVacated)])
def test_exit_0_within_the_grace_is_success_unless_the_program_said_that_work_is_left(said: Progress | None, kind: type) -> None:
    rank = PlayedRank(stopped=OK)
    rank.said = said
    played = Played(rank)
    played.gang.preempt()
    assert isinstance(played.end()[-1], kind)


@pytest.mark.parametrize(("outcome", "message"), [("budget", "its budget is spent"), ("timeout", "it ran longer than its time limit")])
def test_what_a_limit_ends_keeps_its_checkpoint_and_says_which(outcome: Outcome, message: str) -> None:
    rank = PlayedRank(has_files=True)
    rank.said = Progress(70.0, 100.0, checkpointed=60.0)
    played = Played(rank)
    played.gang.kill(outcome)
    assert played.end()[-1] == JobEnded("j", 1, outcome, message, 143)
    assert rank.graces_s == [3.0]
    assert played.kept == [([0], 60.0)]


def test_cancelling_shortens_a_grace_that_runs() -> None:
    rank = PlayedRank()
    rank.stop = lambda grace_s: rank.graces_s.append(grace_s) or (grace_s < 20 and setattr(rank, "ending", TERMINATED))  # type: ignore[assignment,method-assign,func-returns-value]
    played = Played(rank)
    played.gang.preempt()
    deadline_s = time.monotonic() + 5
    while not rank.graces_s:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    played.gang.kill("cancelled")
    assert played.end()[-1].outcome == "cancelled"
    assert rank.graces_s[0] == 20.0
    assert rank.graces_s[-1] == 3.0


def test_its_time_limit_holds_without_a_scheduler() -> None:
    assert Played(PlayedRank(), timeout_s=0.05).end()[-1].outcome == "timeout"


def test_an_abandoned_attempt_ends_at_once_and_says_nothing() -> None:
    rank = PlayedRank()
    played = Played(rank)
    played.gang.abandon()
    assert not any(isinstance(fact, JobEnded | JobVacated) for fact in played.end())
    assert rank.graces_s[-1] == 0.0


def test_progress_is_put_when_it_changes_and_at_the_end() -> None:
    rank = PlayedRank()
    rank.said = Progress(1.0, 2.0)
    played = Played(rank)
    time.sleep(0.3)
    rank.said = Progress(2.0, 2.0)
    rank.ending = OK
    assert [fact.done for fact in played.end() if isinstance(fact, JobProgressed)] == [1.0, 2.0]


class Scheduler:
    """Takes facts unless it is away; refuses those of attempt 9 for good."""

    def __init__(self) -> None:
        self.is_away = False
        self.taken: list[tuple[int, JobFact]] = []

    def __call__(self, epoch: int, facts: Sequence[JobFact]) -> None:
        if self.is_away:
            raise ConnectionError("away")
        if any(getattr(fact, "attempt", 0) == 9 for fact in facts):
            raise RejectedError("attempt 9 is over", code="stale_attempt")
        self.taken += [(epoch, fact) for fact in facts]


def started(attempt: int = 1) -> JobStarted:
    return JobStarted(JobId("j"), attempt)


def progressed(done: float, attempt: int = 1) -> JobProgressed:
    return JobProgressed(JobId("j"), attempt, done)


def test_facts_wait_for_a_scheduler_that_is_away_and_arrive_in_order() -> None:
    scheduler = Scheduler()
    scheduler.is_away = True
    outbox = Outbox(scheduler, 7)
    outbox.put(started())
    for done in range(50):
        outbox.put(progressed(done))
    ticket = outbox.put(JobEnded(JobId("j"), 1, "ok"))
    assert not outbox.wait(ticket, 0.3)
    scheduler.is_away = False
    assert outbox.wait(ticket, 10)
    assert [fact for _, fact in scheduler.taken] == [started(), progressed(49), JobEnded(JobId("j"), 1, "ok")]
    assert {epoch for epoch, _ in scheduler.taken} == {7}


def test_a_refused_attempt_is_named_and_holds_up_no_other() -> None:
    scheduler = Scheduler()
    scheduler.is_away = True
    refused: list[tuple[str, int]] = []
    outbox = Outbox(scheduler, 1, lambda job_id, attempt: refused.append((job_id, attempt)))
    for attempt in (1, 9, 2):
        ticket = outbox.put(started(attempt))
    scheduler.is_away = False
    assert outbox.wait(ticket, 10)
    assert [fact for _, fact in scheduler.taken] == [started(1), started(2)]
    assert refused == [("j", 9)]


def test_the_last_fact_says_what_all_ranks_used_together() -> None:
    ranks = [PlayedRank(Ending("ok", exit_code=0, use=RankUse(cpu_s, peak))) for cpu_s, peak in ((1.5, 70), (0.5, 90))]
    (_, ended) = Played(*ranks).end()
    assert (ended.use.cpu_s, ended.use.peak_memory_bytes, ended.use.gpu_busy_s) == (2.0, 90, None) and ended.use.wall_s > 0
    lost = [PlayedRank(Ending("ok", exit_code=0, use=RankUse(1.0, 70))), PlayedRank(Ending("lost", "gone"))]
    assert Played(*lost).end()[-1].use is None, "half of it would mislead"


def test_what_was_asked_for_is_what_the_attempt_declared_for_as_long_as_it_ran() -> None:
    order = Order(
        1, JobId("j"), 1, "t", "program", LaunchSpec("program"), memory_bytes=100, declared={"CPU": 8.0, "GPU": 2.0, "memory": 200.0}
    )
    uses = [RankUse(3.0, 50, gpu_seen_s=9.0, gpu_busy_s=3.0, gpu_memory_bytes=80, peak_gpu_memory_bytes=20), RankUse(1.0, 60)]
    use = attempt_use(order, 10.0, [Ending("ok", use=each) for each in uses])
    assert use is not None
    assert (use.cpu_asked_s, use.accelerator_asked_s, use.memory_bytes, use.peak_memory_bytes) == (80.0, 20.0, 100, 60)
    assert (use.gpu_seen_s, use.gpu_busy_s, use.gpu_memory_bytes, use.peak_gpu_memory_bytes) == (9.0, 3.0, 80, 20)
