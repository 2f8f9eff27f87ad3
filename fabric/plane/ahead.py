"""Who is ahead of a job that waits: those that hold what it waits for, and those that go before it. Reads only."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from fabric.job import JobId
from fabric.job_answers import AHEAD_KEYS
from fabric.job_form import JobView, job_json
from fabric.plane.views import in_order
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState

MOST_AHEAD = 20
_BY_USER = "UserLimit"
_BY_QUOTA = "QuotaExhausted"


def ahead_rows(core: Core, job: JobRecord, view_of: Callable[[JobRecord], JobView], now_s: float) -> tuple[list[dict[str, Any]], int]:
    """At most `MOST_AHEAD` rows of `fabric.job_answers.AHEAD_KEYS`, and how many are ahead in all: who holds it first, by the
    time that is left, then who waits, in order. What is left of a waiting job is its predicted run time."""
    restart_s = core.book.policy.restart_s
    holding = sorted(_holding(core, job), key=lambda other: (other.remaining_s(now_s, restart_s), other.spec.job_id))
    found = [*holding, *_waiting(core, job)]
    return [_row(core, each, view_of) for each in found[:MOST_AHEAD]], len(found)


def _holding(core: Core, job: JobRecord) -> list[JobRecord]:
    """Those that hold what the job waits for."""
    code, book = reason(job)[0], core.book
    if code == "Dependency":
        return [book.jobs[other] for other in job.spec.after if other in book.jobs and not book.jobs[other].state.is_final]
    if code in ("BackOff", "BudgetExceeded"):
        return []
    found = list(book.holding.values())
    if code == _BY_USER:
        return [other for other in found if (other.spec.user, other.spec.queue) == (job.spec.user, job.spec.queue)]
    if code == _BY_QUOTA:
        queues = book.standing.quotas.cohort_queues(job.spec.queue)
        found = [other for other in found if other.spec.queue in queues]
    flavors = {way.flavor for way in job.ways}
    return [other for other in found if other.grant is not None and other.grant.option.flavor in flavors]


def _waiting(core: Core, job: JobRecord) -> list[JobRecord]:
    """Those that go before it and want some of the same."""
    if job.group is None:
        return []
    flavors = {way.flavor for way in job.ways}
    before = itertools.takewhile(lambda other: other is not job, in_order(core))
    return [other for other in before if any(way.flavor in flavors for way in other.ways)]


def _row(core: Core, job: JobRecord, view_of: Callable[[JobRecord], JobView]) -> dict[str, Any]:
    found = {key: value for key, value in job_json(view_of(job)).items() if key in AHEAD_KEYS}
    rates = [way.rate for way in job.ways if way.rate > 0]
    if job.state is JobState.PENDING and rates:
        found["remaining_s"] = core.book.policy.restart_s + (job.work - job.done) / max(rates)
    return found


def name_of(core: Core, job_id: str) -> str:
    """A job's name, else its id."""
    job = core.jobs.get(JobId(job_id))
    return job.spec.name or job_id if job is not None else job_id
