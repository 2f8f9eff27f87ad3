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
class Account:
    """One queue's units, per selector of any quota in its cohort."""

    policy: QueuePolicy
    held: dict[str, float] = field(default_factory=dict)

    def nominal(self, selector: str) -> float:
        return self.policy.nominal.get(selector, 0.0)

    def kept_back(self, selector: str) -> float:
        """What it does not lend: nominal beyond its lending limit."""
        limit = self.policy.lending_limit
        lent = self.nominal(selector) if limit is None else limit.get(selector, self.nominal(selector))
        return max(0.0, self.nominal(selector) - lent)


class Cohort:
    """Queues that lend to each other."""

    def __init__(self, accounts: list[Account]) -> None:
        self.accounts = accounts
        self.selectors = sorted({selector for account in accounts for selector in account.policy.nominal})
        self.nominal = {s: sum(a.nominal(s) for a in accounts) for s in self.selectors}
        self.occupied = dict.fromkeys(self.selectors, 0.0)
        """Per selector: the sum over queues of the larger of what it holds and what it keeps back."""
        for account in accounts:
            for selector in self.selectors:
                account.held.setdefault(selector, 0.0)
                self.occupied[selector] += account.kept_back(selector)

    def change(self, account: Account, selector: str, units: float) -> None:
        kept = account.kept_back(selector)
        before = max(account.held[selector], kept)
        account.held[selector] += units
        self.occupied[selector] += max(account.held[selector], kept) - before


class Quotas:
    """All queues' accounts. Queues without a nominal quota are not limited."""

    def __init__(self, queues: tuple[QueuePolicy, ...], catalogue: Mapping[str, Flavor]) -> None:
        self.accounts = {queue.name: Account(queue) for queue in queues}
        groups: dict[str, list[Account]] = {}
        for queue in queues:
            groups.setdefault(queue.cohort or f"\0{queue.name}", []).append(self.accounts[queue.name])
        self.cohorts: dict[str, Cohort] = {}
        for accounts in groups.values():
            cohort = Cohort(accounts)
            self.cohorts.update({account.policy.name: cohort for account in accounts})
        self._catalogue = catalogue
        self._answers: dict[tuple[str, str], tuple[str, ...]] = {}

    def selectors(self, queue: str, flavor: str) -> tuple[str, ...]:
        """The selectors of the queue's cohort that count this flavor."""
        found = self._answers.get((queue, flavor))
        if found is None:
            known = self._catalogue[flavor]
            found = tuple(s for s in self.cohorts[queue].selectors if answers(known, s))
            self._answers[(queue, flavor)] = found
        return found

    def shortage(self, queue: str, flavor: str, units: float) -> str | None:
        """None where the queue may hold so many more units of the flavor; else what is exhausted."""
        cohort, account = self.cohorts.get(queue), self.accounts.get(queue)
        if cohort is None or account is None or not account.policy.nominal:
            return None
        for selector in self.selectors(queue, flavor):
            held, nominal = account.held[selector] + units, account.nominal(selector)
            limit = account.policy.borrowing_limit
            if not account.policy.cohort and held > nominal + EPSILON:
                return f"nominalQuota {selector} {nominal:g}"
            if limit is not None and held > nominal + limit.get(selector, math.inf) + EPSILON:
                return f"nominalQuota {selector} {nominal:g} + borrowingLimit {limit.get(selector, math.inf):g}"
            kept = account.kept_back(selector)
            grows = max(held, kept) - max(account.held[selector], kept)
            if cohort.occupied[selector] + grows > cohort.nominal[selector] + EPSILON:
                return f"cohort {account.policy.cohort or queue}: {selector} {cohort.nominal[selector]:g}"
        return None

    def borrows(self, queue: str, flavor: str, units: float = 0.0) -> bool:
        """Whether holding so many more units would take the queue beyond its nominal quota of the flavor."""
        account = self.accounts.get(queue)
        if account is None or not account.policy.nominal:
            return False
        return any(account.held[s] + units > account.nominal(s) + EPSILON for s in self.selectors(queue, flavor))

    def can_reclaim(self, queue: str, flavor: str, units: float) -> bool:
        """Whether the queue would stay within its nominal quota while others of its cohort are beyond theirs."""
        if self.borrows(queue, flavor, units):
            return False
        selectors = self.selectors(queue, flavor)
        others = (account for account in self.cohorts[queue].accounts if account.policy.name != queue)
        return any(account.held[s] > account.nominal(s) + EPSILON for account in others for s in selectors)

    def change(self, queue: str, flavor: str, units: float) -> None:
        """The queue holds so many units more (negative: less)."""
        account, cohort = self.accounts.get(queue), self.cohorts.get(queue)
        if account is not None and cohort is not None:
            for selector in self.selectors(queue, flavor):
                cohort.change(account, selector, units)

    def cohort_queues(self, queue: str) -> tuple[str, ...]:
        """The queues that lend to each other with this one, itself included."""
        cohort = self.cohorts.get(queue)
        return tuple(account.policy.name for account in cohort.accounts) if cohort else (queue,)
