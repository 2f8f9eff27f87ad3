"""The book of all jobs: applies facts, decides nothing.

Owns every job's state. Replaying the journalled facts gives back the same book. What follows from a fact as a matter of
course (a dependent is closed when its job failed) is decided here too, as a fact of its own, but never while replaying.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fabric.errors import BugError
from fabric.job import JobId, Option
from fabric.job_events import (
    JobCancelRequested,
    JobClosed,
    JobDispatched,
    JobEnded,
    JobEstimated,
    JobFact,
    JobPreempted,
    JobProgressed,
    JobReprioritised,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Kill,
    LeaseRefused,
    NodesSeen,
    PolicyApplied,
)
from fabric.policy import Policy
from fabric.policy_document import read_policy
from fabric.scheduler.backlog import Backlog, Group
from fabric.scheduler.record import LAST_RANK, JobRecord
from fabric.scheduler.situation import Situation
from fabric.scheduler.standing import Standing, Used
from fabric.states import MOVES, JobState, check_move
from fabric.types import Flavor, Node

BACKOFF_S = (10.0, 300.0)
"""First and longest wait before a failed job is tried again; doubled in between."""
MOST_LOST = 5
MOST_OOMS = 3


class Book(Situation):
    """A situation that facts change."""

    def __init__(self, catalogue: Mapping[str, Flavor], policy: Policy) -> None:
        super().__init__(catalogue, policy)
        self._nodes: tuple[Node, ...] = ()
        self._dependents: dict[JobId, list[JobId]] = {}

    def load(self, records: Iterable[JobRecord], used: Sequence[Used] = (), now_s: float = 0.0) -> None:
        """Take the jobs of a snapshot, and what was used and spent by then, into an empty book, as they were."""
        self.now_s = max(self.now_s, now_s)
        self.standing.bring_back(used)
        for job in records:
            self.jobs[job.spec.job_id] = job
        for job in self.jobs.values():
            if job.is_holding and job.grant is not None:
                self.holding[job.spec.job_id] = job
                self.standing.hold(job, job.grant.option, 1, self.now_s)
                self._set_limits(job, job.grant.option)
            elif job.state is JobState.PENDING:
                for other_id in job.spec.after:
                    if not self.jobs[other_id].state.is_final:
                        self._dependents.setdefault(other_id, []).append(job.spec.job_id)
                self.enqueue(job)
        self.index_held()
        for queue in self.standing.spending:
            self.check_budget(queue)
        # Queues that are filled anew count as ones that begin to wait, and were levelled with the others.
        self.standing.bring_back(used)

    def apply(self, fact: JobFact) -> None:
        """One fact changes the state. Raises: BugError for an illegal move or an unknown fact."""
        handler = _HANDLERS.get(type(fact))
        if handler is None:
            raise BugError(f"the scheduler does not know the fact {type(fact).__name__}")
        handler(self, fact)

    def decide(self, fact: JobFact) -> None:
        """A decision is a fact: it is applied at once and journalled before its commands are performed."""
        self.facts.append(fact)
        self.apply(fact)

    # ---- what others tell

    def _submitted(self, fact: JobSubmitted) -> None:
        spec = fact.spec
        if spec.job_id in self.jobs:
            return
        job = self.jobs[spec.job_id] = JobRecord(spec, seen_s=self.now_s)
        for other_id in spec.after:
            other = self.jobs.get(other_id)
            if other is not None and other.state is JobState.SUCCEEDED:
                continue
            if other is None or other.state.is_final:
                self._close(job, "DependencyFailed", f"{other_id} did not succeed")
                return
            job.num_deps_left += 1
            self._dependents.setdefault(other_id, []).append(spec.job_id)
        self.enqueue(job)

    def _estimated(self, fact: JobEstimated) -> None:
        job = self.jobs.get(fact.job_id)
        if job is None or job.state.is_final:
            return
        job.done = job.done_at(self.now_s, self.policy.restart_s)
        job.seen_s = self.now_s
        job.take_estimate(fact.estimate)
        self.changes += 1
        if job.state is JobState.PENDING:
            self.enqueue(job)

    def _progressed(self, fact: JobProgressed) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is None or job.state is not JobState.RUNNING:
            return
        job.total = fact.total or job.total
        passed_s, done = self.now_s - job.seen_s, job.measured(fact.done)
        if job.seen_s > job.started_s and passed_s > 0 and done > job.done:
            rate = (done - job.done) / passed_s
            job.seen_rate = rate if job.seen_rate is None else 0.7 * job.seen_rate + 0.3 * rate
        job.done, job.seen_s, job.ends_s = done, self.now_s, None
        if fact.checkpointed is not None:
            job.checkpointed = job.measured(fact.checkpointed)

    def _started(self, fact: JobStarted) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is None or job.state is not JobState.ADMITTED or job.grant is None:
            return
        self._move(job, JobState.RUNNING)
        job.started_s = job.seen_s = self.now_s
        job.ends_s = None
        option = job.grant.option
        if fact.nodes and fact.nodes != job.grant.nodes:
            self.machines.give(job.grant.nodes, self.demand(job, option))
            self.machines.take(fact.nodes, self.demand(job, option))
            job.grant = dataclasses.replace(job.grant, nodes=fact.nodes)
        self._set_limits(job, option)

    def _set_limits(self, job: JobRecord, option: Option) -> None:
        """The timers of a running attempt: its time limit and the moment when its budget is spent."""
        if job.spec.timeout_s is not None:
            self.wake(job.started_s + job.spec.timeout_s, job)
        usd_per_s = self.standing.usd_per_s(option)
        if job.spec.budget_usd is not None and usd_per_s > 0:
            self.wake(job.dispatched_s + max(0.0, job.spec.budget_usd - job.spent_usd) / usd_per_s, job)

    def _refused(self, fact: LeaseRefused) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is not None and job.is_holding:
            self._release(job)
            job.num_lost += 1
            self._retry(job, "Resources", fact.why, is_backing_off=True)

    def _vacated(self, fact: JobVacated) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is not None and job.is_holding:
            self._release(job)
            job.total = fact.total or job.total
            job.done = job.checkpointed = job.measured(fact.done)
            self._retry(job, "Priority", "preempted")

    def _ended(self, fact: JobEnded) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is None or not job.is_holding:
            return
        if fact.outcome == "ok":
            check_move(fact.job_id, job.state, JobState.SUCCEEDED, self._story(job))
        flavor = job.grant.option.flavor if job.grant is not None else ""
        self._release(job)
        job.done = job.checkpointed if job.spec.can_resume else 0.0
        if fact.outcome == "ok":
            self._finish(job, JobState.SUCCEEDED, "", fact.message)
        elif fact.outcome == "cancelled" or job.cancel_requested:
            self._finish(job, JobState.CANCELLED, "Cancelled", fact.message)
        elif fact.outcome in ("budget", "timeout"):
            self._finish(job, JobState.FAILED, {"budget": "BudgetExceeded", "timeout": "Timeout"}[fact.outcome], fact.message)
        elif fact.outcome == "oom":
            self._after_oom(job, flavor, fact.message)
        elif fact.outcome == "lost":
            job.num_lost += 1
            self._retry_or_fail(job, job.num_lost <= MOST_LOST + job.spec.max_retries, "NodeLost", fact.message)
        else:
            job.num_failures += 1
            self._retry_or_fail(job, job.num_failures <= job.spec.max_retries, "Error", fact.message)

    def _cancel_requested(self, fact: JobCancelRequested) -> None:
        job = self.jobs.get(fact.job_id)
        if job is None or job.state.is_final or job.cancel_requested:
            return
        job.cancel_requested = True
        if self.is_replaying:
            return
        if job.is_holding:
            self.commands.append(Kill(fact.job_id, job.attempt, "cancelled"))
        else:
            self.decide(JobClosed(fact.job_id, JobState.CANCELLED, "Cancelled", f"by {fact.by}"))

    def _reprioritised(self, fact: JobReprioritised) -> None:
        job = self.jobs.get(fact.job_id)
        if job is None or job.state.is_final or job.spec.priority == fact.priority:
            return
        job.spec = dataclasses.replace(job.spec, priority=fact.priority)
        last, cls = job.cls or self.standing.lowest, self.standing.class_of(job, self.now_s)
        if job.grant is not None:
            self.standing.hold(job, job.grant.option, -1, self.now_s)
        job.cls = cls
        if job.grant is not None:
            self.standing.hold(job, job.grant.option, 1, self.now_s)
            if cls.value < last.value:
                self.backlog.open_all()  # it may have to leave for some that wait
        else:
            self.enqueue(job)
        self.changes += 1

    def _nodes_seen(self, fact: NodesSeen) -> None:
        if fact.nodes == self._nodes:
            return
        is_other_set = {node.node_id for node in self._nodes} != {node.node_id for node in fact.nodes}
        self._nodes = fact.nodes
        held = [(node, self.demand(job, job.grant.option)) for job in self.holding.values() if job.grant for node in job.grant.nodes]
        self.machines.observe(fact.nodes, held)
        self._ever.clear()
        self.generation += 1
        self.backlog.open_all()
        if is_other_set:
            self.changes += 1 + len(self.jobs)
            for job in list(self.backlog.all_waiting()):
                self.enqueue(job)

    def _policy_applied(self, fact: PolicyApplied) -> None:
        self.set_policy(read_policy(fact.document, catalogue=self.catalogue, version=fact.version))

    def set_policy(self, policy: Policy) -> None:
        """Put another policy in force; what is held is charged to it, what waits is queued anew."""
        self.generation += 1
        last, self.standing = self.standing, Standing(policy, self.catalogue, self.ways)
        self.standing.inherit(last)
        waiting = list(self.backlog.all_waiting())
        self.backlog = Backlog(self.jobs)
        for job in self.holding.values():
            job.cls, job.ends_s = self.standing.class_of(job, self.now_s), None
            if job.grant is not None:
                self.standing.hold(job, job.grant.option, 1, self.now_s)
        self.index_held()
        for job in waiting:
            job.group = None
            self.enqueue(job)
        for queue in self.standing.spending:
            self.check_budget(queue)
        self.changes += 1 + len(self.jobs)

    # ---- what was decided

    def _dispatched(self, fact: JobDispatched) -> None:
        job = self.jobs[fact.job_id]
        if fact.attempt <= job.attempt:
            return  # a snapshot already has what is replayed behind it
        self._move(job, JobState.ADMITTED)
        if isinstance(job.group, Group):
            job.group.leaf.has_started(self.now_s - job.spec.submitted_s)
        self.backlog.drop(job)
        job.attempt, job.grant, job.dispatched_s = fact.attempt, fact.grant, self.now_s
        job.why, job.detail, job.seen_rate, job.expects = "", "", None, ()
        if job.cls is None:
            job.cls = self.standing.class_of(job, self.now_s)
        self.holding[fact.job_id] = job
        self._held_with(job, fact.grant.option)[fact.job_id] = job
        self.standing.hold(job, fact.grant.option, 1, self.now_s)
        self.check_budget(job.spec.queue)

    def _preempted(self, fact: JobPreempted) -> None:
        job = self._current(fact.job_id, fact.attempt)
        if job is not None and job.state in (JobState.ADMITTED, JobState.RUNNING):
            job.done, job.seen_s = job.done_at(self.now_s, self.policy.restart_s), self.now_s
            self._move(job, JobState.PREEMPTING)

    def _closed(self, fact: JobClosed) -> None:
        job = self.jobs.get(fact.job_id)
        if job is not None and not job.state.is_final:
            self._finish(job, JobState(fact.state), fact.reason, fact.detail)

    # ---- what facts have in common

    def _current(self, job_id: JobId, attempt: int) -> JobRecord | None:
        """The job, if this is its present attempt: what is said of an older one comes too late."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.attempt == attempt else None

    def _move(self, job: JobRecord, state: JobState) -> None:
        if state not in MOVES[job.state]:
            check_move(job.spec.job_id, job.state, state, self._story(job))
        self.num_preempting += (state is JobState.PREEMPTING) - (job.state is JobState.PREEMPTING)
        # What a plan sets going (starts, moves) is no news to the optimiser: it would be asked again for its own sake, without end.
        self.changes += state.is_final or (state is JobState.PENDING and job.state is not JobState.PREEMPTING)
        job.state = state

    def _release(self, job: JobRecord) -> None:
        if job.grant is not None:
            option = job.grant.option
            self.standing.hold(job, option, -1, self.now_s)
            self.machines.give(job.grant.nodes, self.demand(job, option))
            job.spent_usd += self.standing.usd_per_s(option) * (self.now_s - job.dispatched_s)
            held = option.units * (self.now_s - job.dispatched_s)
            job.unit_seconds += held
            job.accelerator_seconds += 0.0 if self.catalogue[option.flavor].is_cpu else held
            self.freed_flavors.add(option.flavor)
            self.freed_queues.add(job.spec.queue)
            if cohort := self.standing.quotas.cohort_of(job.spec.queue):
                self.freed_cohorts[cohort] = (job.spec.queue, option.flavor)
            self._held_with(job, option).pop(job.spec.job_id, None)
            self.check_budget(job.spec.queue)
        self.holding.pop(job.spec.job_id, None)

    def _story(self, job: JobRecord) -> tuple[str, ...]:
        """What the error of an illegal move tells."""
        held = f"holds {job.grant.option.units:g} of {job.grant.option.flavor}" if job.grant is not None else "holds nothing"
        tries = f"{job.num_failures} failures, {job.num_ooms} out of memory, {job.num_lost} lost"
        return f"submitted at {job.spec.submitted_s:.0f}", f"attempt {job.attempt}: {tries}", held, f"{job.why} {job.detail}".strip()

    def _after_oom(self, job: JobRecord, flavor: str, message: str) -> None:
        """More memory first; once no node of what it may use has as much, the next tier."""
        job.num_ooms += 1
        job.memory_factor *= 2.0
        if not any(self.can_ever(job, way) for way in self.ways.resolve(job.spec, job.estimate, job.excluded)):
            job.memory_factor /= 2.0
            tier = self.catalogue[flavor].tier if flavor in self.catalogue else ""
            job.excluded += tuple(name for name, other in self.catalogue.items() if other.tier == tier)
        self._retry_or_fail(job, job.num_ooms <= max(MOST_OOMS, job.spec.max_retries), "OutOfMemory", message)

    def _retry_or_fail(self, job: JobRecord, has_tries: bool, why: str, message: str) -> None:
        if has_tries:
            self._retry(job, "BackOff", f"{why}: {message}" if message else why, is_backing_off=why != "NodeLost")
        else:
            self._finish(job, JobState.FAILED, why, message)

    def _retry(self, job: JobRecord, why: str, detail: str, *, is_backing_off: bool = False) -> None:
        if job.cancel_requested:
            self._finish(job, JobState.CANCELLED, "Cancelled", detail)
            return
        self._move(job, JobState.PENDING)
        job.grant, job.why, job.detail, job.is_planned, job.rank = None, why, detail, False, min(job.rank, LAST_RANK)
        if is_backing_off:
            first_s, most_s = BACKOFF_S
            tries = max(1, job.num_failures + job.num_ooms + job.num_lost)
            job.not_before_s = self.now_s + min(most_s, first_s * 2.0 ** (tries - 1))
        self.enqueue(job)

    def _finish(self, job: JobRecord, state: JobState, why: str, detail: str) -> None:
        self._move(job, state)
        self.backlog.drop(job)
        job.grant, job.why, job.detail, job.ended_s, job.ways, job.expects = None, why, detail, self.now_s, (), ()
        for dependent_id in self._dependents.pop(job.spec.job_id, ()):
            dependent = self.jobs[dependent_id]
            if dependent.state is not JobState.PENDING:
                continue
            if state is JobState.SUCCEEDED:
                dependent.num_deps_left -= 1
                self.enqueue(dependent)
            else:
                self._close(dependent, "DependencyFailed", f"{job.spec.name or job.spec.job_id}: {state.lower()}")

    def _close(self, job: JobRecord, reason: str, detail: str) -> None:
        if not self.is_replaying:
            self.decide(JobClosed(job.spec.job_id, JobState.CANCELLED, reason, detail))


_HANDLERS: Mapping[type, Callable[[Book, Any], None]] = {
    JobSubmitted: Book._submitted,
    JobEstimated: Book._estimated,
    JobProgressed: Book._progressed,
    JobDispatched: Book._dispatched,
    JobStarted: Book._started,
    LeaseRefused: Book._refused,
    JobPreempted: Book._preempted,
    JobVacated: Book._vacated,
    JobEnded: Book._ended,
    JobCancelRequested: Book._cancel_requested,
    JobReprioritised: Book._reprioritised,
    JobClosed: Book._closed,
    NodesSeen: Book._nodes_seen,
    PolicyApplied: Book._policy_applied,
}
