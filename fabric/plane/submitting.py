"""Accepts jobs: checks them against the policy and the machines, writes them, and hands them to the core.

Invariants: a submission is refused whole or accepted whole; what is accepted is on disk before `submit` returns; the same id or
idempotency key is accepted once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fabric import codec
from fabric.api.port import Submission
from fabric.errors import RejectedError, UnknownNameError
from fabric.job import JobId, JobSpec
from fabric.job_events import JobEstimated, JobFact, JobSubmitted
from fabric.journal import Batch, Committer, Journal
from fabric.plane import answers
from fabric.plane.driver import STREAM, Driver, WallClock
from fabric.plane.shelf import Shelf
from fabric.plane.under_way import UnderWay
from fabric.policy import Policy
from fabric.scheduler.core import Core
from profiler.families import Families


class Submitting:
    """The way in for jobs; for all threads."""

    def __init__(
        self,
        core: Core,
        driver: Driver,
        journal: Journal,
        committer: Committer,
        families: Families,
        shelf: Shelf,
        clock: WallClock,
        under_way: UnderWay,
    ) -> None:
        self._core = core
        self._driver = driver
        self._journal = journal
        self._committer = committer
        self._families = families
        self._shelf = shelf
        self._clock = clock
        self._under_way = under_way

    def submit(self, submissions: Sequence[Submission], by: str) -> list[JobId]:
        """See `fabric.api.port.JobPlanePort.submit`."""
        stands_for = self._stand_ins(submissions)
        new = [each for each in submissions if stands_for[each.spec.job_id] == each.spec.job_id]
        fresh = [each for each in new if each.spec.job_id not in self._core.jobs]
        specs = {each.spec.job_id: _renamed(self.sized(each), stands_for) for each in fresh}
        for spec in specs.values():
            self.check(spec, specs)
        batches = [self._batch(each, specs[each.spec.job_id], by) for each in fresh]
        facts: list[JobFact] = []
        with self._under_way():
            for each, written in zip(fresh, self._committer.submit(batches).result(), strict=True):
                spec = specs[each.spec.job_id]
                if written.taken_by is not None:
                    stands_for[spec.job_id] = JobId(written.taken_by)
                    continue
                self._shelf.keep(spec.job_id, each.summary)
                with self._driver.lock:
                    estimate = self._families.estimate(spec)
                facts += [JobSubmitted(spec, by), JobEstimated(spec.job_id, estimate)]
            if facts:
                self._driver.tell_and_wait(*facts, is_written=True)
        return [stands_for[each.spec.job_id] for each in submissions]

    def sized(self, each: Submission) -> JobSpec:
        """What was asked for, with the memory that its family's history says, where that is asked."""
        if not each.is_auto:
            return each.spec
        with self._driver.lock:
            return self._families.sized(each.spec, lambda shape: answers.node_bytes(self._core, shape))

    def check(self, spec: JobSpec, others: Mapping[JobId, JobSpec]) -> None:
        """Whether this fabric can ever run it, under its policy. Raises: UnknownNameError, NoFitError."""
        policy = self._core.book.policy
        queues = [queue.name for queue in policy.queues]
        if spec.queue not in queues:
            raise UnknownNameError.of("queue", spec.queue, queues)
        check_priority(policy, spec.priority)
        for other in spec.after:
            if other not in others and other not in self._core.jobs:
                raise UnknownNameError(f"after={other!r}: no such job", code="unknown_job", hint="`fabric queue` lists jobs", name=other)
        with self._driver.lock:
            answers.check_fits(self._core, spec)

    def _batch(self, each: Submission, spec: JobSpec, by: str) -> Batch:
        document = {"how": codec.encode(each.how), "summary": dict(each.summary)}
        return Batch(STREAM, (JobSubmitted(spec, by),), {spec.job_id: document}, each.idempotency_key, spec.job_id, self._clock.now_s())

    def _stand_ins(self, submissions: Sequence[Submission]) -> dict[JobId, JobId]:
        """New id -> the id that it stands for: its own, or that of the job its idempotency key is taken by."""
        keys = [each.idempotency_key for each in submissions if each.idempotency_key is not None]
        taken = self._journal.ids_of(STREAM, keys) if keys else {}
        found = {}
        for each in submissions:
            known = self._core.jobs.get(each.spec.job_id)
            if known is not None and known.spec.user != each.spec.user:
                raise RejectedError(f"the id {each.spec.job_id} is another user's", code="id_taken", hint="leave the id out")
            found[each.spec.job_id] = JobId(taken.get(each.idempotency_key or "", each.spec.job_id))
        return found


def check_priority(policy: Policy, priority: str) -> None:
    """Whether a job may name this class; empty: it names none. Raises: UnknownNameError (`unknown_priority_class`)."""
    classes = [cls.name for cls in policy.classes]
    if priority and priority not in classes:
        raise UnknownNameError.of("priority class", priority, classes)


def _renamed(spec: JobSpec, stands_for: Mapping[JobId, JobId]) -> JobSpec:
    after = tuple(stands_for.get(other, other) for other in spec.after)
    return spec if after == spec.after else dataclasses.replace(spec, after=after)
