"""Fair share: how much of the fabric each owner has used, fading with a half-life.

Usage is in dollars: price-weighted resource-seconds, per flavor. Invariant: usage is exact at any time without being
touched between two changes of what is held. Source: Slurm's and Kueue's decayed usage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

COMMITTED_S = 900.0
"""A running job counts as if it ran this much longer, so that a burst of starts is charged before it has used anything."""


class Usage:
    """One owner's usage per flavor. `rates`: dollars per second of what is held now."""

    __slots__ = ("as_of_s", "committed_s", "half_life_s", "rates", "totals")

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.committed_s = min(COMMITTED_S, half_life_s)
        self.as_of_s = 0.0
        self.totals: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def change(self, flavor: str, usd_per_s: float, now_s: float) -> None:
        """The owner holds more (or, negative, less) of a flavor from now on."""
        self._settle(now_s)
        self.rates[flavor] = max(0.0, self.rates.get(flavor, 0.0) + usd_per_s)
        self.totals.setdefault(flavor, 0.0)

    def total(self, now_s: float, flavors: Iterable[str] | None = None) -> float:
        """Faded dollars until now, over these flavors (None: all), with what running jobs are about to use."""
        self._settle(now_s)
        return sum(self._of(flavor) for flavor in (self.totals if flavors is None else flavors))

    def past(self, flavor: str, now_s: float) -> float:
        """Faded dollars until now, without what running jobs are about to use."""
        self._settle(now_s)
        return self.totals.get(flavor, 0.0)

    def settled(self, now_s: float) -> dict[str, float]:
        """The same of every flavor."""
        self._settle(now_s)
        return dict(self.totals)

    def lift(self, flavor: str, usd: float, now_s: float) -> None:
        """Count at least so much of a flavor's past."""
        self._settle(now_s)
        self.totals[flavor] = max(self.totals.get(flavor, 0.0), usd)

    def under(self, half_life_s: float) -> Usage:
        """The same past under another half-life; what runs is charged to it anew."""
        usage = Usage(half_life_s)
        usage.as_of_s, usage.totals = self.as_of_s, dict(self.totals)
        return usage

    def _of(self, flavor: str) -> float:
        return self.totals.get(flavor, 0.0) + self.rates.get(flavor, 0.0) * self.committed_s

    def _settle(self, now_s: float) -> None:
        passed = now_s - self.as_of_s
        if passed <= 0:
            return
        self.as_of_s = now_s
        decay = 0.5 ** (passed / self.half_life_s)
        grown = (1.0 - decay) * self.half_life_s / math.log(2.0)
        for flavor, total in self.totals.items():
            self.totals[flavor] = total * decay + self.rates.get(flavor, 0.0) * grown


class Spending:
    """What a queue has spent of its budget in the present period. Periods follow each other from time 0 on."""

    __slots__ = ("as_of_s", "period_s", "rate", "usd")

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.as_of_s = self.usd = self.rate = 0.0

    def change(self, usd_per_s: float, now_s: float) -> None:
        self.usd = self.spent(now_s)
        self.as_of_s = max(self.as_of_s, now_s)
        self.rate = max(0.0, self.rate + usd_per_s)

    def spent(self, now_s: float) -> float:
        """Dollars since the period began."""
        began_s = self.period_end_s(now_s) - self.period_s
        kept = self.usd if self.as_of_s >= began_s else 0.0
        return kept + self.rate * max(0.0, now_s - max(began_s, self.as_of_s))

    def period_end_s(self, now_s: float) -> float:
        return (math.floor(now_s / self.period_s) + 1.0) * self.period_s

    def changes_s(self, budget_usd: float, now_s: float) -> float:
        """When the budget will be spent at the present rate, or a new period begins."""
        left = budget_usd - self.spent(now_s)
        ends_s = self.period_end_s(now_s)
        return min(ends_s, now_s + left / self.rate + 1e-3) if left >= 0 and self.rate > 0 else ends_s
