"""A copy of the scheduler's core, to try things on. Invariant: nothing that is done to the copy reaches the core.

Shared is only what nobody changes (specs, estimates, policy, catalogue) and memories of pure functions. Jobs that have ended are
left out. The copy never asks the optimiser by itself.
"""

from __future__ import annotations

import copy
import dataclasses

from fabric.scheduler.backlog import Group
from fabric.scheduler.core import Core
from fabric.scheduler.machines import Machine, Machines, Stock
from fabric.scheduler.record import JobRecord

_FIELDS = tuple(field.name for field in dataclasses.fields(JobRecord))


def copy_of(core: Core, now_s: float) -> Core:
    """The core as it is, at `now_s`."""
    book = core.book
    alive = {job_id: job for job_id, job in book.jobs.items() if not job.state.is_final}
    jobs = {job_id: record_of(job) for job_id, job in alive.items()}
    shared = (book.catalogue, book.policy, *book.policy.classes, *book.policy.queues, book.ways, *book.catalogue.values())
    done: dict[int, object] = {id(each): each for each in shared}
    # What there is much of is copied by hand: `deepcopy` takes twenty times as long.
    done[id(book.jobs)], done[id(book.machines)] = jobs, _machines(book.machines)
    for job_id, job in alive.items():
        done[id(job)] = jobs[job_id]
        if isinstance(job.group, Group):
            done[id(job.group.heap)] = list(job.group.heap)
            done[id(job.group.leaf.ages)] = list(job.group.leaf.ages)
    made = copy.deepcopy(core, done)
    for job_id, job in alive.items():
        twin = jobs[job_id]
        twin.group = done.get(id(job.group)) if isinstance(job.group, Group) else None
        if job.expects:
            twin.expects = tuple(jobs[other.spec.job_id] for other in job.expects if other.spec.job_id in jobs)
    made.is_planning = False
    made.book.now_s = max(now_s, book.now_s)
    return made


def record_of(job: JobRecord) -> JobRecord:
    """A copy of a job's record that is queued nowhere."""
    made = object.__new__(JobRecord)
    for name in _FIELDS:
        setattr(made, name, getattr(job, name))
    made.group = None
    return made


def _machines(machines: Machines) -> Machines:
    """Stocks are filled in their order, so that equally full nodes are taken in the same one."""
    twin = Machines(machines.catalogue)
    for name, stock in machines.stocks.items():
        made = twin.stocks[name] = Stock(stock.flavor)
        for level in stock.levels.values():
            for old in level.values():
                machine = Machine(old.node_id, old.flavor, old.total, dict(old.free), old.is_open, wake_s=old.wake_s)
                twin.nodes[old.node_id] = machine
                made.add(machine)
    return twin
