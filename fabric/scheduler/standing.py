"""Who stands where: classes, queues, quotas and used shares, under the policy in force.

Invariants: a job's class is settled when it is queued; what it holds is charged to its queue, its class and its user for as
long as it holds it. Usage is price-weighted; where a price is unknown, a unit-hour counts as one dollar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabric.job import JobId, Option
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.quota import Quotas
from fabric.scheduler.record import JobRecord
from fabric.scheduler.share import Spending, Usage
from fabric.scheduler.ways import Ways
from fabric.types import Flavor

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Used:
    """Faded dollars by flavor of a `queue` or of a `class` in it, or what a queue has `spent` of its budget (under ""), as of a time."""

    kind: str
    queue: str
    cls: str
    as_of_s: float
    usd: Mapping[str, float]


class Standing:
    """Under one policy; a new policy gets a new standing, to which what is held is charged anew."""

    def __init__(self, policy: Policy, catalogue: Mapping[str, Flavor], ways: Ways) -> None:
        self.policy = policy
        self.ways = ways
        self.now_s = 0.0
        self.classes = {cls.name: cls for cls in policy.classes}
        self.queues = {queue.name: queue for queue in policy.queues}
        self.lowest = min(policy.classes, key=lambda cls: (cls.value, cls.weight))
        self.quotas = Quotas(policy.queues, catalogue)
        self.prices = {name: flavor.usd_per_h / flavor.units for name, flavor in catalogue.items() if flavor.usd_per_h is not None}
        self.user_units: Counter[tuple[str, str]] = Counter()
        self.user_jobs: Counter[tuple[str, str]] = Counter()
        self.held_values: dict[str, Counter[int]] = {}
        self.unlimited_values: Counter[int] = Counter()
        """How many jobs of each class value hold something: by queue, and of all queues without quota."""
        self.spending = {queue.name: Spending(queue.budget_period_s) for queue in policy.queues if queue.budget_usd is not None}
        self._queue_usage: dict[str, Usage] = {}
        self._class_usage: dict[tuple[str, str], Usage] = {}

    def inherit(self, other: Standing) -> None:
        """Keep what was used and spent under the last policy."""
        for name, spending in self.spending.items():
            if (before := other.spending.get(name)) is not None:
                spending.usd, spending.as_of_s = before.spent(other.now_s), other.now_s
        self._queue_usage = {name: usage.under(self.policy.usage_half_life_s) for name, usage in other._queue_usage.items()}
        self._class_usage = {name: usage.under(self.policy.usage_half_life_s) for name, usage in other._class_usage.items()}

    def kept(self, now_s: float) -> list[Used]:
        """What was used and spent until now, for a snapshot."""
        rows = [Used("queue", name, "", now_s, usage.settled(now_s)) for name, usage in self._queue_usage.items()]
        rows += [Used("class", queue, cls, now_s, usage.settled(now_s)) for (queue, cls), usage in self._class_usage.items()]
        return rows + [Used("spent", name, "", now_s, {"": spending.spent(now_s)}) for name, spending in self.spending.items()]

    def bring_back(self, rows: Iterable[Used]) -> None:
        """The counterpart of `kept`; what is held now stays charged."""
        for row in rows:
            if row.kind == "spent":
                if (spending := self.spending.get(row.queue)) is not None:
                    spending.usd, spending.as_of_s = row.usd.get("", 0.0), row.as_of_s
                continue
            usage = self._usage_of_queue(row.queue) if row.kind == "queue" else self._usage_of_class(row.queue, row.cls)
            usage.totals, usage.as_of_s = dict(row.usd), row.as_of_s

    def queue(self, name: str) -> QueuePolicy:
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = QueuePolicy(name)
        return found

    def class_of(self, job: JobRecord, now_s: float) -> PriorityClass:
        """The class that counts: the one it names, else the first whose preferred nodes it asks for, else the first
        without preferred nodes, else the last; the lowest once the queue's budget is spent."""
        if self.is_broke(job.spec.queue, now_s):
            return self.lowest
        named = self.classes.get(job.spec.priority)
        if named is not None:
            return named
        if len(self.policy.classes) == 1:
            return self.policy.classes[0]
        flavors = {flavor for shape in job.spec.shapes if shape.accelerators for flavor in self.ways.flavors(shape)}
        for cls in self.policy.classes:
            if cls.selectors and any(self.ways.prefers(cls, flavor) for flavor in flavors):
                return cls
        return next((cls for cls in self.policy.classes if not cls.selectors), self.policy.classes[-1])

    def hold(self, job: JobRecord, option: Option, sign: int, now_s: float) -> None:
        """Charge (1) or return (-1) what a job holds."""
        spec, cls = job.spec, job.cls or self.lowest
        self.now_s = now_s
        self.count(job, option, sign)
        usd_per_s = sign * self.weight_usd_per_s(option)
        if (spending := self.spending.get(spec.queue)) is not None:
            spending.change(sign * self.usd_per_s(option), now_s)
        self._usage_of_queue(spec.queue).change(option.flavor, usd_per_s, now_s)
        self._usage_of_class(spec.queue, cls.name).change(option.flavor, usd_per_s, now_s)
        self.held_values.setdefault(spec.queue, Counter())[cls.value] += sign
        if not self.queue(spec.queue).nominal:
            self.unlimited_values[cls.value] += sign

    def count(self, job: JobRecord, option: Option, sign: int) -> None:
        """What quotas and limits see of it, and nothing else."""
        spec = job.spec
        self.quotas.change(spec.queue, option.flavor, sign * option.units)
        self.user_units[spec.user, spec.queue] += sign * option.units  # type: ignore[assignment]
        self.user_jobs[spec.user, spec.queue] += sign

    def user_limit(self, job: JobRecord, units: float) -> str | None:
        """Why the job's user may not hold so much more in its queue; None where that is allowed."""
        spec, queue = job.spec, self.queue(job.spec.queue)
        who = (spec.user, spec.queue)
        if queue.max_units_per_user is not None and self.user_units[who] + units > queue.max_units_per_user + 1e-9:
            return f"{spec.user} may hold {queue.max_units_per_user:g} units in {queue.name}"
        if queue.max_jobs_per_user is not None and self.user_jobs[who] >= queue.max_jobs_per_user:
            return f"{spec.user} may run {queue.max_jobs_per_user} jobs in {queue.name}"
        return None

    def queue_share(self, queue: str, now_s: float, flavors: Iterable[str] | None = None) -> float:
        """What the queue has used of these flavors, by its weight: the lower goes first."""
        return self._usage_of_queue(queue).total(now_s, flavors) / self.queue(queue).weight

    def class_share(self, queue: str, cls: str, now_s: float, flavors: Iterable[str] | None = None) -> float:
        """The same of a class in its queue."""
        return self._usage_of_class(queue, cls).total(now_s, flavors) / self.classes.get(cls, self.lowest).weight

    def shares(self, queue: str, cls: str, now_s: float) -> tuple[float, float]:
        """Both, over all flavors."""
        return self.queue_share(queue, now_s), self.class_share(queue, cls, now_s)

    def lead(self, queue: str, cls: str, flavors: Collection[str], rivals: Iterable[tuple[str, Collection[str]]], now_s: float) -> float:
        """By how much the class is ahead of the rival that it has most passed by, over the flavors that both can use."""
        leads = []
        for rival, others in rivals:
            if common := [flavor for flavor in flavors if flavor in others]:
                leads.append(self.class_share(queue, cls, now_s, common) - self.class_share(queue, rival, now_s, common))
        return max(leads, default=0.0)

    def catch_up(self, queue: str, cls: str, flavors: Collection[str], rivals: Sequence[tuple[str, Collection[str]]], now_s: float) -> None:
        """A class that begins to wait starts level with the rival that had least: only what is used while both wait counts.

        Source: start-time fair queueing (Goyal, Vin, Cheng, 1996).
        """
        weight = self.classes.get(cls, self.lowest).weight
        for flavor in flavors:
            pasts = [
                self._usage_of_class(queue, rival).past(flavor, now_s) / self.classes.get(rival, self.lowest).weight
                for rival, others in rivals
                if flavor in others
            ]
            if pasts:
                self._usage_of_class(queue, cls).lift(flavor, min(pasts) * weight, now_s)

    def spent_usd(self, queue: str, now_s: float) -> float:
        """What a queue with a budget has spent in the present period."""
        spending = self.spending.get(queue)
        return spending.spent(now_s) if spending is not None else 0.0

    def is_broke(self, queue: str, now_s: float) -> bool:
        """Whether its budget is spent: its jobs count as the lowest class."""
        budget_usd = self.queue(queue).budget_usd
        return budget_usd is not None and queue in self.spending and self.spending[queue].spent(now_s) > budget_usd

    def usd_per_s(self, option: Option) -> float:
        """What the option costs; 0 where the price is unknown."""
        return option.units * self.prices.get(option.flavor, 0.0) / HOUR_S

    def weight_usd_per_s(self, option: Option) -> float:
        """The same for weighing: never 0."""
        return self.usd_per_s(option) or option.units / HOUR_S

    def job_weights(self, jobs: Iterable[JobRecord]) -> dict[JobId, float]:
        return {job.spec.job_id: (job.cls or self.lowest).weight * self.queue(job.spec.queue).weight for job in jobs}

    def _usage_of_queue(self, queue: str) -> Usage:
        found = self._queue_usage.get(queue)
        if found is None:
            found = self._queue_usage[queue] = Usage(self.policy.usage_half_life_s)
        return found

    def _usage_of_class(self, queue: str, cls: str) -> Usage:
        found = self._class_usage.get((queue, cls))
        if found is None:
            found = self._class_usage[queue, cls] = Usage(self.policy.usage_half_life_s)
        return found
