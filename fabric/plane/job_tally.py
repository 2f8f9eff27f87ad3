"""Counts jobs as their facts come by: how many are in which state, how long they waited, what was preempted and tried again.

Invariants: a fact costs a few additions and no look at other jobs; all methods are called under the scheduler's lock.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fabric.job import JobId
from fabric.job_events import JobDispatched, JobEnded, JobFact, JobPreempted, JobSubmitted, LeaseRefused, PlanSolved
from fabric.metrics import declared as m
from fabric.metrics.metric import Sample
from fabric.metrics.tally import Tally
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState

OPEN = tuple(state for state in JobState if not state.is_final)


class _Last(NamedTuple):
    """Where an open job was seen last."""

    queue: str
    user: str
    state: JobState


class JobTally:
    """Of all jobs of a core that has restored itself."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tally = Tally()
        self._open: dict[JobId, _Last] = {}
        self._jobs: Counter[_Last] = Counter()
        self._alike: dict[_Last, _Last] = {}
        """One object for all jobs of a queue, user and state."""
        self._waiting: dict[str, dict[JobId, float]] = {}
        """Queue -> those that wait -> since when, in the order in which they were queued."""
        for job in sorted(core.jobs.values(), key=lambda job: job.spec.submitted_s):
            self._see(job, job.spec.submitted_s)

    def note(self, facts: Sequence[JobFact], now_s: float) -> None:
        """Facts that the core has applied."""
        self._tally.count(m.FACTS, by=len(facts))
        seen: set[JobId] = set()
        for fact in facts:
            if isinstance(fact, PlanSolved):
                self._tally.observe(m.PLAN, fact.took_s)
                continue
            job_id = fact.spec.job_id if isinstance(fact, JobSubmitted) else getattr(fact, "job_id", None)
            job = None if job_id is None else self._core.jobs.get(job_id)
            if job is None:
                continue
            self._count(fact, job, now_s)
            seen.add(job.spec.job_id)
        for job_id in seen:
            self._see(self._core.jobs[job_id], now_s)

    def samples(self, now_s: float) -> Iterator[Sample]:
        """Every queue of the policy has a row for each state, none of them or not."""
        by_queue = Counter(dict.fromkeys(itertools.product(self._core.book.standing.queues, OPEN), 0))
        by_user: Counter[tuple[str, JobState]] = Counter()
        for last, count in self._jobs.items():
            by_queue[last.queue, last.state] += count
            by_user[last.user, last.state] += count
        yield from (Sample(m.QUEUE_JOBS, labels, count) for labels, count in by_queue.items())
        yield from (Sample(m.USER_JOBS, labels, count) for labels, count in by_user.items())
        for queue in {queue for queue, _ in by_queue}:
            waiting = self._waiting.get(queue)
            oldest_s = now_s - next(iter(waiting.values())) if waiting else 0.0
            yield Sample(m.QUEUE_OLDEST_WAIT, (queue,), max(0.0, oldest_s))
        yield from self._tally.samples()

    def _count(self, fact: JobFact, job: JobRecord, now_s: float) -> None:
        queue = job.spec.queue
        match fact:
            case JobSubmitted():
                self._tally.count(m.JOBS_SUBMITTED, queue, job.spec.user)
            case JobDispatched() if fact.attempt == 1:
                self._tally.observe(m.JOB_WAIT, max(0.0, now_s - job.spec.submitted_s), queue)
            case JobPreempted():
                self._tally.count(m.JOB_PREEMPTIONS, queue, fact.reason)
            case LeaseRefused():
                self._tally.count(m.JOB_REFUSALS, queue)
            case JobEnded() if not job.state.is_final:
                self._tally.count(m.JOB_RETRIES, queue, fact.outcome)

    def _see(self, job: JobRecord, now_s: float) -> None:
        """Take over the state that the job is in now."""
        job_id, spec = job.spec.job_id, job.spec
        before = self._open.get(job_id)
        now = _Last(spec.queue, spec.user, job.state)
        if before == now:
            return
        if before is not None:
            self._jobs[before] -= 1
            if before.state is JobState.PENDING:
                self._waiting[before.queue].pop(job_id, None)
        if job.state.is_final:
            if self._open.pop(job_id, None) is not None:
                self._tally.count(m.JOBS_ENDED, spec.queue, spec.user, job.state)
            return
        self._open[job_id] = self._alike.setdefault(now, now)
        self._jobs[now] += 1
        if job.state is JobState.PENDING:
            self._waiting.setdefault(spec.queue, {})[job_id] = now_s
