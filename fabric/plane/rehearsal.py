"""What would become of a job: the scheduler's own decisions, played forward on a copy of its core.

Running jobs end when they are predicted to, what waits starts as the core lets it, and for one watched job it is noted when it
could first start each of its ways. Invariants: the core itself is left as it was; the work is bounded by `most_starts`;
the first start that is noted is the one that the core would make.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from fabric.job import JobEstimate, JobId, JobSpec, Option
from fabric.job_events import (
    JobCommand,
    JobDispatched,
    JobEnded,
    JobEstimated,
    JobFact,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Kill,
    Launch,
    Preempt,
)
from fabric.plane.core_copy import copy_of
from fabric.scheduler.admission import Admission
from fabric.scheduler.book import Book
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState

LEAVE_S = 5.0
"""A job that is told to leave is believed to have left after so long; it may be gone at once, or take its whole grace."""
GRACE_S = 30.0
MOST_STARTS = 150
Way = tuple[int, str, int]
Attempt = tuple[JobId, int]


def key_of(way: Option) -> Way:
    """Shape, flavor and number of bundles: the rate may be predicted anew."""
    return way[:3]


class Watching(Admission):
    """Notes when the watched job could start, and takes every such start back: others do not see it."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.watched: JobId | None = None
        self.wanted: tuple[Option, ...] = ()
        self.starts: dict[Way, Option] = {}
        self.preempting: set[Way] = set()

    def _try(self, job: JobRecord, hold_back_from_s: float) -> bool:
        if job.spec.job_id != self.watched:
            return super()._try(job, hold_back_from_s)
        claim = self.claims.get(job.spec.job_id)
        is_first = not self.starts
        for way in (claim,) if claim is not None else self._by_score(job, job.ways):
            if self.probe(job, way, has_claim=claim is not None) is None:
                self.starts[key_of(way)] = way
        if self.starts:
            job.ways = tuple(way for way in (self.wanted if is_first else job.ways) if key_of(way) not in self.starts)
            job.is_planned = False
            self.book.push(job)
        if not job.ways:
            self.book.backlog.drop(job)
            return True
        is_started = super()._try(job, hold_back_from_s)
        if job.spec.job_id in self.claims:
            self.preempting.add(key_of(self.claims[job.spec.job_id]))
        return is_started

    def probe(self, job: JobRecord, way: Option, *, has_claim: bool = False) -> tuple[str, str] | None:
        """Why the job could not start this way now, as (code, detail); None: it could. Changes nothing."""
        book, kept, claim = self.book, copy.deepcopy(self.reservation), self.claims.get(job.spec.job_id)
        said = job.why, job.detail, job.expects, job.seen_rate, job.dispatched_s
        if self._start(job, way, has_claim=has_claim):
            book.facts.pop()
            book.commands.pop()
            self._take_back(job)
            refused = None
        else:
            refused = job.why, job.detail
        self.reservation = kept
        if claim is not None and refused is not None:
            self.claims[job.spec.job_id] = claim
        job.why, job.detail, job.expects, job.seen_rate, job.dispatched_s = said
        return refused

    def _take_back(self, job: JobRecord) -> None:
        book, grant = self.book, job.grant
        assert grant is not None
        book.holding.pop(job.spec.job_id)
        book.standing.hold(job, grant.option, -1, book.now_s)
        book.machines.give(grant.nodes, book.demand(job, grant.option))
        job.state, job.grant, job.attempt = JobState.PENDING, None, job.attempt - 1
        book.push(job)


class Start(NamedTuple):
    """When the watched job could start one way; by the doubts of those that it waits for, from `low_s` to `high_s`."""

    at_s: float
    low_s: float
    high_s: float
    option: Option
    is_preempting: bool


class _Span(NamedTuple):
    """One attempt in the rehearsal: what it waited for, and how much sooner or later it may end, in seconds."""

    cause: Attempt | None
    sooner_s: float
    later_s: float


class Rehearsal:
    """`starts`: for each way of the watched job, in the order in which they come to be possible."""

    def __init__(self, core: Core, now_s: float, *, most_starts: int = MOST_STARTS) -> None:
        self.core = copy_of(core, now_s, Watching)
        self.book = self.core.book
        self.begin_s = self.now_s = self.book.now_s
        self.starts: dict[Way, Start] = {}
        self.num_starts = 0
        self._most_starts = most_starts
        self._spans: dict[Attempt, _Span] = {}
        self._due: list[tuple[float, int, JobFact]] = []
        self._order = itertools.count()
        self._freed: dict[str, Attempt] = {}
        for job in list(self.book.holding.values()):
            self._follow(job)

    @property
    def admission(self) -> Watching:
        admission = self.core.admission
        assert isinstance(admission, Watching)
        return admission

    def submit(self, spec: JobSpec, estimate: JobEstimate | None) -> JobRecord:
        """A job that the core does not know; its `after` must name jobs that have not ended."""
        self.book.apply(JobSubmitted(spec, spec.user))
        if estimate is not None:
            self.book.apply(JobEstimated(spec.job_id, estimate))
        return self.book.jobs[spec.job_id]

    def watch(self, job_id: JobId) -> JobRecord:
        """The job to be watched; `run` then finds its starts."""
        job, admission = self.book.jobs[job_id], self.admission
        admission.watched = job_id
        if job.cls is None:
            job.cls = self.book.standing.class_of(job, self.now_s)
        admission.wanted = self.book.ways_of(job)
        return job

    def run(self) -> None:
        """Until every way of the watched job has had its start, nothing ends any more, or the work is too much."""
        self._turn([])
        while self.num_starts < self._most_starts and len(self.starts) < len(self.admission.wanted):
            at_s = min(self._due[0][0] if self._due else math.inf, max(self.core.wake_s, self.now_s))
            if at_s == math.inf:
                return
            if at_s > self.now_s:
                # What a plan left idle on purpose is planned anew with everything that happens.
                self.admission.idle = {}
            self.now_s = at_s
            facts = []
            while self._due and self._due[0][0] <= at_s:
                facts.append(heapq.heappop(self._due)[2])
            self._turn(facts)

    # ---- inside

    def _turn(self, facts: list[JobFact]) -> None:
        self._freed = {}
        while True:
            self._note_ends(facts)
            decision = self.core.handle(*facts, now_s=self.now_s)
            for fact in decision.facts:
                if isinstance(fact, JobDispatched):
                    self.num_starts += 1
            self._note_starts()
            facts = [answer for command in decision.commands for answer in self._perform(command)]
            if not facts:
                return

    def _perform(self, command: JobCommand) -> Iterable[JobFact]:
        if isinstance(command, Launch | Preempt):
            self._follow(self.book.jobs[command.job_id])
        elif isinstance(command, Kill):
            yield JobEnded(command.job_id, command.attempt, command.outcome)

    def _follow(self, job: JobRecord) -> None:
        """Note when an attempt that now holds a lease will be over."""
        attempt, restart_s = (job.spec.job_id, job.attempt), self.book.policy.restart_s
        if job.state is JobState.PREEMPTING:
            done = job.done if job.spec.can_resume else job.checkpointed
            self._at(self.now_s + LEAVE_S, JobVacated(*attempt, done))
            self._spans[attempt] = _Span(None, LEAVE_S, GRACE_S - LEAVE_S)
            return
        if job.state is JobState.ADMITTED:
            self.book.apply(JobStarted(*attempt))
        left_s = job.remaining_s(self.now_s, restart_s)
        if left_s == math.inf:
            return
        self._at(self.now_s + left_s, JobEnded(*attempt, "ok"))
        warmup_s = min(left_s, max(0.0, job.started_s + restart_s - self.now_s))
        work_s, factor = left_s - warmup_s, math.exp(job.estimate.log_sd if job.estimate else 0.0)
        option = job.grant.option if job.grant is not None else None
        cause = self._cause(option.flavor) if option is not None and self.now_s > self.begin_s else None
        self._spans[attempt] = _Span(cause, warmup_s + work_s * (1.0 - 1.0 / factor), work_s * (factor - 1.0))

    def _at(self, at_s: float, fact: JobFact) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), fact))

    def _note_ends(self, facts: Iterable[JobFact]) -> None:
        for fact in facts:
            if isinstance(fact, JobEnded | JobVacated):
                job = self.book.jobs[fact.job_id]
                if job.grant is not None and job.attempt == fact.attempt:
                    self._freed[job.grant.option.flavor] = (fact.job_id, fact.attempt)

    def _note_starts(self) -> None:
        for key, option in self.admission.starts.items():
            if key not in self.starts:
                low_s, high_s = self._band(self._cause(option.flavor))
                self.starts[key] = Start(self.now_s, low_s, high_s, option, key in self.admission.preempting)

    def _cause(self, flavor: str) -> Attempt | None:
        """Whose end lets something start on the flavor now."""
        return self._freed.get(flavor) or next(iter(self._freed.values()), None)

    def _band(self, cause: Attempt | None) -> tuple[float, float]:
        """One standard deviation around now: the doubts of those that are waited for one after the other, as if independent."""
        sooner = later = 0.0
        while cause is not None and (span := self._spans.get(cause)) is not None:
            sooner += span.sooner_s**2
            later += span.later_s**2
            cause = span.cause
        return max(self.begin_s, self.now_s - math.sqrt(sooner)), self.now_s + math.sqrt(later)
