"""The scheduler: facts and the time in, decisions and commands out. No Ray, no clock, no I/O.

`Book` applies facts, `Admission` decides who starts, `planning` asks the optimiser. Invariants: a job holds at most one grant;
a gang is granted whole or not at all; a queue never holds more than its quota lets it; what is replayed gives back the
state that was live.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

from fabric.job import JobId
from fabric.job_events import JobCommand, JobFact, Kill, PlanSolved, Solve
from fabric.policy import Policy
from fabric.scheduler import planning
from fabric.scheduler.admission import Admission
from fabric.scheduler.book import Book
from fabric.scheduler.planning import Pace
from fabric.scheduler.problem import Plan
from fabric.scheduler.record import JobRecord
from fabric.states import JobState
from fabric.types import Flavor

DEFER_S = 1.0
"""So long a job waits for a plan that is being made; and only if it will run for much longer."""
LONG_S = 60.0


class Decision(NamedTuple):
    """`facts` are to be journalled before `commands` are performed."""

    facts: list[JobFact]
    commands: list[JobCommand]


class Core:
    """See the module. `is_planning=False` leaves the optimiser out: first in order, first served."""

    def __init__(self, catalogue: Mapping[str, Flavor], policy: Policy | None = None, *, is_planning: bool = True) -> None:
        self.book = Book(catalogue, policy or Policy())
        self.admission = Admission(self.book)
        self.pace = Pace()
        self.is_planning = is_planning
        self._asked: list[JobRecord] = []

    def handle(self, *facts: JobFact, now_s: float) -> Decision:
        """Take what happened; answer with what is decided. Without facts it only looks at the time."""
        book = self.book
        book.now_s = max(book.now_s, now_s)
        for fact in facts:
            if isinstance(fact, PlanSolved):
                self._take_plan(fact)
            else:
                book.apply(fact)
        self._fire_timers()
        self.pace.changes += book.changes
        book.changes = 0
        if self.is_planning and book.now_s >= self.pace.due_s(self._num_jobs):
            self._ask()
        is_waiting = self.pace.is_waiting and book.now_s < self.pace.asked_s + DEFER_S
        self.admission.run(LONG_S if is_waiting else math.inf)
        decision = Decision(book.facts, book.commands)
        book.facts, book.commands = [], []
        return decision

    def replay(self, fact: JobFact, now_s: float) -> None:
        """Apply a journalled fact as it was; nothing is decided."""
        book = self.book
        book.is_replaying, book.now_s = True, max(book.now_s, now_s)
        try:
            book.apply(fact)
        finally:
            book.is_replaying = False

    @property
    def wake_s(self) -> float:
        """When to call `handle` again even if nothing happens; infinite where there is no need."""
        due_s = self.book.timers[0][0] if self.book.timers else math.inf
        due_s = min(due_s, self.admission.wake_s, *self.book.budget_timers.values())
        if not self.is_planning:
            return due_s
        if self.pace.is_waiting and self.book.now_s < self.pace.asked_s + DEFER_S:
            due_s = min(due_s, self.pace.asked_s + DEFER_S)
        return min(due_s, self.pace.due_s(self._num_jobs))

    @property
    def jobs(self) -> Mapping[JobId, JobRecord]:
        return self.book.jobs

    @property
    def _num_jobs(self) -> int:
        return self.book.backlog.num_waiting + len(self.book.holding)

    def _fire_timers(self) -> None:
        book = self.book
        while book.timers and book.timers[0][0] <= book.now_s:
            _, job_id = heapq.heappop(book.timers)
            job = book.jobs.get(job_id)
            if job is None:
                continue
            if job.state is JobState.PENDING:
                book.enqueue(job)
            elif job.state is JobState.RUNNING:
                self._check_limits(job)
        for queue in [queue for queue, at_s in book.budget_timers.items() if at_s <= book.now_s]:
            del book.budget_timers[queue]
            book.check_budget(queue)

    def _check_limits(self, job: JobRecord) -> None:
        book, spec = self.book, job.spec
        if spec.timeout_s is not None and book.now_s >= job.started_s + spec.timeout_s - 1e-6:
            book.commands.append(Kill(spec.job_id, job.attempt, "timeout"))
        elif spec.budget_usd is not None and job.grant is not None:
            spent = job.spent_usd + book.standing.usd_per_s(job.grant.option) * (book.now_s - job.dispatched_s)
            if spent >= spec.budget_usd - 1e-6:
                book.commands.append(Kill(spec.job_id, job.attempt, "budget"))

    def _ask(self) -> None:
        problem, asked = planning.problem_of(self.book, self.pace.warm)
        if problem.jobs:
            self.pace.asked(self.book.now_s)
            self._asked = asked
            self.book.commands.append(Solve(problem))

    def _take_plan(self, fact: PlanSolved) -> None:
        plan: Plan = fact.plan
        self.pace.answered(plan, fact.took_s)
        planning.take(plan, self._asked, self.book, self.admission)
        self._asked = []
