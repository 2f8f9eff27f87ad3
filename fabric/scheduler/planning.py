"""Asking the optimiser: what it is told, how often, and which of its wishes are granted.

Invariants: it is asked only about jobs with an estimate; at most `WINDOW` waiting jobs, best ranks first, beside all that
run; the larger the problem, the rarer, so that solving never takes more than a small part of the time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from fabric.job import JobId, Option
from fabric.scheduler.admission import Admission
from fabric.scheduler.book import Book
from fabric.scheduler.problem import Plan, PlanJob, Problem, WarmStart
from fabric.scheduler.record import JobRecord
from fabric.states import JobState

WINDOW = 5000
SECONDS_PER_JOB = 0.003
CHANGED_FRAC = 0.04
SMALL = 200
"""Up to so many jobs every change is a cause to ask."""
LONGEST_S = 3600.0
MOST_BUSY_FRAC = 0.1
"""The optimiser computes for at most this part of the time: on a laptop it shares the processors with the jobs."""


class Pace:
    """When the optimiser is asked again. `changes` counts what has happened since it was last asked."""

    def __init__(self) -> None:
        self.changes = 0
        self.asked_s = float("-inf")
        self.is_waiting = False
        self.took_s = 0.0
        self.review_s: float | None = None
        self.warm: WarmStart | None = None

    def due_s(self, num_jobs: int) -> float:
        """The earliest time to ask again; infinite while there is no cause."""
        if self.is_waiting or num_jobs == 0:
            return float("inf")
        soonest = self.asked_s + max(SECONDS_PER_JOB * num_jobs, self.took_s / MOST_BUSY_FRAC)
        due = float("inf") if self.review_s is None else max(soonest, self.review_s)
        if self.changes >= max(1.0, CHANGED_FRAC * (num_jobs - SMALL)):
            return soonest
        if self.changes:
            return min(due, max(soonest, self.asked_s + LONGEST_S * max(1.0, num_jobs / WINDOW)))
        return due

    def asked(self, now_s: float) -> None:
        self.changes, self.asked_s, self.is_waiting, self.review_s = 0, now_s, True, None

    def answered(self, plan: Plan, took_s: float) -> None:
        self.is_waiting, self.took_s, self.review_s, self.warm = False, took_s, plan.review_s, plan.warm


def problem_of(book: Book, warm: WarmStart | None) -> tuple[Problem, list[JobRecord]]:
    """The problem as it is now, and the waiting jobs in it. `warm`: see `Problem`."""
    holding = [job for job in book.holding.values() if job.estimate is not None]
    waiting = (job for job in book.backlog.all_waiting() if job.estimate is not None)
    first = heapq.nsmallest(WINDOW, waiting, key=lambda job: (job.rank, job.spec.submitted_s, job.spec.job_id))
    weights = book.standing.job_weights([*holding, *first])
    jobs = [_running(job, book, weights[job.spec.job_id]) for job in holding]
    jobs += [_view(job, book, weights[job.spec.job_id]) for job in first]
    prices = {name: price for name, price in book.standing.prices.items() if name in book.machines.stocks}
    return Problem(book.now_s, book.policy.objective, jobs, _capacity(book, with_unknown=False), prices, warm), first


def take(plan: Plan, asked: Iterable[JobRecord], book: Book, admission: Admission) -> None:
    """Put a plan in force: ranks and ways for who waits, room for who is to start, and who gives way for them.

    Running jobs leave for a plan only while one class of one queue is all there is: between several, shares decide who
    starts, and the plan only where. So it is while a job has waited too long.
    """
    places = {(job.spec.queue, job.cls) for job in book.holding.values()} | {
        (leaf.queue, leaf.cls) for leaf in book.backlog.leaves if leaf.num
    }
    is_alone = len(places) <= 1 and not admission.is_starving()
    admission.is_ruled = is_alone
    admission.idle = _capacity(book, with_unknown=True) if is_alone else {}
    for way in plan.run.values():
        if is_alone:
            admission.idle[way.flavor] = admission.idle.get(way.flavor, 0.0) - way.units
    expected = {job_id for job_id in admission.claims if book.jobs[job_id].expects}
    admission.claims = {job_id: way for job_id, way in admission.claims.items() if job_id in expected}
    for job in asked:
        job.is_planned = True
    if is_alone:
        admission.holds.release_planned()
    for rank, (job_id, ways) in enumerate(plan.order, start=1):
        _requeue(book, job_id, float(rank), ways)
    leaving, starting = moves_of(plan, book.holding.values())
    barred = _make_room(leaving, starting, book, admission) if is_alone else set()
    for job_id, way in starting.items():
        waiting = book.jobs.get(job_id)
        if waiting is None or waiting.state not in (JobState.PENDING, JobState.PREEMPTING):
            continue
        if is_alone and job_id not in barred:
            admission.claims[job_id] = way
        _requeue(book, job_id, -1.0, (way, *(other for other in waiting.ways if other[:3] != way[:3])))
    book.freed_flavors.update(book.machines.stocks)


Leaving = Sequence[tuple[JobRecord, Option | None]]


def _make_room(leaving: Leaving, starting: Mapping[JobId, Option], book: Book, admission: Admission) -> set[JobId]:
    """Tell those to leave who should, but nobody for one that then may not start. Returns those that may not."""
    barred = _barred(leaving, starting, book, admission)
    flavors = {starting[job_id].flavor for job_id in barred}
    for job, wanted in leaving:
        if wanted is None and (job.grant is None or job.grant.option.flavor not in flavors):
            admission.tell_to_leave(job, "Plan", None)
        elif wanted is not None and job.spec.job_id not in barred:
            admission.tell_to_leave(job, "Move", None)
    return barred


def _barred(leaving: Leaving, starting: Mapping[JobId, Option], book: Book, admission: Admission) -> set[JobId]:
    """Those whom a quota, a limit or a budget keeps from their start even when all have left who should."""
    standing, counted = book.standing, [(job, job.grant.option, -1) for job, _ in leaving if job.grant is not None]
    for job, way, sign in counted:
        standing.count(job, way, sign)
    barred = set()
    for job_id, way in starting.items():
        waiting = book.jobs.get(job_id)
        if waiting is None:
            continue
        if admission.barred(waiting, way) is not None:
            barred.add(job_id)
        else:
            standing.count(waiting, way, 1)
            counted.append((waiting, way, 1))
    for job, way, sign in counted:
        standing.count(job, way, -sign)
    return barred


def _requeue(book: Book, job_id: JobId, rank: float, ways: tuple[Option, ...]) -> None:
    job = book.jobs.get(job_id)
    if job is not None and job.state is JobState.PENDING and job.group is not None:
        job.rank, job.ways = rank, ways
        book.push(job)


def _capacity(book: Book, *, with_unknown: bool) -> dict[str, float]:
    """Flavor -> units that jobs may hold; without those held by jobs of which nothing is predicted."""
    capacity = {flavor: stock.free_units for flavor, stock in book.machines.stocks.items()}
    for job in book.holding.values():
        if job.grant is not None and job.grant.option.flavor in capacity and (with_unknown or job.estimate is not None):
            capacity[job.grant.option.flavor] += job.grant.option.units
    return capacity


def _view(job: JobRecord, book: Book, weight: float) -> PlanJob:
    spec, estimate, restart_s = job.spec, job.estimate, book.policy.restart_s
    return PlanJob(
        spec.job_id,
        book.ways_of(job),
        max(job.work - job.done_at(book.now_s, restart_s), 1e-9 * job.work),
        spec.submitted_s,
        weight,
        estimate.log_sd if estimate else 0.0,
        spec.deadline_s,
        restart_s=restart_s,
        is_movable=spec.is_movable,
    )


def _running(job: JobRecord, book: Book, weight: float) -> PlanJob:
    """Jobs that are leaving count as waiting: their room is promised already."""
    view, restart_s = _view(job, book, weight), book.policy.restart_s
    if job.state is JobState.PREEMPTING or job.grant is None:
        return view
    option = job.grant.option
    started_s = job.started_s if job.state is JobState.RUNNING else book.now_s
    view.held = next((way for way in view.options if way[:3] == option[:3]), option)
    view.held_since_s = job.dispatched_s
    view.warmup_left_s = max(0.0, started_s + restart_s - book.now_s)
    done = job.done_at(book.now_s, restart_s)
    view.lost_work = max(0.0, done - (done if job.spec.can_resume else job.checkpointed))
    return view


def moves_of(plan: Plan, holding: Iterable[JobRecord]) -> tuple[list[tuple[JobRecord, Option | None]], dict[JobId, Option]]:
    """What the plan changes: running jobs that leave (with where they move to), and who starts (job id -> way)."""
    leaving: list[tuple[JobRecord, Option | None]] = []
    starting = dict(plan.run)
    for job in holding:
        wanted = starting.get(job.spec.job_id)
        if job.grant is None or job.state is JobState.PREEMPTING:
            continue
        if wanted is not None and wanted[:3] == job.grant.option[:3]:
            del starting[job.spec.job_id]
        elif job.spec.is_movable and job.state is JobState.RUNNING and job.dispatched_s <= plan.now_s:
            leaving.append((job, wanted))
        else:
            starting.pop(job.spec.job_id, None)
    return leaving, starting
