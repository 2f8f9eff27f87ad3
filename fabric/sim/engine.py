"""Virtual time: drives the scheduler's own core over jobs that only pass the time.

The engine stands for Ray, the runners, the profiler and the clock; it decides nothing. What a job really does (its true rates
and its true work) is known here only; the core sees its estimate. Invariant: a lease does no work in its first `restart_s` seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fabric.errors import BugError
from fabric.job import JobEstimate, JobId, JobSpec, Option
from fabric.job_events import (
    JobClosed,
    JobCommand,
    JobEnded,
    JobEstimated,
    JobFact,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Kill,
    Launch,
    NodesSeen,
    PlanSolved,
    Preempt,
    Solve,
)
from fabric.scheduler.core import Core
from fabric.scheduler.problem import Plan, Problem
from fabric.scheduler.ways import speed_up
from fabric.types import Node

Planner = Callable[[Problem], Plan]


@dataclass(slots=True)
class SimJob:
    """One job of a trace. `true_rates`: (shape, flavor) -> work per second at the shape's least size. `estimate`: what the core
    is told of it when it is submitted, unless the simulation has `Beliefs`."""

    spec: JobSpec
    arrival_s: float
    work: float
    true_rates: Mapping[tuple[int, str], float]
    estimate: JobEstimate | None = None
    done: float = 0.0
    end_s: float | None = None
    outcome: str = ""
    num_starts: int = 0


@dataclass(slots=True)
class SimLease:
    """What one attempt held, from its start to its end or move; `steps` is the work that it did."""

    job: JobId
    flavor: str
    units: float
    start_s: float
    end_s: float
    steps: float


@dataclass(slots=True)
class _Attempt:
    attempt: int
    option: Option
    nodes: tuple[str, ...]
    start_s: float
    rate: float


@dataclass(slots=True)
class Failure:
    """A node that is away from `at_s` until `until_s`."""

    at_s: float
    until_s: float
    node_id: str


class Beliefs(Protocol):
    """Stands for the profiler: what may be known of jobs whose work is not told. `report_s`: the least time between reports."""

    report_s: float

    def first(self, job: SimJob) -> JobEstimate | None:
        """At its submission."""

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        """Once it has done so much work, lately on this flavor: what that says of it and of others."""

    def ended(self, job: SimJob) -> list[JobEstimated]:
        """What its end says of others."""


@dataclass(frozen=True, slots=True)
class _Report:
    job_id: JobId
    attempt: int


_Event = JobFact | Failure | _Report | tuple[JobId, int]
"""The last: the attempt that is complete at that time."""
REPORT_GROWTH = 0.1
"""An attempt that has worked for t reports again after t x this: reports grow rarer, never much too late."""


class Simulation:
    """`run()` drives it to the end; then `jobs` and `leases` hold what happened."""

    def __init__(
        self,
        core: Core,
        jobs: Iterable[SimJob],
        nodes: Iterable[Node],
        planner: Planner | None,
        *,
        restart_s: float = 0.0,
        failures: Iterable[Failure] = (),
        checkpoint_s: float = 0.0,
        beliefs: Beliefs | None = None,
        on_time: Callable[[float, int], None] | None = None,
        plan_s: float = 0.0,
    ) -> None:
        """`plan_s`: so long a plan is said to have taken; the core asks for the next the later."""
        self.core = core
        self.jobs = {job.spec.job_id: job for job in jobs}
        self.nodes = {node.node_id: node for node in nodes}
        self.planner = planner
        self.restart_s, self.checkpoint_s = restart_s, checkpoint_s
        self.beliefs = beliefs
        self.leases: list[SimLease] = []
        self.num_left = len(self.jobs)
        self.num_events = 0
        self.now_s = 0.0
        self._on_time, self._plan_s = on_time, plan_s
        self._running: dict[JobId, _Attempt] = {}
        self._away: set[str] = set()
        self._heap: list[tuple[float, int, _Event]] = []
        self._order = itertools.count()
        self._at(0.0, NodesSeen(tuple(self.nodes.values())))
        for job in self.jobs.values():
            self._at(job.arrival_s, JobSubmitted(job.spec, job.spec.user))
        self._failures = iter(failures)
        self._next_failure()

    def run(self) -> None:
        """Raises: BugError where jobs are left that nothing will ever start."""
        while self.num_left:
            wake_s = max(self.core.wake_s, self.now_s)
            next_s = self._heap[0][0] if self._heap else float("inf")
            at_s = min(wake_s, next_s)
            if at_s == float("inf") or (wake_s == float("inf") and self._is_idle()):
                raise BugError(f"{self.num_left} jobs wait for what never comes: {self._reasons()}", code="simulation_stuck")
            self.now_s = at_s
            facts = self._due()
            self._handle(facts)
            if self._on_time is not None:
                self._on_time(self.now_s, self.num_left)

    def _due(self) -> list[JobFact]:
        facts: list[JobFact] = []
        while self._heap and self._heap[0][0] <= self.now_s:
            _, _, what = heapq.heappop(self._heap)
            if isinstance(what, Failure):
                facts += self._fail(what)
            elif isinstance(what, tuple):
                facts += self._complete(*what)
            elif isinstance(what, _Report):
                facts += self._report(what)
            else:
                facts.append(what)
                if isinstance(what, JobSubmitted) and (estimate := self._first_estimate(self.jobs[what.spec.job_id])) is not None:
                    facts.append(JobEstimated(what.spec.job_id, estimate))
        return facts

    def _is_idle(self) -> bool:
        """Nothing runs, comes or is away but failures without end."""
        return not self._running and not self._away and all(isinstance(what, Failure | _Report) for _, _, what in self._heap)

    def _first_estimate(self, job: SimJob) -> JobEstimate | None:
        return job.estimate if self.beliefs is None else self.beliefs.first(job)

    def _report(self, report: _Report) -> list[JobFact]:
        """A running job tells how far it is."""
        running, job = self._running.get(report.job_id), self.jobs[report.job_id]
        if running is None or running.attempt != report.attempt or self.beliefs is None:
            return []
        done = job.done + self._steps(report.job_id)
        facts: list[JobFact] = [JobProgressed(report.job_id, report.attempt, done)]
        facts += self.beliefs.progressed(job, done, running.option.flavor)
        worked_s = self.now_s - running.start_s - self.restart_s
        self._at(self.now_s + max(self.beliefs.report_s, REPORT_GROWTH * worked_s), report)
        return facts

    def _handle(self, facts: list[JobFact]) -> None:
        while True:
            self.num_events += len(facts)
            decision = self.core.handle(*facts, now_s=self.now_s)
            for fact in decision.facts:
                self._note(fact)
            facts = [answer for command in decision.commands for answer in self._perform(command)]
            if not facts:
                return

    def _note(self, fact: JobFact) -> None:
        if isinstance(fact, JobClosed):
            self._end(self.jobs[fact.job_id], fact.state)

    def _perform(self, command: JobCommand) -> list[JobFact]:
        match command:
            case Launch():
                return self._launch(command)
            case Preempt():
                return self._vacate(command.job_id, command.attempt)
            case Kill():
                return self._stop(command)
            case Solve() if self.planner is not None:
                return [PlanSolved(self.planner(command.problem), self._plan_s)]
        return []

    def _launch(self, command: Launch) -> list[JobFact]:
        job, option = self.jobs[command.job_id], command.grant.option
        shape = job.spec.shapes[option.shape]
        rate = job.true_rates[option.shape, option.flavor] * speed_up(shape, option.num_bundles)
        self._running[command.job_id] = _Attempt(command.attempt, option, command.grant.nodes, self.now_s, rate)
        job.num_starts += 1
        self._at(self.now_s + self.restart_s + (job.work - job.done) / rate, (command.job_id, command.attempt))
        if self.beliefs is not None:
            self._at(self.now_s + self.restart_s + self.beliefs.report_s, _Report(command.job_id, command.attempt))
        return [JobStarted(command.job_id, command.attempt)]

    def _complete(self, job_id: JobId, attempt: int) -> list[JobFact]:
        running, job = self._running.get(job_id), self.jobs[job_id]
        if running is None or running.attempt != attempt:
            return []
        self._leave(job_id, job.work - job.done)
        self._end(job, "SUCCEEDED")
        learnt = self.beliefs.ended(job) if self.beliefs is not None else []
        return [JobEnded(job_id, attempt, "ok"), *learnt]

    def _vacate(self, job_id: JobId, attempt: int) -> list[JobFact]:
        running = self._running.get(job_id)
        if running is None or running.attempt != attempt:
            return []
        done = self._steps(job_id) if self.jobs[job_id].spec.can_resume else 0.0
        self._leave(job_id, done)
        return [JobVacated(job_id, attempt, self.jobs[job_id].done)]

    def _stop(self, command: Kill) -> list[JobFact]:
        if command.job_id not in self._running:
            return []
        self._leave(command.job_id, self._steps(command.job_id))
        self._end(self.jobs[command.job_id], command.outcome)
        return [JobEnded(command.job_id, command.attempt, command.outcome)]

    def _fail(self, failure: Failure) -> list[JobFact]:
        """A node goes, or comes back. What ran there goes on from its last checkpoint, elsewhere."""
        facts: list[JobFact] = []
        if self.now_s < failure.until_s:
            self._away.add(failure.node_id)
            self._at(failure.until_s, failure)
            self._next_failure()
            for job_id, running in list(self._running.items()):
                if failure.node_id in running.nodes:
                    self._leave(job_id, self._checkpointed(job_id))
                    facts.append(JobProgressed(job_id, running.attempt, self.jobs[job_id].done, checkpointed=self.jobs[job_id].done))
                    facts.append(JobEnded(job_id, running.attempt, "lost"))
        else:
            self._away.discard(failure.node_id)
        return [*facts, NodesSeen(tuple(node for name, node in self.nodes.items() if name not in self._away))]

    def _next_failure(self) -> None:
        if (failure := next(self._failures, None)) is not None:
            self._at(failure.at_s, failure)

    def _checkpointed(self, job_id: JobId) -> float:
        """Work of the running attempt that its last checkpoint holds: one is made every `checkpoint_s`; 0: none."""
        job, running = self.jobs[job_id], self._running[job_id]
        if not job.spec.can_resume or self.checkpoint_s <= 0:
            return 0.0
        worked_s = max(0.0, self.now_s - running.start_s - self.restart_s)
        return min(worked_s // self.checkpoint_s * self.checkpoint_s * running.rate, job.work - job.done)

    def _steps(self, job_id: JobId) -> float:
        """Work of the running attempt until now."""
        running, job = self._running[job_id], self.jobs[job_id]
        return min(max(0.0, self.now_s - running.start_s - self.restart_s) * running.rate, job.work - job.done)

    def _leave(self, job_id: JobId, steps: float) -> None:
        running, job = self._running.pop(job_id), self.jobs[job_id]
        job.done += steps
        if self.now_s > running.start_s or steps:
            self.leases.append(SimLease(job_id, running.option.flavor, running.option.units, running.start_s, self.now_s, steps))

    def _end(self, job: SimJob, outcome: str) -> None:
        if job.end_s is None:
            job.end_s, job.outcome = self.now_s, outcome
            self.num_left -= 1

    def _at(self, at_s: float, what: _Event) -> None:
        heapq.heappush(self._heap, (at_s, next(self._order), what))

    def _reasons(self) -> str:
        waiting = [record for record in self.core.jobs.values() if not record.state.is_final]
        return "; ".join(f"{record.spec.name}: {record.state} {record.why} {record.detail}" for record in waiting[:3])
