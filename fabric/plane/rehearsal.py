"""What would become of a job: the scheduler's own decisions, played forward on a copy of its core.

Running jobs end when they are predicted to, what waits starts as the core lets it, and for one watched job it is noted when it
could first start each of its ways. Invariants: the core itself is left as it was; the work is bounded by `most_tries`;
the first start that is noted is the one that the core would make.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from fabric.job import JobEstimate, JobId, JobSpec, Option
from fabric.job_events import (
    JobCommand,
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
from fabric.plane.rough import ROUGH_FRAC, Attempt, Yard, lay_out
from fabric.plane.views import in_order
from fabric.plane.watching import Watching, Way, key_of
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core
from fabric.scheduler.preemption import LEAVE_S
from fabric.scheduler.record import JobRecord
from fabric.states import JobState

GRACE_S = 30.0
"""A job that is told to leave is believed to have left after `LEAVE_S`; it may be gone at once, or take its whole grace."""
MOST_TRIES = 800
FOR_ROOM = frozenset({"", "Resources", "Priority", "Planning", "Reserved"})
"""What waits for anything else cannot be laid out by what is free."""


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

    def __init__(self, core: Core, now_s: float, *, most_tries: int = MOST_TRIES) -> None:
        self.core = copy_of(core, now_s)
        self.core.admission = self.admission = Watching(self.core.admission)
        self.book = self.core.book
        self.begin_s = self.now_s = self.book.now_s
        self.starts: dict[Way, Start] = {}
        self._most_tries, self._num_turns = most_tries, 0
        self._spans: dict[Attempt, _Span] = {}
        self._due: list[tuple[float, int, JobFact]] = []
        self._order = itertools.count()
        self._freed: dict[str, Attempt] = {}
        for job in list(self.book.holding.values()):
            self._follow(job)

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
        while len(self.starts) < len(self.admission.wanted):
            self._num_turns += 1
            if self.admission.num_tries + self._num_turns > self._most_tries:
                self._lay_out()
                return
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

    # ---- far off

    def _lay_out(self) -> None:
        """The starts that are still missing, roughly: who is ahead is laid out in order, on top of what runs by now."""
        admission, restart_s = self.admission, self.book.policy.restart_s
        job = self.book.jobs[admission.watched] if admission.watched is not None else None
        if job is None or reason(job)[0] not in FOR_ROOM:
            return
        yards = self._yards()
        before = itertools.takewhile(lambda other: other is not job, in_order(self.core))
        for laid in lay_out(yards, before, restart_s):
            self._spans[laid.attempt] = self._span(laid.cause, self.book.jobs[laid.attempt[0]], laid.run_s, min(restart_s, laid.run_s))
        for way in sorted(admission.wanted, key=lambda way: (way.flavor, way.units)):
            yard = yards[way.flavor]
            cause = yard.wait(way.units)
            if key_of(way) not in self.starts and yard.at_s < math.inf:
                low_s, high_s = self._band(cause, yard.at_s)
                rough_s = ROUGH_FRAC * (yard.at_s - self.now_s)
                self.starts[key_of(way)] = Start(yard.at_s, max(self.begin_s, low_s - rough_s), high_s + rough_s, way, False)

    def _yards(self) -> dict[str, Yard]:
        yards = {name: Yard(self.now_s, stock.free_units, stock.total_units) for name, stock in self.book.machines.stocks.items()}
        for end_s, _, fact in self._due:
            if isinstance(fact, JobEnded | JobVacated):
                grant = self.book.jobs[fact.job_id].grant
                if grant is not None and self.book.jobs[fact.job_id].attempt == fact.attempt:
                    yards[grant.option.flavor].ends.append((end_s, (fact.job_id, fact.attempt), grant.option.units))
        for yard in yards.values():
            heapq.heapify(yard.ends)
        return yards

    # ---- inside

    def _turn(self, facts: list[JobFact]) -> None:
        self._freed = {}
        while True:
            self._note_ends(facts)
            decision = self.core.handle(*facts, now_s=self.now_s)
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
        option = job.grant.option if job.grant is not None else None
        cause = self._cause(option.flavor) if option is not None and self.now_s > self.begin_s else None
        self._spans[attempt] = self._span(cause, job, left_s, warmup_s)

    def _span(self, cause: Attempt | None, job: JobRecord, left_s: float, warmup_s: float) -> _Span:
        """Only work is in doubt to both sides; the restart time may also not be needed at all."""
        work_s, factor = left_s - warmup_s, math.exp(job.estimate.log_sd if job.estimate else 0.0)
        return _Span(cause, warmup_s + work_s * (1.0 - 1.0 / factor), work_s * (factor - 1.0))

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
                low_s, high_s = self._band(self._cause(option.flavor), self.now_s)
                self.starts[key] = Start(self.now_s, low_s, high_s, option, key in self.admission.preempting)

    def _cause(self, flavor: str) -> Attempt | None:
        """Whose end lets something start on the flavor now."""
        return self._freed.get(flavor) or next(iter(self._freed.values()), None)

    def _band(self, cause: Attempt | None, at_s: float) -> tuple[float, float]:
        """One standard deviation around a start: the doubts of those that are waited for one after the other. They add up in full:
        jobs of one family are mistaken together."""
        sooner = later = 0.0
        while cause is not None and (span := self._spans.get(cause)) is not None:
            sooner += span.sooner_s
            later += span.later_s
            cause = span.cause
        return max(self.begin_s, at_s - sooner), at_s + later
