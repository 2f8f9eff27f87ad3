"""How things stand: what there is, who holds what, who waits and may run how. `Book` changes it, fact by fact.

Invariants: `held` lists exactly what `holding` has; a job that waits is in the backlog, or has a timer, or comes after another.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

from fabric.job import JobId, Option
from fabric.job_events import JobCommand, JobFact
from fabric.policy import Policy
from fabric.scheduler.backlog import Backlog
from fabric.scheduler.machines import Machines
from fabric.scheduler.record import JobRecord
from fabric.scheduler.standing import Standing
from fabric.scheduler.ways import Ways
from fabric.types import Flavor


class Situation:
    """`facts` and `commands` collect what was decided since the last `Core.handle`; `freed_…` say what may have room now: flavors
    with freed units, queues that hold less, cohorts (with the queue and flavor of which quota was given back); `changes` counts
    what the optimiser should know. `held`: what holds a grant, by cohort and flavor."""

    def __init__(self, catalogue: Mapping[str, Flavor], policy: Policy) -> None:
        self.catalogue = catalogue
        self.now_s = 0.0
        self.is_replaying = False
        self.jobs: dict[JobId, JobRecord] = {}
        self.holding: dict[JobId, JobRecord] = {}
        self.ways = Ways(catalogue)
        self.machines = Machines(catalogue)
        self.backlog = Backlog(self.jobs)
        self.standing = Standing(policy, catalogue, self.ways)
        self.facts: list[JobFact] = []
        self.commands: list[JobCommand] = []
        self.changes = 0
        self.generation = 0
        self.broke: set[str] = set()
        self.budget_timers: dict[str, float] = {}
        self.held: dict[tuple[str, str], dict[JobId, JobRecord]] = {}
        self.num_preempting = 0
        self.freed_flavors: set[str] = set()
        self.freed_queues: set[str] = set()
        self.freed_cohorts: dict[str, tuple[str, str]] = {}
        self.timers: list[tuple[float, JobId]] = []
        self._ever: dict[tuple[Any, ...], bool] = {}

    @property
    def policy(self) -> Policy:
        return self.standing.policy

    @property
    def has_freed(self) -> bool:
        return bool(self.freed_flavors or self.freed_queues or self.freed_cohorts)

    def index_held(self) -> None:
        """Find anew what holds a grant, from `holding`."""
        self.held = {}
        for job in self.holding.values():
            if job.grant is not None:
                self._held_with(job, job.grant.option)[job.spec.job_id] = job
        self.num_preempting = sum(job.is_leaving for job in self.holding.values())

    def held_on(self, flavor: str) -> Iterator[Mapping[JobId, JobRecord]]:
        """What holds some of a flavor."""
        return (jobs for (_, held), jobs in self.held.items() if held == flavor)

    def held_in(self, queue: str) -> Iterator[Mapping[JobId, JobRecord]]:
        """What holds some of the quota of a queue's cohort."""
        cohort = self.standing.quotas.cohort_of(queue)
        return (jobs for (held, _), jobs in self.held.items() if held == cohort)

    def check_budget(self, queue: str) -> None:
        """Once a queue's budget is spent its jobs count as the lowest class, until the next period begins."""
        spending, budget_usd = self.standing.spending.get(queue), self.standing.queue(queue).budget_usd
        if spending is None or budget_usd is None:
            return
        is_broke = self.standing.is_broke(queue, self.now_s)
        if is_broke != (queue in self.broke):
            self.broke ^= {queue}
            for job in [job for leaf in self.backlog.leaves if leaf.queue == queue for job in self.backlog.waiting(leaf)]:
                self.enqueue(job)
        at_s = spending.changes_s(budget_usd, self.now_s)
        if self.budget_timers.get(queue, 0.0) <= self.now_s or at_s < self.budget_timers[queue]:
            self.budget_timers[queue] = at_s

    def _held_with(self, job: JobRecord, option: Option) -> dict[JobId, JobRecord]:
        return self.held.setdefault((self.standing.quotas.cohort_of(job.spec.queue), option.flavor), {})

    # ---- waiting

    def wake(self, at_s: float, job: JobRecord) -> None:
        heapq.heappush(self.timers, (at_s, job.spec.job_id))

    def enqueue(self, job: JobRecord) -> None:
        """Put a pending job where it is looked at, or set the timer for when it may be."""
        if job.num_deps_left > 0:
            job.why = "Dependency"
        elif job.not_before_s > self.now_s:
            self.wake(job.not_before_s, job)
        else:
            job.cls = self.standing.class_of(job, self.now_s)
            job.ways = self.ways_of(job)
            self.push(job)

    def push(self, job: JobRecord) -> None:
        """Queue it under what it asks for: jobs that ask for the same stand or fall together."""
        spec, job.why, job.detail = job.spec, "", ""
        queue = self.standing.queue(spec.queue)
        is_limited = queue.max_units_per_user is not None or queue.max_jobs_per_user is not None
        options = tuple(sorted((way.shape, way.flavor, way.num_bundles) for way in job.ways))
        key = (spec.shapes, options, job.memory_factor, spec.user if is_limited else "", spec.budget_usd, job.is_planned)
        leaf = self.backlog.push(job, job.cls or self.standing.lowest, key)
        if leaf is not None:
            self.standing.catch_up(spec.queue, leaf.cls.name, leaf.flavors, leaf.lane.rivals(leaf), self.now_s)

    def ways_of(self, job: JobRecord) -> tuple[Option, ...]:
        """All ways that the policy and the nodes leave to a job, what its class prefers first; remembered until one of them
        changes. Patience runs out by itself, so that what a patient policy leaves is worked out each time."""
        if self.policy.fallback == "patient":
            return self._work_out_ways(job)
        stamp = (self.generation, job.estimate, job.excluded, job.memory_factor, job.cls)
        if job.ways_known is None or job.ways_known[0] != stamp:
            job.ways_known = (stamp, self._work_out_ways(job))
        return job.ways_known[1]

    def _work_out_ways(self, job: JobRecord) -> tuple[Option, ...]:
        ways = [way for way in self.ways.resolve(job.spec, job.estimate, job.excluded) if self.can_ever(job, way)]
        cls = job.cls
        if cls is None or not cls.selectors:
            return tuple(ways)
        preferred = [way for way in ways if self.ways.prefers(cls, way.flavor)]
        patient_until_s = job.spec.submitted_s + self.policy.patience_s
        if preferred and self.policy.fallback == "strict":
            return tuple(preferred)
        if preferred and self.policy.fallback == "patient" and self.now_s < patient_until_s:
            self.wake(patient_until_s, job)
            return tuple(preferred)
        return (*preferred, *(way for way in ways if way not in preferred))

    def cost_usd(self, job: JobRecord, way: Option) -> float:
        """What the rest of the job is predicted to cost this way."""
        if way.rate <= 0:
            return 0.0
        return ((job.work - job.done) / way.rate + self.policy.restart_s) * self.standing.usd_per_s(way)

    def can_ever(self, job: JobRecord, way: Option) -> bool:
        """Whether the nodes, empty, could hold it this way."""
        stock = self.machines.stocks.get(way.flavor)
        if stock is None:
            return False
        shape = job.spec.shapes[way.shape]
        key = (way.flavor, shape, way.num_bundles, job.memory_factor)
        if key not in self._ever:
            self._ever[key] = stock.can_ever(self.demand(job, way), way.num_bundles, shape.spread)
        return self._ever[key]

    def demand(self, job: JobRecord, way: Option) -> Mapping[str, float]:
        return self.ways.demand(job.spec.shapes[way.shape], way.flavor, job.memory_factor)
