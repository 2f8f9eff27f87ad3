"""What is kept for the heads of the queues: room on nodes, one head per flavor, and quota, one head per cohort.

A head that cannot start yet is promised the first moment at which it can, by the predicted ends of what runs; whoever starts
before it must have ended by then, or use only what is to spare. Invariant: at most one promise per flavor and per cohort (or
queue, where that one's own limit binds). EASY backfill, see `reserve`; the same rule for quota is our own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fabric.job import JobId, Option
from fabric.scheduler.backlog import Group
from fabric.scheduler.book import Book
from fabric.scheduler.machines import Allowed
from fabric.scheduler.record import JobRecord
from fabric.scheduler.refusal import Refusal
from fabric.scheduler.reserve import Ending, Reservation, earliest

EPSILON = 1e-6
LEAST_LEFT_S = 60.0
"""A job of which nothing is predicted is taken to run as long again as it has run, and at least so long."""
OVERDUE_FRAC = 0.02
"""What should have ended is looked for again after this part of the time that it has run."""


@dataclass(slots=True)
class QuotaHold:
    """The head gets its quota at `at_s`; `spare`: selector -> units beside it by then."""

    job_id: JobId
    queue: str
    at_s: float
    spare: dict[str, float]


class Holds:
    """See the module. `rooms`: flavor -> promise; `quotas`: cohort, or `queue NAME` -> promise."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.rooms: dict[str, Reservation] = {}
        self.quotas: dict[str, QuotaHold] = {}
        self._had_turn: set[object] = set()

    @property
    def wake_s(self) -> float:
        times = [room.at_s for room in self.rooms.values()] + [quota.at_s for quota in self.quotas.values()]
        return min(times, default=float("inf")) + 1e-3

    def begin(self) -> None:
        """A cycle begins: those who have a promise get their turn in it, like those who may have room now."""
        self._had_turn.clear()
        heads = [hold.job_id for hold in self.rooms.values()] + [hold.job_id for hold in self.quotas.values()]
        groups = [self.book.jobs[job_id].group for job_id in heads]
        self.book.backlog.open(group for group in groups if isinstance(group, Group))

    def note_turn(self, group: object) -> None:
        """A job of this group could not start."""
        self._had_turn.add(group)

    def expire(self) -> None:
        """A promise whose time has come and gone is made anew: everybody is looked at again."""
        book = self.book
        for flavor in [flavor for flavor, hold in self.rooms.items() if hold.at_s < book.now_s or self._is_over(hold.job_id)]:
            del self.rooms[flavor]
            book.backlog.open_for_room(flavor, float("inf"))
        for scope in [scope for scope, hold in self.quotas.items() if hold.at_s < book.now_s or self._is_over(hold.job_id)]:
            del self.quotas[scope]
            book.backlog.open_for_quota(scope, float("inf"))

    def release_planned(self) -> None:
        """A plan takes over: what was kept for jobs that it knows is free."""
        for flavor in [flavor for flavor, hold in self.rooms.items() if self.book.jobs[hold.job_id].is_planned]:
            del self.rooms[flavor]

    def keep_for(self, job: JobRecord, ways: tuple[Option, ...], refusal: Refusal) -> None:
        """Promise the job the first moment at which it can start, where nobody before it has a promise there."""
        if refusal.why == "Resources":
            self._keep_room(job, ways)
        elif refusal.why == "QuotaExhausted":
            self._keep_quota(job, ways)

    # ---- who else may start

    def allowed(self, job: JobRecord, way: Option, demand: Mapping[str, float], end_s: float) -> Allowed | None:
        """Which machines a job that ends then may use; None: all."""
        hold = self.rooms.get(way.flavor)
        return hold.allows(demand, end_s) if hold is not None and self._binds(hold, job) else None

    def quota_kept(self, job: JobRecord, way: Option, end_s: float) -> str | None:
        """Why quota that is free is not for this job; None: it is. What is the queue's own, others' heads never keep from it."""
        if not self.quotas:
            return None
        queue, quotas = job.spec.queue, self.book.standing.quotas
        for scope in (quotas.cohort_of(queue), f"queue {queue}"):
            hold = self.quotas.get(scope)
            if hold is None or end_s <= hold.at_s or not self._binds(hold, job):
                continue
            if queue != hold.queue and not quotas.borrows(queue, way.flavor, way.units):
                continue
            if any(way.units > hold.spare.get(s, way.units) + EPSILON for s in quotas.selectors(queue, way.flavor)):
                return f"quota is kept for {hold.job_id}"
        return None

    def use(self, job: JobRecord, way: Option, nodes: tuple[str, ...], demand: Mapping[str, float], end_s: float) -> bool:
        """The job starts. True: ahead of a head for which room is kept."""
        book, spec, is_ahead = self.book, job.spec, False
        room = self.rooms.get(way.flavor)
        if room is not None and not self._is_for(room.job_id, job):
            is_ahead = True
            if end_s > room.at_s:
                room.use(nodes, demand)
        for flavor in [flavor for flavor, hold in self.rooms.items() if self._is_for(hold.job_id, job)]:
            del self.rooms[flavor]
            book.freed_flavors.add(flavor)
        quotas = book.standing.quotas
        for scope in (quotas.cohort_of(spec.queue), f"queue {spec.queue}") if self.quotas else ():
            hold = self.quotas.get(scope)
            if hold is not None and self._is_for(hold.job_id, job):
                del self.quotas[scope]
                book.backlog.open_for_quota(scope, quotas.pool_free(spec.queue, way.flavor))
            elif hold is not None:
                is_ahead = True
                for selector in quotas.selectors(spec.queue, way.flavor) if end_s > hold.at_s else ():
                    hold.spare[selector] = hold.spare.get(selector, 0.0) - way.units
        return is_ahead

    # ---- promises

    def _is_for(self, job_id: JobId, job: JobRecord) -> bool:
        """Whether a promise is this job's: it was made to it, or to one that asks for the same and stands behind it by now."""
        return job_id == job.spec.job_id or (job.group is not None and self.book.jobs[job_id].group is job.group)

    def _binds(self, hold: Reservation | QuotaHold, job: JobRecord) -> bool:
        """Whether the job must not take what is promised: it comes behind."""
        return self._is_before(hold) and not self._is_for(hold.job_id, job)

    def _is_before(self, hold: Reservation | QuotaHold | None) -> bool:
        """Whether who has the promise has had its turn in this cycle: nothing is kept from those who come before it."""
        return hold is not None and self.book.jobs[hold.job_id].group in self._had_turn

    def _is_over(self, job_id: JobId) -> bool:
        job = self.book.jobs.get(job_id)
        return job is None or job.group is None

    def _left_s(self, job: JobRecord) -> float:
        """Predicted seconds until it ends."""
        now_s = self.book.now_s
        left_s = 0.0 if job.is_leaving else job.left_s(now_s, self.book.policy.restart_s)
        if left_s == float("inf"):
            return max(LEAST_LEFT_S, now_s - job.dispatched_s)
        return left_s or OVERDUE_FRAC * max(1.0, now_s - job.dispatched_s)

    def _keep_room(self, job: JobRecord, ways: tuple[Option, ...]) -> None:
        if any(self._is_for(hold.job_id, job) for hold in self.rooms.values()):
            return
        book, best, best_end_s = self.book, None, float("inf")
        for way in ways:
            if self._is_before(self.rooms.get(way.flavor)):
                continue
            shape, demand = job.spec.shapes[way.shape], book.demand(job, way)
            endings = self._endings(way.flavor)
            found = earliest(book.machines, way.flavor, demand, way.num_bundles, shape.spread, endings, book.now_s)
            if found is None or found[0] <= book.now_s:
                # Room that is there now was refused for another reason: no promise of it helps.
                continue
            end_s = found[0] + (job.work - job.done) / way.rate if way.rate > 0 else found[0]
            if end_s < best_end_s:
                best, best_end_s = Reservation(job.spec.job_id, way.flavor, found[0], found[2]), end_s
        if best is not None:
            self.rooms[best.flavor] = best

    def _endings(self, flavor: str) -> Iterator[Ending]:
        """When what runs on a flavor is predicted to end, soonest first, and what it gives back then."""
        book = self.book
        held = [job for jobs in book.held_on(flavor) for job in jobs.values()]
        for end_s, _, job in self._by_end(held):
            if job.grant is not None:
                yield end_s, job.grant.nodes, book.demand(job, job.grant.option)

    def _by_end(self, jobs: list[JobRecord]) -> Iterator[tuple[float, JobId, JobRecord]]:
        """Predicted ends, soonest first; the first few are all that is asked for as a rule."""
        ends = [(self.book.now_s + self._left_s(job), job.spec.job_id, job) for job in jobs]
        heapq.heapify(ends)
        while ends:
            yield heapq.heappop(ends)

    def _keep_quota(self, job: JobRecord, ways: tuple[Option, ...]) -> None:
        book, quotas, queue = self.book, self.book.standing.quotas, job.spec.queue
        for way in ways:
            scope = f"queue {queue}" if quotas.is_own_limit(queue, way.flavor, way.units) else quotas.cohort_of(queue)
            if not scope or self._is_before(self.quotas.get(scope)) or quotas.can_never(queue, way.flavor, way.units):
                continue
            held = [one for jobs in book.held_in(queue) for one in jobs.values() if one.grant is not None]
            gone: list[JobRecord] = []
            for end_s, _, one in self._by_end(held):
                quotas.change(one.spec.queue, one.grant.option.flavor, -one.grant.option.units)  # type: ignore[union-attr]
                gone.append(one)
                if quotas.shortage(queue, way.flavor, way.units) is None:
                    spare = quotas.spare(queue, way.flavor, way.units, is_own=scope.startswith("queue "))
                    self.quotas[scope] = QuotaHold(job.spec.job_id, queue, end_s, spare)
                    break
            for one in gone:
                quotas.change(one.spec.queue, one.grant.option.flavor, one.grant.option.units)  # type: ignore[union-attr]
            return
