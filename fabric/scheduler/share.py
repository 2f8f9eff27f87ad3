"""Fair share: how much of the fabric each owner has used, fading with a half-life.

Usage is in dollars: price-weighted resource-seconds, per flavor. Invariant: usage is exact at any time without being
touched between two changes of what is held. Source: Slurm's and Kueue's decayed usage.
"""

from __future__ import annotations

import math

COMMITTED_S = 900.0
"""A running job counts as if it ran this much longer, so that a burst of starts is charged before it has used anything."""


class Usage:
    """One owner's usage per flavor. `rate` is in dollars per second."""

    __slots__ = ("as_of_s", "half_life_s", "rates", "totals")

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.as_of_s = 0.0
        self.totals: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def change(self, flavor: str, usd_per_s: float, now_s: float) -> None:
        """The owner holds more (or, negative, less) of a flavor from now on."""
        self._settle(now_s)
        self.rates[flavor] = max(0.0, self.rates.get(flavor, 0.0) + usd_per_s)
        self.totals.setdefault(flavor, 0.0)

    def total(self, now_s: float, flavors: frozenset[str] | None = None) -> float:
        """Faded dollars until now, over these flavors (None: all), with what running jobs are about to use."""
        self._settle(now_s)
        committed = min(COMMITTED_S, self.half_life_s)
        return sum(
            total + self.rates.get(flavor, 0.0) * committed for flavor, total in self.totals.items() if flavors is None or flavor in flavors
        )

    def _settle(self, now_s: float) -> None:
        passed = now_s - self.as_of_s
        if passed <= 0:
            return
        self.as_of_s = now_s
        decay = 0.5 ** (passed / self.half_life_s)
        grown = (1.0 - decay) * self.half_life_s / math.log(2.0)
        for flavor, total in self.totals.items():
            self.totals[flavor] = total * decay + self.rates.get(flavor, 0.0) * grown

    def under(self, half_life_s: float) -> Usage:
        """The same past under another half-life; what runs is charged to it anew."""
        usage = Usage(half_life_s)
        usage.as_of_s, usage.totals = self.as_of_s, dict(self.totals)
        return usage
