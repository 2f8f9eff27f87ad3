"""Quotas in Kueue's sense: what a queue may hold of a flavor by itself, borrow from its cohort, and must lend.

A limit is per selector (a flavor, family, kind or tier): all units that the queue holds of flavors which answer to it count.
Invariants: a cohort never holds more than the sum of its nominal quotas; a queue never more than nominal + borrowing
limit; what a queue keeps back by its lending limit is never borrowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabric.policy import QueuePolicy
from fabric.selectors import answers
from fabric.types import Flavor

EPSILON = 1e-6


@dataclass(slots=True)
class Line:
    """One selector of one queue, in units. `kept` is what it does not lend: nominal beyond its lending limit."""

    selector: str
    nominal: float
    most: float
    kept: float
    held: float = 0.0


@dataclass(slots=True)
class Pool:
    """One selector of a cohort. `occupied`: the sum over queues of the larger of what it holds and what it keeps back."""

    nominal: float = 0.0
    occupied: float = 0.0

    @property
    def free(self) -> float:
        return self.nominal - self.occupied


@dataclass(slots=True)
class Cohort:
    """Queues that lend to each other. `has_kept`: some do not lend all they have."""

    name: str
    has_kept: bool = False
    pools: dict[str, Pool] = field(default_factory=dict)
    queues: dict[str, dict[str, Line]] = field(default_factory=dict)


class Quotas:
    """All queues' accounts. Queues without a nominal quota are not limited, and count for nobody."""

    def __init__(self, queues: tuple[QueuePolicy, ...], catalogue: Mapping[str, Flavor]) -> None:
        self.cohorts: dict[str, Cohort] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._catalogue = catalogue
        self._pairs: dict[tuple[str, str], tuple[tuple[Line, Pool], ...]] = {}
        groups: dict[str, list[QueuePolicy]] = {}
        for queue in queues:
            groups.setdefault(queue.cohort or f"\0{queue.name}", []).append(queue)
        for name, members in groups.items():
            cohort = _cohort_of(name, members)
            for queue in members:
                self._names[queue.name] = tuple(member.name for member in members)
                if queue.nominal:
                    self.cohorts[queue.name] = cohort

    def shortage(self, queue: str, flavor: str, units: float) -> str | None:
        """None where the queue may hold so many more units of the flavor; else what is exhausted."""
        for line, pool in self._of(queue, flavor):
            held = line.held + units
            if held > line.most + EPSILON:
                beyond = f" + borrowingLimit {line.most - line.nominal:g}" if line.most > line.nominal else ""
                return f"nominalQuota {line.selector} {line.nominal:g}{beyond}"
            grows = max(held, line.kept) - max(line.held, line.kept)
            if pool.occupied + grows > pool.nominal + EPSILON:
                return f"cohort {self.cohort_of(queue).lstrip(chr(0))}: {line.selector} {pool.nominal:g}"
        return None

    def free(self, queue: str, flavor: str) -> float:
        """So many units more the queue may hold at the most."""
        return min(
            (min(line.most - line.held, pool.free + max(0.0, line.kept - line.held)) for line, pool in self._of(queue, flavor)),
            default=math.inf,
        )

    def pool_free(self, queue: str, flavor: str) -> float:
        """No queue of this one's cohort may hold more of the flavor than so many units beyond what it holds."""
        cohort = self.cohorts.get(queue)
        if cohort is None or cohort.has_kept:
            return math.inf
        return min((pool.free for _, pool in self._of(queue, flavor)), default=math.inf)

    def is_own_limit(self, queue: str, flavor: str, units: float) -> bool:
        """Whether the queue's own limit keeps it from so many units more, whatever its cohort has."""
        return any(line.held + units > line.most + EPSILON for line, _ in self._of(queue, flavor))

    def can_never(self, queue: str, flavor: str, units: float) -> bool:
        """Whether the queue could not hold so many units even if nobody held any."""
        return any(units > min(line.most, pool.nominal) + EPSILON for line, pool in self._of(queue, flavor))

    def spare(self, queue: str, flavor: str, units: float, *, is_own: bool) -> dict[str, float]:
        """Selector -> what is left beside so many units more: of the queue's own limit, or of its cohort's."""
        return {line.selector: (line.most - line.held if is_own else pool.free) - units for line, pool in self._of(queue, flavor)}

    def selectors(self, queue: str, flavor: str) -> tuple[str, ...]:
        """The selectors of the queue's quota that count this flavor."""
        return tuple(line.selector for line, _ in self._of(queue, flavor))

    def borrows(self, queue: str, flavor: str, units: float = 0.0) -> bool:
        """Whether holding so many more units would take the queue beyond its nominal quota of the flavor."""
        return any(line.held + units > line.nominal + EPSILON for line, _ in self._of(queue, flavor))

    def has_surplus(self, queue: str, flavor: str, units: float) -> bool:
        """Whether so many units of the flavor are all borrowed: without them the queue still has what is its own."""
        return all(line.held - units >= line.nominal - EPSILON for line, _ in self._of(queue, flavor))

    def can_reclaim(self, queue: str, flavor: str, units: float) -> bool:
        """Whether the queue would stay within its nominal quota while others of its cohort are beyond theirs."""
        if self.borrows(queue, flavor, units):
            return False
        selectors = [line.selector for line, _ in self._of(queue, flavor)]
        others = (lines for name, lines in self.cohorts[queue].queues.items() if name != queue) if selectors else ()
        return any(lines[s].held > lines[s].nominal + EPSILON for lines in others for s in selectors)

    def change(self, queue: str, flavor: str, units: float) -> None:
        """The queue holds so many units more (negative: less)."""
        for line, pool in self._of(queue, flavor):
            before = line.held if line.held > line.kept else line.kept
            line.held += units
            pool.occupied += (line.held if line.held > line.kept else line.kept) - before

    def cohort_queues(self, queue: str) -> tuple[str, ...]:
        """The queues that lend to each other with this one, itself included."""
        return self._names.get(queue, (queue,))

    def cohort_of(self, queue: str) -> str:
        """The name of its cohort; empty: it has no quota."""
        cohort = self.cohorts.get(queue)
        return cohort.name if cohort is not None else ""

    def _of(self, queue: str, flavor: str) -> tuple[tuple[Line, Pool], ...]:
        """The limits of a queue that count this flavor."""
        found = self._pairs.get((queue, flavor))
        if found is None:
            cohort, known = self.cohorts.get(queue), self._catalogue[flavor]
            lines = cohort.queues[queue].values() if cohort is not None else ()
            found = tuple((line, cohort.pools[line.selector]) for line in lines if cohort and answers(known, line.selector))
            self._pairs[queue, flavor] = found
        return found


def _cohort_of(name: str, members: list[QueuePolicy]) -> Cohort:
    cohort = Cohort(name)
    for selector in sorted({selector for member in members for selector in member.nominal}):
        pool = cohort.pools[selector] = Pool()
        for member in members:
            if member.nominal:
                line = cohort.queues.setdefault(member.name, {})[selector] = _line_of(member, selector)
                pool.nominal += line.nominal
                pool.occupied += line.kept
                cohort.has_kept |= line.kept > 0
    return cohort


def _line_of(queue: QueuePolicy, selector: str) -> Line:
    nominal = queue.nominal.get(selector, 0.0)
    most = nominal if not queue.cohort else math.inf
    if queue.cohort and queue.borrowing_limit is not None:
        most = nominal + queue.borrowing_limit.get(selector, math.inf)
    lent = nominal if queue.lending_limit is None else queue.lending_limit.get(selector, nominal)
    return Line(selector, nominal, most, max(0.0, nominal - lent))
