"""Watches a guard on a mean: drift of the answers, or a metric that users post back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_apps.directory.observed import Observed, Sum
from serve_apps.rollout.block import SATISFIED_ALPHA, Block, GuardFigures, Verdict, figures_of
from serve_apps.rollout.guards import Guard
from serve_apps.rollout.means import TUNED_COUNT, log_evidence, mean_of, sd_of

ALIKE = 1e-200
"""A variance below it: all values were the same so far, which says nothing of the next one."""


@dataclass(slots=True)
class MeanWatch:
    """A guard on a mean: drift, or a metric that users post back. Sides are compared step by step, as the mix of hours differs between
    them otherwise; the steps' evidence adds up. `closed`: score and information of the steps before."""

    guard: Guard
    step: int = -1
    closed: list[float] = field(default_factory=lambda: [0.0, 0.0])
    champion: Sum = field(default_factory=Sum)
    challenger: Sum = field(default_factory=Sum)
    spread: float = 0.0
    best: list[float] = field(default_factory=lambda: [0.0, 0.0])
    num_before: int = 0

    @property
    def num_samples(self) -> int:
        return self.num_before + self.challenger.count

    def begin(self, champion: Observed) -> None:
        """What was before the rollout is no part of it."""

    def add(self, block: Block) -> None:
        if block.step != self.step:
            self.num_before += self.challenger.count
            self.closed = list(self._evidence())
            self.champion, self.challenger, self.step = Sum(), Sum(), block.step
        if self.guard.kind == "drift":
            self.challenger += block.champion.drift
        elif block.step >= 0:
            self.champion += block.champion.metrics.get(self.guard.name, Sum())
            self.challenger += block.challenger.metrics.get(self.guard.name, Sum())
        score, information = self._evidence()
        if self.spread and information:
            self.best = [
                max(old, log_evidence(side * score, information, self.spread)) for old, side in zip(self.best, (1, -1), strict=True)
            ]

    def _evidence(self) -> tuple[float, float]:
        """Score and information of "worse than the bound by", all steps."""
        score, information = self.closed
        here = self._worse_by()
        if here is None:
            return score, information
        value, variance, count = here
        if not self.spread:
            self.spread = variance * count / TUNED_COUNT
        return score + value / variance, information + 1.0 / variance

    def _worse_by(self) -> tuple[float, float, int] | None:
        least_sd = 0.5 * abs(self.guard.shift)
        # Of a rare event (one sale in 300) mean and spread are small together: the challenger's is taken to be the champion's at least.
        mine = mean_of(self.challenger, max(least_sd, sd_of(self.champion)))
        other = mean_of(self.champion, least_sd) if not self.guard.is_absolute else None
        if mine is None or (other is None and not self.guard.is_absolute):
            return None
        sign = 1.0 if self.guard.is_at_most else -1.0
        if mine.variance < ALIKE or (other is not None and other.variance < ALIKE):
            return None
        expected = self.guard.shift + (self.guard.scale * other.value if other else 0.0)
        variance = mine.variance + (self.guard.scale**2 * other.variance if other else 0.0)
        return sign * (mine.value - expected), variance, self.challenger.count

    def verdict(self, alpha: float) -> Verdict:
        against, within = self._p_values()
        if against <= alpha:
            return "violated"
        return "satisfied" if within <= SATISFIED_ALPHA else "undecided"

    def _p_values(self) -> tuple[float, float]:
        return math.exp(-max(0.0, self.best[0])), math.exp(-max(0.0, self.best[1]))

    def is_leaning(self, alpha: float) -> bool:
        score, information = self._evidence()
        return bool(self.spread) and log_evidence(score, information, self.spread) > 0.5 * math.log(1.0 / alpha)

    def figures(self, alpha: float, champion: Observed, challenger: Observed) -> GuardFigures:
        if self.guard.kind == "drift":
            value, other = _mean(champion.drift), None
        else:
            value, other = (_mean(side.metrics.get(self.guard.name, Sum())) for side in (challenger, champion))
        bound = self.guard.shift if self.guard.is_absolute else None if other is None else self.guard.scale * other + self.guard.shift
        return figures_of(self.guard, self.verdict(alpha), value, other, bound, self.num_samples, *self._p_values())

    def as_json(self) -> dict[str, Any]:
        sums = {side: [one.count, one.total, one.squares] for side, one in (("champion", self.champion), ("challenger", self.challenger))}
        plain = {"step": self.step, "closed": list(self.closed), "spread": self.spread, "best": list(self.best)}
        return {**plain, **sums, "num_before": self.num_before}

    def restore(self, body: Mapping[str, Any]) -> None:
        self.step, self.closed, self.spread = body["step"], list(body["closed"]), body["spread"]
        self.best, self.num_before = list(body["best"]), body["num_before"]
        self.champion, self.challenger = Sum(*body["champion"]), Sum(*body["challenger"])


def _mean(values: Sum) -> float | None:
    return values.total / values.count if values.count else None
