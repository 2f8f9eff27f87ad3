"""The cycle: who starts now, in order; who is preempted; for whom room is kept.

Snapshot -> order -> fit -> commit, as in Kueue. Order: what the plan or a preemption has made room for, then class value,
queues by weighted share, classes by weight, the optimiser's rank, age. Invariants: a blocked group is looked at again only
when something that it waits for was freed; a job that starts never delays the head of the queue (see `reserve`).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fabric.job import Grant, JobId, Option
from fabric.job_events import JobDispatched, JobPreempted, Launch, Preempt
from fabric.scheduler.backlog import Leaf
from fabric.scheduler.book import Book
from fabric.scheduler.record import JobRecord
from fabric.scheduler.reserve import Ending, Reservation, earliest
from fabric.scheduler.victims import Candidate, Wanted, find_victims
from fabric.states import JobState

EPSILON = 1e-6
ROOM = frozenset({"Resources", "Priority", "Planning", "BadConstraints"})
"""What free nodes may end; everything else waits for quota, a user's limit or a budget."""


class Admission:
    """`claims`: room promised to a job that has not started yet. `idle`: units that the last plan left free on purpose, which
    jobs that it knew do not touch."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.claims: dict[JobId, Option] = {}
        self.idle: dict[str, float] = {}
        self.reservation: Reservation | None = None

    def run(self, hold_back_from_s: float) -> None:
        """One cycle. Jobs that are predicted to run at least `hold_back_from_s` wait (infinite: none does)."""
        self._reopen()
        self._admit(hold_back_from_s)
        if self.claims and not any(job.state is JobState.PREEMPTING for job in self.book.holding.values()):
            # Whoever could leave has left: what still does not fit must not keep others out.
            self.claims.clear()
            self.book.backlog.reopen(lambda _leaf, why: why == "Priority")
            self._admit(hold_back_from_s)

    def tell_to_leave(self, job: JobRecord, reason: str, for_job: JobId | None) -> None:
        self.book.decide(JobPreempted(job.spec.job_id, job.attempt, reason, for_job))
        self.book.commands.append(Preempt(job.spec.job_id, job.attempt, reason))

    def _reopen(self) -> None:
        book = self.book
        if self.reservation is not None and self.reservation.at_s < book.now_s:
            self.reservation = None
            book.freed_flavors.add("")
        if not book.freed_flavors and not book.freed_queues:
            return
        queues, has_room = book.freed_queues, bool(book.freed_flavors)
        book.backlog.reopen(lambda leaf, why: has_room if why in ROOM else leaf.queue in queues)
        book.freed_queues, book.freed_flavors = set(), set()

    # ---- in order

    def _admit(self, hold_back_from_s: float) -> None:
        backlog = self.book.backlog
        offers: list[tuple[Any, tuple[str, str]]] = []
        for name in tuple(backlog.ready):
            self._offer(offers, name)
        while offers:
            _, name = heapq.heappop(offers)
            found = backlog.first(backlog.leaves[name])
            if found is None:
                continue
            job, group = found
            if not self._try(job, hold_back_from_s):
                backlog.block(group, job.why, job.detail)
            self._offer(offers, name)

    def _offer(self, offers: list[tuple[Any, tuple[str, str]]], name: tuple[str, str]) -> None:
        leaf = self.book.backlog.leaves[name]
        found = self.book.backlog.first(leaf)
        if found is not None:
            heapq.heappush(offers, (self._order(leaf, found[0]), name))

    def _order(self, leaf: Leaf, job: JobRecord) -> tuple[Any, ...]:
        cls = job.cls or self.book.standing.lowest
        shares = self.book.standing.shares(leaf.queue, leaf.cls, self.book.now_s)
        return (job.spec.job_id not in self.claims, -cls.value, *shares, job.rank, job.spec.submitted_s)

    # ---- one job

    def _try(self, job: JobRecord, hold_back_from_s: float) -> bool:
        """Start the job if it may; otherwise `job.why` says why not."""
        job.why, job.detail = "", ""
        claim = self.claims.get(job.spec.job_id)
        ways = (claim,) if claim is not None else job.ways
        if not ways:
            job.why, job.detail = "BadConstraints", "no node of this fabric can hold it"
            return False
        if job.estimate is not None and job.work / max(way.rate for way in ways) >= hold_back_from_s:
            job.why, job.detail = "Planning", "a plan is being made"
            return False
        if any(self._start(job, way, has_claim=claim is not None) for way in self._by_score(job, ways)):
            return True
        if claim is not None or self._is_expecting(job) or self._preempt_for(job, ways):
            return False
        if job.why == "Resources" and self.reservation is None and not job.is_planned:
            self._reserve(job, ways)
        return False

    def _by_score(self, job: JobRecord, ways: tuple[Option, ...]) -> tuple[Option, ...]:
        """A plan's ways are in its order; without one, preferred nodes first, then what ends soonest."""
        if job.is_planned or len(ways) == 1:
            return ways
        cls = job.cls or self.book.standing.lowest
        prefers = self.book.ways.prefers
        return tuple(sorted(ways, key=lambda way: (bool(cls.selectors) and not prefers(cls, way.flavor), -way.rate)))

    def _start(self, job: JobRecord, way: Option, *, has_claim: bool) -> bool:
        book, spec = self.book, job.spec
        if not self._is_allowed(job, way):
            return False
        free, kept = book.machines.free_units(way.flavor), 0.0 if has_claim else self._kept_units(job, way.flavor)
        if kept and way.units > free - kept + EPSILON:
            job.why, job.detail = (
                "Priority" if free >= way.units else "Resources",
                f"{way.flavor}: {kept:g} of {free:g} free units are kept",
            )
            return False
        demand, shape, reserved = book.demand(job, way), spec.shapes[way.shape], self.reservation
        is_other = reserved is not None and not has_claim and reserved.job_id != spec.job_id and reserved.flavor == way.flavor
        allowed = reserved.allows(demand, self._latest_end_s(job, way)) if reserved is not None and is_other else None
        nodes = book.machines.place(way.flavor, demand, way.num_bundles, spread=shape.spread, allowed=allowed)
        if nodes is None:
            job.why = "Priority" if allowed is not None and free >= way.units else "Resources"
            job.detail = f"{way.flavor}: {free:g} free, {way.units:g} wanted"
            return False
        if reserved is not None and is_other:
            if allowed is not None:
                reserved.use(nodes, demand)
        elif reserved is not None and reserved.job_id == spec.job_id:
            self.reservation = None
        self.claims.pop(spec.job_id, None)
        grant = Grant(way, nodes)
        book.decide(JobDispatched(spec.job_id, job.attempt + 1, grant, "Backfill" if is_other else "Fit"))
        book.commands.append(Launch(spec.job_id, job.attempt, grant))
        return True

    def _is_allowed(self, job: JobRecord, way: Option) -> bool:
        """Quota, the user's limit and the budget."""
        standing, spec = self.book.standing, job.spec
        if (shortage := standing.quotas.shortage(spec.queue, way.flavor, way.units)) is not None:
            job.why, job.detail = "QuotaExhausted", shortage
            return False
        if (limit := standing.user_limit(job, way.units)) is not None:
            job.why, job.detail = "UserLimit", limit
            return False
        if spec.budget_usd is not None and way.rate > 0:
            run_s = (job.work - job.done) / way.rate + self.book.policy.restart_s
            if job.spent_usd + run_s * standing.usd_per_s(way) > spec.budget_usd:
                job.why, job.detail = "BudgetExceeded", f"{run_s * standing.usd_per_s(way):.2f} USD on {way.flavor}"
                return False
        return True

    def _kept_units(self, job: JobRecord, flavor: str) -> float:
        """Free units that are not for this job: promised to others, or left idle by the plan that knew of it."""
        claimed = sum(way.units for way in self.claims.values() if way.flavor == flavor)
        return claimed + (self.idle.get(flavor, 0.0) if job.is_planned else 0.0)

    def _latest_end_s(self, job: JobRecord, way: Option) -> float:
        """When it will have ended, one standard deviation late; its time limit where that is sooner."""
        limit = job.spec.timeout_s if job.spec.timeout_s is not None else math.inf
        if job.estimate is None or way.rate <= 0:
            return self.book.now_s + limit
        run_s = (job.work - job.done) / way.rate * math.exp(job.estimate.log_sd) + self.book.policy.restart_s
        return self.book.now_s + min(limit, run_s)

    # ---- room that is not there yet

    def endings(self, flavor: str) -> list[Ending]:
        """When what runs on a flavor is predicted to end, and what it gives back then."""
        book, endings = self.book, []
        for job in book.holding.values():
            if job.grant is not None and job.grant.option.flavor == flavor:
                left_s = 0.0 if job.state is JobState.PREEMPTING else job.remaining_s(book.now_s, book.policy.restart_s)
                endings.append((book.now_s + left_s, job.grant.nodes, book.demand(job, job.grant.option)))
        return endings

    def _reserve(self, job: JobRecord, ways: Iterable[Option]) -> None:
        """The head of the queue: note when and where it can start, so that backfill does not delay it."""
        best: Reservation | None = None
        best_end_s = math.inf
        for way in ways:
            shape, demand = job.spec.shapes[way.shape], self.book.demand(job, way)
            found = earliest(
                self.book.machines, way.flavor, demand, way.num_bundles, shape.spread, self.endings(way.flavor), self.book.now_s
            )
            if found is None:
                continue
            end_s = found[0] + (job.work - job.done) / way.rate if way.rate > 0 else found[0]
            if end_s < best_end_s:
                best, best_end_s = Reservation(job.spec.job_id, way.flavor, found[0], found[2]), end_s
        self.reservation = best

    def _is_expecting(self, job: JobRecord) -> bool:
        """Whether jobs that were told to leave for this one have not left yet."""
        job.expects = tuple(victim for victim in job.expects if victim.state is JobState.PREEMPTING)
        if job.expects:
            job.why, job.detail = "Resources", f"waits for {len(job.expects)} preempted jobs to leave"
        return bool(job.expects)

    def _preempt_for(self, job: JobRecord, ways: Iterable[Option]) -> bool:
        """Tell the cheapest allowed victims to leave; the room is then claimed for the job."""
        book, cls = self.book, job.cls or self.book.standing.lowest
        best: tuple[float, Option, list[JobRecord]] | None = None
        for way in ways:
            if not self._may_have_victims(job, cls.value, way):
                continue
            shape = job.spec.shapes[way.shape]
            wanted = Wanted(job.spec.queue, cls.value, way.flavor, book.demand(job, way), way.num_bundles, way.units, shape.spread)
            candidates = self._candidates(job.spec.queue, way.flavor)
            queues = {name: book.standing.queue(name) for name in {job.spec.queue, *(c.queue for c in candidates)}}
            victims = find_victims(wanted, candidates, book.machines, book.standing.quotas, queues)
            if not victims or self._leave_soon(victims):
                continue
            names = {victim.spec.job_id for victim in victims}
            cost = sum(candidate.cost for candidate in candidates if candidate.job.spec.job_id in names)
            if best is None or cost < best[0]:
                best = (cost, way, victims)
        if best is None:
            return False
        _, self.claims[job.spec.job_id], victims = best
        job.expects = tuple(victims)
        for victim in victims:
            self.tell_to_leave(victim, "Preempted", job.spec.job_id)
        job.why, job.detail = "Resources", f"waits for {len(victims)} preempted jobs to leave"
        return True

    def _may_have_victims(self, job: JobRecord, value: int, way: Option) -> bool:
        """A cheap look before the search: anything of lower value here, or anything lent to reclaim."""
        standing = self.book.standing
        queue = standing.queue(job.spec.queue)
        if not queue.nominal:
            others = (counts for name, counts in standing.held_values.items() if not standing.queue(name).nominal or name == queue.name)
            return any(held > 0 and other < value for counts in others for other, held in counts.items())
        own = standing.held_values.get(queue.name, Counter())
        if queue.within_queue == "LowerPriority" and any(held > 0 and other < value for other, held in own.items()):
            return True
        return queue.reclaim_within_cohort != "Never" and standing.quotas.can_reclaim(queue.name, way.flavor, way.units)

    def _leave_soon(self, victims: list[JobRecord]) -> bool:
        """Waiting is as quick as preempting when they end by themselves within a restart."""
        restart_s = self.book.policy.restart_s
        return max(victim.remaining_s(self.book.now_s, restart_s) for victim in victims) <= restart_s

    def _candidates(self, queue: str, flavor: str) -> list[Candidate]:
        book, standing = self.book, self.book.standing
        cohort = set(standing.quotas.cohort_queues(queue))
        found = []
        for job in book.holding.values():
            if job.grant is None or job.grant.option.flavor != flavor or job.state is not JobState.RUNNING:
                continue
            if job.spec.queue not in cohort and standing.queue(job.spec.queue).nominal:
                continue
            found.append(self._candidate(job, job.grant))
        return found

    def _candidate(self, job: JobRecord, grant: Grant) -> Candidate:
        """What it would cost to let this job go: the work that no checkpoint keeps, and its restart."""
        book, option = self.book, grant.option
        done = job.done_at(book.now_s, book.policy.restart_s)
        lost = done - (done if job.spec.can_resume else job.checkpointed)
        lost_s = lost / job.rate if job.rate else book.now_s - job.started_s
        cost = (lost_s + book.policy.restart_s) * book.standing.weight_usd_per_s(option)
        value = (job.cls or book.standing.lowest).value
        demand: Mapping[str, float] = book.demand(job, option)
        return Candidate(job, value, job.spec.queue, option.flavor, option.units, grant.nodes, demand, cost)
