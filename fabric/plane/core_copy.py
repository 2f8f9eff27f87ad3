"""A copy of the scheduler's core, to try things on. Invariant: nothing that is done to the copy reaches the core.

Shared are only what nobody changes (specs, estimates, policy, catalogue) and memories of pure functions. Jobs that have ended are
left out. The copy never asks the optimiser by itself.
"""

from __future__ import annotations

import copy
import dataclasses

from fabric.job import JobId
from fabric.scheduler.admission import Admission
from fabric.scheduler.backlog import Backlog
from fabric.scheduler.book import Book
from fabric.scheduler.core import Core
from fabric.scheduler.machines import Machine, Machines, Stock
from fabric.scheduler.record import JobRecord
from fabric.scheduler.standing import Standing
from fabric.scheduler.ways import Ways
from fabric.states import JobState

_FIELDS = tuple(field.name for field in dataclasses.fields(JobRecord))


def copy_of(core: Core, now_s: float, kind: type[Admission] = Admission) -> Core:
    """The core as it is, at `now_s`; `kind` of admission decides in the copy."""
    book = core.book
    made = Core(book.catalogue, book.policy, is_planning=False)
    made.book = twin = _book(book, max(now_s, book.now_s))
    made.admission = kind(twin)
    made.admission.claims = {job_id: way for job_id, way in core.admission.claims.items() if job_id in twin.jobs}
    made.admission.idle = dict(core.admission.idle)
    made.admission.reservation = copy.deepcopy(core.admission.reservation)
    return made


def record_of(job: JobRecord) -> JobRecord:
    """A copy of a job's record that is queued nowhere."""
    made = object.__new__(JobRecord)
    for name in _FIELDS:
        setattr(made, name, getattr(job, name))
    made.group = None
    return made


def _book(book: Book, now_s: float) -> Book:
    twin = Book(book.catalogue, book.policy)
    twin.now_s, twin.ways = now_s, book.ways
    twin.machines = _machines(book.machines)
    twin.standing = _standing(book.standing, book.ways)
    twin.jobs.update((job_id, record_of(job)) for job_id, job in book.jobs.items() if not job.state.is_final)
    twin.holding = {job_id: twin.jobs[job_id] for job_id in book.holding}
    for job in twin.jobs.values():
        if job.expects:
            job.expects = tuple(twin.jobs[other.spec.job_id] for other in job.expects if other.spec.job_id in twin.jobs)
        if job.state is JobState.PENDING:
            for other_id in job.spec.after:
                if other_id in twin.jobs:
                    twin._dependents.setdefault(other_id, []).append(job.spec.job_id)
    twin.backlog = _backlog(book, twin.jobs)
    twin.timers = [timer for timer in book.timers if timer[1] in twin.jobs]
    twin.timers.sort()
    twin.freed_flavors, twin.freed_queues = set(book.freed_flavors), set(book.freed_queues)
    return twin


def _machines(machines: Machines) -> Machines:
    """Stocks are filled in their order, so that equally full nodes are taken in the same one."""
    twin = Machines(machines.catalogue)
    for name, stock in machines.stocks.items():
        made = twin.stocks[name] = Stock(stock.flavor)
        for level in stock.levels.values():
            for old in level.values():
                machine = twin.nodes[old.node_id] = Machine(old.node_id, old.flavor, old.total, dict(old.free), old.is_open)
                made.add(machine)
    return twin


def _standing(standing: Standing, ways: Ways) -> Standing:
    policy = standing.policy
    shared = (policy, ways, standing.prices, *policy.classes, *policy.queues, *standing.quotas._catalogue.values())
    return copy.deepcopy(standing, {id(each): each for each in shared})


def _backlog(book: Book, jobs: dict[JobId, JobRecord]) -> Backlog:
    twin = Backlog(jobs)
    for leaf in book.backlog.leaves.values():
        for group in leaf.groups.values():
            for _, _, job_id, ticket in group.heap:
                job = book.jobs.get(job_id)
                if job is not None and job.ticket == ticket and job.group is group:
                    twin.push(jobs[job_id], leaf.queue, leaf.cls, group.key)
            made = twin.leaves[leaf.queue, leaf.cls].groups.get(group.key) if (leaf.queue, leaf.cls) in twin.leaves else None
            if made is not None and group.why:
                twin.block(made, group.why, group.detail)
    return twin
