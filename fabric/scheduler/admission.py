"""The cycle: who starts now, in order; who is preempted; for whom room is kept.

Snapshot -> order -> fit -> commit, as in Kueue. Order: what the plan or a preemption has made room for, then class value, who
stays within its quota, queues by weighted share, classes by weight, who has waited too long, the optimiser's rank, age.
Invariants: a blocked group is looked at again only when something that it waits for was freed; a job that starts never
delays one that comes before it (see `holds`).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter

from fabric.job import Grant, JobId, Option
from fabric.job_events import JobDispatched, JobPreempted, Launch, Preempt
from fabric.scheduler.backlog import Group, Lane, Leaf
from fabric.scheduler.book import Book
from fabric.scheduler.holds import Holds
from fabric.scheduler.preemption import LEAVE_S, Preemption
from fabric.scheduler.record import JobRecord
from fabric.scheduler.refusal import Refusal
from fabric.types import asleep_type

EPSILON = 1e-6
PATIENCE = 10.0
MUCH_FASTER = 2.0
"""An urgent job makes others leave a flavor, though another is free, where it ends in so small a part of the time."""
LEAST_WAIT_S = 600.0
"""A job that has waited this many times the mean wait of its class and its own run time (and at least so long) goes first."""
Offer = tuple[float, bool, float, float, float, int, Lane, JobRecord]


class Admission:
    """`claims`: room promised to a job that has not started yet. `idle`: units that the last plan left free on purpose, which
    jobs that it knew do not touch. `is_ruled`: the plan alone decides who goes first."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.claims: dict[JobId, Option] = {}
        self.idle: dict[str, float] = {}
        self.is_ruled = False
        self.holds = Holds(book)
        self.preemption = Preemption(book)
        self.refusal = Refusal()
        self.look_again_s = math.inf
        self._claimed: Counter[str] = Counter()
        self._deferred: list[Group] = []
        self._impatient: list[Group] = []
        self._numbers = itertools.count()

    @property
    def wake_s(self) -> float:
        """When time alone may let somebody start."""
        return min(self.holds.wake_s, self.look_again_s)

    def run(self, hold_back_from_s: float) -> None:
        """One cycle. Jobs that are predicted to run at least `hold_back_from_s` wait (infinite: none does)."""
        self._time_has_passed(hold_back_from_s)
        self._claimed = Counter()
        for way in self.claims.values():
            self._claimed[way.flavor] += way.units  # type: ignore[assignment]
        has_news = self.book.has_freed
        self._reopen()
        if has_news:
            self._admit_claims(hold_back_from_s)
        self._admit(hold_back_from_s)
        if self.claims and not self.book.num_preempting:
            # Whoever could leave has left: what still does not fit must not keep others out.
            self.book.freed_flavors.update(way.flavor for way in self.claims.values())
            self.claims.clear()
            self._claimed.clear()
        while self.book.has_freed:
            self._reopen()
            self._admit(hold_back_from_s)

    def is_starving(self) -> bool:
        """Whether any job has waited too long: then a plan only advises."""
        return any(self._is_too_old(oldest, leaf) for leaf in self.book.backlog.leaves if (oldest := self.book.backlog.oldest(leaf)))

    def tell_to_leave(self, job: JobRecord, reason: str, for_job: JobId | None) -> None:
        self.book.decide(JobPreempted(job.spec.job_id, job.attempt, reason, for_job))
        self.book.commands.append(Preempt(job.spec.job_id, job.attempt, reason))

    def _time_has_passed(self, hold_back_from_s: float) -> None:
        if hold_back_from_s == math.inf and self._deferred:
            self.book.backlog.open(self._deferred)
            self._deferred = []
        if self.book.now_s >= self.look_again_s:
            self.look_again_s, again, self._impatient = math.inf, self._impatient, []
            self.book.backlog.open(again)
        self.holds.expire()

    def _reopen(self) -> None:
        """Look again at those whom what was freed may do."""
        book, backlog = self.book, self.book.backlog
        for flavor in book.freed_flavors:
            backlog.open_for_room(flavor, book.machines.free_units(flavor))
        for cohort, (queue, flavor) in book.freed_cohorts.items():
            backlog.open_for_quota(cohort, book.standing.quotas.pool_free(queue, flavor))
        for queue in book.freed_queues:
            backlog.open_queue(queue)
        book.freed_flavors, book.freed_cohorts, book.freed_queues = set(), {}, set()

    # ---- in order

    def _admit_claims(self, hold_back_from_s: float) -> None:
        for job_id in tuple(self.claims):
            job = self.book.jobs[job_id]
            if job.group is not None:
                self._try(job, hold_back_from_s)

    def _admit(self, hold_back_from_s: float) -> None:
        offers: list[Offer] = []
        backlog = self.book.backlog
        if backlog.ready:
            self.holds.begin()
        for lane in tuple(backlog.ready):
            self._offer(offers, lane)
        while offers:
            *_, lane, job = heapq.heappop(offers)
            if not self._try(job, hold_back_from_s) and isinstance(job.group, Group):
                self.holds.note_turn(job.group)
                self._block(job.group, self.refusal)
            self._offer(offers, lane)

    def _block(self, group: Group, refusal: Refusal) -> None:
        cohort = self.book.standing.quotas.cohort_of(group.leaf.queue)
        self.book.backlog.block(
            group, refusal.why, refusal.detail, is_for_room=refusal.is_for_room, is_for_quota=refusal.is_for_quota, cohort=cohort
        )
        if refusal.why == "Planning":
            self._deferred.append(group)
        if refusal.is_impatient:
            self._impatient.append(group)
            soon_s = self.book.now_s + max(LEAVE_S, self.book.policy.restart_s)
            self.look_again_s = min(self.look_again_s, soon_s)

    def _offer(self, offers: list[Offer], lane: Lane) -> None:
        """Put the lane's first job where it stands among those of others."""
        best: tuple[tuple[float, float, float], JobRecord] | None = None
        leaves = [leaf for leaf in lane.leaves.values() if leaf.open]
        for leaf in leaves:
            job = self._first(leaf)
            if job is not None:
                place = (self._lead(leaf) if len(leaves) > 1 else 0.0, job.rank, job.spec.submitted_s)
                if best is None or place < best[0]:
                    best = place, job
        if best is None:
            self.book.backlog.ready.pop(lane, None)
            return
        (_, rank, submitted_s), job = best
        standing, way = self.book.standing, job.ways[0] if job.ways else None
        borrows = way is not None and standing.quotas.borrows(lane.queue, way.flavor, way.units)
        share = standing.queue_share(lane.queue, self.book.now_s, self.book.backlog.contested)
        heapq.heappush(offers, (-lane.value, borrows, share, rank, submitted_s, next(self._numbers), lane, job))

    def _lead(self, leaf: Leaf) -> float:
        return self.book.standing.lead(leaf.queue, leaf.cls.name, leaf.flavors, leaf.lane.rivals(leaf), self.book.now_s)

    def _first(self, leaf: Leaf) -> JobRecord | None:
        backlog = self.book.backlog
        oldest = backlog.oldest(leaf)
        if oldest is not None and oldest.group in leaf.open and self._is_too_old(oldest, leaf):
            return oldest
        return backlog.first(leaf)

    def _is_too_old(self, job: JobRecord, leaf: Leaf) -> bool:
        waited_s = self.book.now_s - job.spec.submitted_s
        if waited_s < LEAST_WAIT_S:
            return False
        fastest = max((way.rate for way in job.ways), default=0.0)
        run_s = job.work / fastest if fastest > 0 else 0.0
        return waited_s > PATIENCE * (leaf.mean_wait_s + run_s)

    # ---- one job

    def _try(self, job: JobRecord, hold_back_from_s: float) -> bool:
        """Start the job if it may; otherwise `refusal` says why not."""
        self.refusal, job.why, job.detail = Refusal(), "", ""
        claim = self.claims.get(job.spec.job_id)
        ways = (claim,) if claim is not None else job.ways
        if not ways:
            return self._refuse(job, "BadConstraints", "no node of this fabric can hold it")
        if hold_back_from_s < math.inf and job.estimate is not None and job.work / max(way.rate for way in ways) >= hold_back_from_s:
            return self._refuse(job, "Planning", "a plan is being made")
        ways = self._by_score(job, ways)
        for way, may_wake in self._turns(job, ways):
            if claim is None and (faster := self._much_faster(job, ways, way)) and self._preempt_for(job, faster):
                return False
            if self._start(job, way, has_claim=claim is not None, may_wake=may_wake):
                return True
        if claim is not None or self._is_expecting(job) or self._preempt_for(job, ways):
            return False
        leaf = job.group.leaf if isinstance(job.group, Group) else None
        if not (self.is_ruled and job.is_planned) or (leaf is not None and self._is_too_old(job, leaf)):
            self.holds.keep_for(job, ways, self.refusal)
        return False

    def _refuse(self, job: JobRecord, why: str, detail: str, *, is_for_quota: bool = False) -> bool:
        self.refusal.add(why, detail, is_for_quota=is_for_quota)
        job.why, job.detail = self.refusal.why, self.refusal.detail
        return False

    def _by_score(self, job: JobRecord, ways: tuple[Option, ...]) -> tuple[Option, ...]:
        """A plan's ways are in its order; without one, preferred nodes first, then what ends soonest."""
        if job.is_planned or len(ways) == 1:
            return ways
        cls = job.cls or self.book.standing.lowest
        prefers = self.book.ways.prefers
        return tuple(sorted(ways, key=lambda way: (bool(cls.selectors) and not prefers(cls, way.flavor), -way.rate)))

    def _turns(self, job: JobRecord, ways: tuple[Option, ...]) -> tuple[tuple[Option, bool], ...]:
        """In which order the ways are tried, and whether on nodes that are asleep too: where it ends sooner than on what is there, with
        the time counted in that they take to come. A Ray program runs on nodes that are there: what it needs, its driver asks for."""
        wake_s = {way.flavor: self.book.machines.wake_s(way.flavor) for way in ways}
        if job.spec.form == "ray-program" or not any(wake_s.values()):
            return tuple((way, False) for way in ways)
        turns = [(way, may_wake) for way in ways for may_wake in ((False, True) if wake_s[way.flavor] else (False,))]
        if job.is_planned or job.estimate is None:
            return tuple(sorted(turns, key=lambda turn: not job.is_planned and turn[1]))
        cls, left = job.cls or self.book.standing.lowest, max(job.work - job.done, 0.0)

        def key(turn: tuple[Option, bool]) -> tuple[bool, float]:
            way, may_wake = turn
            run_s = left / way.rate if way.rate > 0 else math.inf
            return bool(cls.selectors) and not self.book.ways.prefers(cls, way.flavor), run_s + (wake_s[way.flavor] if may_wake else 0.0)

        return tuple(sorted(turns, key=key))

    def _much_faster(self, job: JobRecord, ways: tuple[Option, ...], way: Option) -> tuple[Option, ...]:
        """The ways that are worth others' leaving before an urgent job starts this way: it would end so much sooner there, with
        the time counted in that they take to leave."""
        lowest = self.book.standing.lowest
        if job.estimate is None or way.rate <= 0 or (job.cls or lowest).value <= lowest.value:
            return ()
        left = max(job.work - job.done, 0.0)
        most_s = left / way.rate / MUCH_FASTER - max(LEAVE_S, self.book.policy.restart_s)
        return tuple(other for other in ways if other.rate > 0 and left / other.rate < most_s)

    def _start(self, job: JobRecord, way: Option, *, has_claim: bool, may_wake: bool = True) -> bool:
        book, spec = self.book, job.spec
        if (barred := self.barred(job, way)) is not None:
            return self._refuse(job, *barred)
        end_s = math.inf if has_claim else self._latest_end_s(job, way)
        if not has_claim and (kept := self.holds.quota_kept(job, way, end_s)) is not None:
            return self._refuse(job, "Priority", kept, is_for_quota=True)
        free, kept_units = book.machines.free_units(way.flavor), 0.0 if has_claim else self._kept_units(job, way.flavor)
        if kept_units and way.units > free - kept_units + EPSILON:
            why = "Priority" if free >= way.units else "Resources"
            return self._refuse(job, why, f"{way.flavor}: {kept_units:g} of {free:g} free units are kept")
        demand, shape = book.demand(job, way), spec.shapes[way.shape]
        allowed = None if has_claim else self.holds.allowed(job, way, demand, end_s)
        nodes = book.machines.place(way.flavor, demand, way.num_bundles, spread=shape.spread, allowed=allowed, may_wake=may_wake)
        if nodes is None:
            is_kept = allowed is not None and free >= way.units
            return self._refuse(job, "Priority" if is_kept else "Resources", f"{way.flavor}: {free:g} free, {way.units:g} wanted")
        is_backfill = not has_claim and self.holds.use(job, way, nodes, demand, end_s)
        if (claim := self.claims.pop(spec.job_id, None)) is not None:
            self._claimed[claim.flavor] -= claim.units  # type: ignore[assignment]
        grant = Grant(way, nodes, job.memory_factor)
        woken = sorted({kind for node in nodes if (kind := asleep_type(node)) is not None})
        detail = f"starts {', '.join(woken)}" if woken else ""
        book.decide(JobDispatched(spec.job_id, job.attempt + 1, grant, "Backfill" if is_backfill else "Fit", detail))
        book.commands.append(Launch(spec.job_id, job.attempt, grant))
        return True

    def barred(self, job: JobRecord, way: Option) -> tuple[str, str] | None:
        """Why quota, the user's limit or the budget keep the job from this way, whatever room there is: code and detail."""
        if (shortage := self.book.standing.quotas.shortage(job.spec.queue, way.flavor, way.units)) is not None:
            return "QuotaExhausted", shortage
        return self._own_bar(job, way)

    def _own_bar(self, job: JobRecord, way: Option) -> tuple[str, str] | None:
        """The part of `barred` that nobody's leaving lifts: the user's limit and the budget."""
        spec = job.spec
        if (limit := self.book.standing.user_limit(job, way.units)) is not None:
            return "UserLimit", limit
        usd = self.book.cost_usd(job, way)
        if spec.budget_usd is not None and job.spent_usd + usd > spec.budget_usd:
            return "BudgetExceeded", f"{usd:.2f} USD on {way.flavor}"
        return None

    def _kept_units(self, job: JobRecord, flavor: str) -> float:
        """Free units that are not for this job: promised to others, or left idle by the plan that knew of it."""
        return self._claimed[flavor] + (self.idle.get(flavor, 0.0) if job.is_planned else 0.0)

    def _latest_end_s(self, job: JobRecord, way: Option) -> float:
        """When it will have ended, one standard deviation late; its time limit where that is sooner."""
        limit = job.spec.timeout_s if job.spec.timeout_s is not None else math.inf
        if job.estimate is None or way.rate <= 0:
            return self.book.now_s + limit
        run_s = (job.work - job.done) / way.rate * math.exp(job.estimate.log_sd) + self.book.policy.restart_s
        return self.book.now_s + min(limit, run_s)

    # ---- room that is not there yet

    def _is_expecting(self, job: JobRecord) -> bool:
        """Whether jobs that were told to leave for this one have not left yet."""
        job.expects = tuple(victim for victim in job.expects if victim.is_leaving)
        if job.expects:
            self.refusal.replace("Resources", f"waits for {len(job.expects)} preempted jobs to leave")
        return bool(job.expects)

    def _preempt_for(self, job: JobRecord, ways: tuple[Option, ...]) -> bool:
        """Tell the cheapest allowed victims to leave; the room is then claimed for the job."""
        affordable = tuple(way for way in ways if self._own_bar(job, way) is None)
        found = self.preemption.find(job, affordable, self.refusal, self.claims)
        if found is None:
            return False
        way, victims = found
        self.claims[job.spec.job_id] = way
        self._claimed[way.flavor] += way.units  # type: ignore[assignment]
        job.expects = tuple(victims)
        for victim in victims:
            self.tell_to_leave(victim, "Preempted", job.spec.job_id)
        self.refusal.replace("Resources", f"waits for {len(victims)} preempted jobs to leave")
        return True
