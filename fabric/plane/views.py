"""How a job looks from outside: the core's record, and what is kept beside it, as a `JobView`. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric.job import AttemptUse, JobId, Option
from fabric.job_events import JobDispatched, JobEnded, JobFact, JobProgressed, JobStarted, JobVacated
from fabric.job_form import JobView
from fabric.scheduler.backlog import Group, reason
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState
from fabric.types import Lease, asleep_type

NOTED = (JobDispatched, JobStarted, JobProgressed, JobVacated, JobEnded)
"""The facts of which an `Aside` takes something."""


@dataclass(slots=True)
class Aside:
    """What a listing shows of a job beside the core's record; kept as long as the job is listed. `summary` is None until it is
    read from disk, which a restart leaves for later. `use` is what its attempts used, as far as they were
    measured, the last of them `use_attempt`: a fact that is told or replayed twice counts once."""

    summary: Mapping[str, Any] | None = field(default_factory=dict)
    option: Option | None = None
    nodes: tuple[str, ...] = ()
    started_s: float | None = None
    exit_code: int | None = None
    total: float | None = None
    unit: str = ""
    use: AttemptUse | None = None
    use_attempt: int = 0

    def note(self, fact: JobFact, at_s: float) -> None:
        """A fact about this job, which happened at `at_s`."""
        match fact:
            case JobDispatched():
                self.option, self.nodes = fact.grant.option, fact.grant.nodes
            case JobStarted():
                self.started_s = at_s
            case JobProgressed():
                self.total = fact.total
            case JobVacated():
                self._add(fact.use, fact.attempt)
            case JobEnded():
                self.exit_code = fact.exit_code
                self._add(fact.use, fact.attempt)

    def _add(self, use: AttemptUse | None, attempt: int) -> None:
        if use is not None and attempt > self.use_attempt:
            self.use = use if self.use is None else self.use.and_then(use)
            self.use_attempt = attempt


def view_of(core: Core, job: JobRecord, aside: Aside, twins: frozenset[str], now_s: float, position: int | None = None) -> JobView:
    """`twins`: flavors whose nodes are twins. Times are wall-clock seconds, as the core's are in a running fabric."""
    spec, book, summary = job.spec, core.book, aside.summary or {}
    option = job.grant.option if job.grant is not None else aside.option
    why, detail = _waking(job) or reason(job)
    flavor = book.catalogue.get(option.flavor) if option is not None else None
    restart_s = book.policy.restart_s
    is_running = job.state is JobState.RUNNING and job.grant is not None
    left_s = job.remaining_s(now_s, restart_s) if is_running else None
    spent = job.spent_usd
    if job.is_holding and job.grant is not None:
        spent += book.standing.usd_per_s(job.grant.option) * max(0.0, now_s - job.dispatched_s)
    has_price = option is not None and option.flavor in book.standing.prices
    return JobView(
        id=spec.job_id,
        name=spec.name,
        user=spec.user,
        queue=spec.queue,
        priority=job.cls.name if job.cls is not None else spec.priority,
        form=spec.form,
        state=job.state,
        submitted_s=spec.submitted_s,
        why=why,
        detail=detail,
        asks=str(summary.get("asks", "")),
        command=str(summary.get("command", "")),
        attempt=job.attempt,
        flavor=option.flavor if option is not None else "",
        tier=flavor.tier if flavor is not None else "",
        is_twin=option is not None and option.flavor in twins,
        num_bundles=option.num_bundles if option is not None else 0,
        units=option.units if option is not None else 0.0,
        nodes=job.grant.nodes if job.grant is not None else aside.nodes,
        started_s=aside.started_s,
        ended_s=job.ended_s if job.state.is_final else None,
        deadline_s=spec.deadline_s,
        budget_usd=spec.budget_usd,
        done=job.done_at(now_s, restart_s) if aside.total is not None else None,
        total=aside.total,
        unit=aside.unit,
        remaining_s=left_s if left_s != float("inf") else None,
        remaining_log_sd=job.estimate.log_sd if job.estimate is not None and is_running else None,
        cost_usd=spent if has_price else None,
        position=position,
        exit_code=aside.exit_code,
        after=spec.after,
        array_id=spec.array_id,
        family=spec.family,
        tags=spec.tags,
    )


def _waking(job: JobRecord) -> tuple[str, str] | None:
    """Of a job that holds nodes which were asleep when it got them, and are not there yet."""
    nodes = job.grant.nodes if job.grant is not None and job.state is JobState.ADMITTED else ()
    kinds = sorted({kind for node in nodes if (kind := asleep_type(node)) is not None})
    return ("Waking", ", ".join(kinds)) if kinds else None


def in_order(core: Core) -> list[JobRecord]:
    """What waits, in the order in which it would start if all had room; what may not start yet comes last."""
    book, standing = core.book, core.book.standing
    shares: dict[str, float] = {}
    leads: dict[int, float] = {}

    def key(job: JobRecord) -> tuple[Any, ...]:
        cls, queue, lead = job.cls or standing.lowest, job.spec.queue, 0.0
        if queue not in shares:
            shares[queue] = standing.queue_share(queue, book.now_s, book.backlog.contested)
        if isinstance(job.group, Group):
            leaf = job.group.leaf
            if id(leaf) not in leads:
                leads[id(leaf)] = standing.lead(queue, cls.name, leaf.flavors, leaf.lane.rivals(leaf), book.now_s)
            lead = leads[id(leaf)]
        is_claimed = job.spec.job_id in core.admission.claims
        return (job.group is None, not is_claimed, -cls.value, shares[queue], lead, job.rank, job.spec.submitted_s, job.spec.job_id)

    return sorted((job for job in core.jobs.values() if job.state is JobState.PENDING), key=key)


def find(core: Core, text: str) -> JobRecord | None:
    """By id, by its last eight digits or more, else the newest job of that name."""
    job = core.jobs.get(JobId(text))
    if job is not None:
        return job
    named = [each for each in core.jobs.values() if each.spec.name == text or (len(text) >= 8 and each.spec.job_id.endswith(text))]
    return max(named, key=lambda each: (each.spec.submitted_s, each.spec.job_id), default=None)


def leases_of(core: Core) -> Iterator[Lease]:
    """What jobs hold, under the core's lock: one for each node of each attempt, with all that its bundles there take."""
    for job in core.book.holding.values():
        if job.grant is not None:
            demand, name = core.book.demand(job, job.grant.option), f"{job.spec.job_id}.{job.attempt}"
            for node_id, num in Counter(job.grant.nodes).items():
                yield Lease(name, job.spec.name, node_id, {resource: amount * num for resource, amount in demand.items()})
