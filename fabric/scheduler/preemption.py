"""When others have to leave for a job: whether anybody may, whether it is worth it, and who costs least.

Nobody is told to leave where enough ends by itself about as soon as victims would have left.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from fabric.job import Grant, JobId, Option
from fabric.scheduler.book import Book
from fabric.scheduler.record import JobRecord
from fabric.scheduler.refusal import Refusal
from fabric.scheduler.victims import Candidate, Wanted, find_victims
from fabric.states import JobState

LEAVE_S = 10.0
"""So long a preempted program takes to leave: its grace, and its checkpoint on the way to the store."""
FRESH_S = 1.0
"""How soon running jobs end is looked up again after so long."""


class Preemption:
    """Reads the book; changes nothing."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._soon: dict[tuple[str, str], tuple[float, float]] = {}

    def find(
        self, job: JobRecord, ways: tuple[Option, ...], refusal: Refusal, claims: Mapping[JobId, Option]
    ) -> tuple[Option, list[JobRecord]] | None:
        """The way in which the job can start once these have left; None: it waits. `claims`: what is promised to others."""
        value = (job.cls or self.book.standing.lowest).value
        ways = tuple(way for way in ways if self._may_have_victims(job, value, way))
        if not ways:
            return None
        refusal.is_impatient = True
        with self._all_in_their_places(claims):
            still = [way for way in ways if self._may_have_victims(job, value, way) and not self._has_room_soon(job, way)]
            found = [self._search(job, value, way) for way in still]
        best = min((one for one in found if one is not None), key=lambda one: one[0], default=None)
        return best[1:] if best is not None else None

    @contextlib.contextmanager
    def _all_in_their_places(self, claims: Mapping[JobId, Option]) -> Iterator[None]:
        """As if those who were told to leave had left, and those for whom they leave had started."""
        book, quotas = self.book, self.book.standing.quotas
        if not claims and not book.num_preempting:
            yield
            return
        gone = [one for one in book.holding.values() if one.is_leaving] if book.num_preempting else []
        moves = [(one, one.grant.option, -1.0) for one in gone if one.grant is not None]
        moves += [(book.jobs[job_id], way, 1.0) for job_id, way in claims.items()]
        mark = book.machines.checkpoint()
        try:
            for one, way, sign in moves:
                quotas.change(one.spec.queue, way.flavor, sign * way.units)
                if sign > 0:
                    spread = one.spec.shapes[way.shape].spread
                    book.machines.place(way.flavor, book.demand(one, way), way.num_bundles, spread=spread)
                elif one.grant is not None:
                    book.machines.give(one.grant.nodes, book.demand(one, way))
            yield
        finally:
            for one, way, sign in moves:
                quotas.change(one.spec.queue, way.flavor, -sign * way.units)
            book.machines.rollback(mark)

    def _search(self, job: JobRecord, value: int, way: Option) -> tuple[float, Option, list[JobRecord]] | None:
        book, queue = self.book, job.spec.queue
        shape = job.spec.shapes[way.shape]
        wanted = Wanted(queue, value, way.flavor, book.demand(job, way), way.num_bundles, way.units, shape.spread, self._soon_s)
        candidates = self._candidates(queue, value, way.flavor)
        queues = {name: book.standing.queue(name) for name in {queue, *(candidate.queue for candidate in candidates)}}
        victims = find_victims(wanted, candidates, book.machines, book.standing.quotas, queues)
        if not victims or max(self._left_s(victim) for victim in victims) <= self._soon_s:
            return None
        names = {victim.spec.job_id for victim in victims}
        return sum(candidate.cost for candidate in candidates if candidate.job.spec.job_id in names), way, victims

    def _may_have_victims(self, job: JobRecord, value: int, way: Option) -> bool:
        """A cheap look before the search: anything of lower value here, or anything lent to reclaim."""
        standing = self.book.standing
        queue = standing.queue(job.spec.queue)
        if any(held > 0 and other < value for other, held in standing.unlimited_values.items()):
            return True
        if not queue.nominal:
            return False
        own = standing.held_values.get(queue.name, Counter())
        if queue.within_queue == "LowerPriority" and any(held > 0 and other < value for other, held in own.items()):
            return True
        return queue.reclaim_within_cohort != "Never" and standing.quotas.can_reclaim(queue.name, way.flavor, way.units)

    # ---- what ends by itself

    @property
    def _soon_s(self) -> float:
        return max(LEAVE_S, self.book.policy.restart_s)

    def _left_s(self, job: JobRecord) -> float:
        return job.left_s(self.book.now_s, self.book.policy.restart_s)

    def _has_room_soon(self, job: JobRecord, way: Option) -> bool:
        """Whether enough of what holds its quota, or its nodes, is predicted to end soon."""
        quotas, queue = self.book.standing.quotas, job.spec.queue
        if quotas.shortage(queue, way.flavor, way.units) is None:
            scope, jobs, free = "", self.book.held_on(way.flavor), self.book.machines.free_units(way.flavor)
        else:
            is_own = quotas.is_own_limit(queue, way.flavor, way.units)
            scope = f"queue {queue}" if is_own else quotas.cohort_of(queue)
            jobs, free = self.book.held_in(queue), quotas.free(queue, way.flavor)
        as_of_s, soon = self._soon.get((scope, way.flavor), (float("-inf"), 0.0))
        if not as_of_s <= self.book.now_s < as_of_s + FRESH_S:
            own = queue if scope.startswith("queue ") else None
            soon = sum(self._units_soon(one, way.flavor) for some in jobs for one in some.values() if own in (None, one.spec.queue))
            self._soon[scope, way.flavor] = self.book.now_s, soon
        return free + soon >= way.units - 1e-6

    def _units_soon(self, job: JobRecord, flavor: str) -> float:
        if job.grant is None or job.grant.option.flavor != flavor or job.is_leaving or self._left_s(job) > self._soon_s:
            return 0.0
        return job.grant.option.units

    # ---- candidates

    def _candidates(self, queue: str, value: int, flavor: str) -> list[Candidate]:
        """What runs on the flavor and might have to leave: of lower value, or in a queue of the cohort that borrows."""
        standing, lowest = self.book.standing, self.book.standing.lowest
        borrows: dict[str, bool] = {queue: False}
        found = []
        for job in self._running(queue, flavor):
            name = job.spec.queue
            if name not in borrows:
                borrows[name] = standing.quotas.borrows(name, flavor)
            if not borrows[name] and (job.cls or lowest).value >= value:
                continue
            if job.grant is not None and job.state is JobState.RUNNING and job.spec.is_preemptible:
                found.append(self._candidate(job, job.grant))
        return found

    def _running(self, queue: str, flavor: str) -> Iterable[JobRecord]:
        for cohort in dict.fromkeys((self.book.standing.quotas.cohort_of(queue), "")):
            yield from self.book.held.get((cohort, flavor), {}).values()

    def _candidate(self, job: JobRecord, grant: Grant) -> Candidate:
        """What it would cost to let this job go: the work that no checkpoint keeps, and its restart."""
        book, option = self.book, grant.option
        done = job.done_at(book.now_s, book.policy.restart_s)
        lost = done - (done if job.spec.can_resume else job.checkpointed)
        lost_s = lost / job.rate if job.rate else book.now_s - job.started_s
        cost = (lost_s + book.policy.restart_s) * book.standing.weight_usd_per_s(option)
        value = (job.cls or book.standing.lowest).value
        ran_s = book.now_s - job.started_s
        return Candidate(job, value, job.spec.queue, option.flavor, option.units, grant.nodes, book.demand(job, option), cost, ran_s)
