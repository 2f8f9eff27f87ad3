"""Watches a guard on a share of the requests: those that failed, that disagree, or that are slower than a quantile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_apps.directory.observed import FIRST_BUCKET_MS, Observed, bucket_end_ms
from serve_apps.rollout.block import SATISFIED_ALPHA, Block, GuardFigures, Verdict, figures_of
from serve_apps.rollout.evidence import Evidence
from serve_apps.rollout.guards import Guard
from serve_apps.rollout.histogram import nearest_bucket, num_above, quantile_ms

RECENT_S = 300.0
"""The champion's quantile, at which latencies are compared, is that of requests with this half-life."""
HISTORY = 20_000.0
"""What was before the rollout counts as so many requests at most."""
MOST_BEYOND = 3.0
LEAST_TAIL = 5.0
"""It is known once so many of them were beyond it."""
LEAST_BLOCK = 10
"""Requests of both sides: a smaller block hardly tells anything of their difference."""
UNSTEADY_SDS = 2.5
MOST_STEADY = 200.0
"""Two blocks of the champion are unlike from so many standard deviations on, those of so many requests at most."""


@dataclass(slots=True)
class RateWatch:
    """A guard on a share of the requests: those with errors, those that disagree, those that are slower than a quantile.

    A latency guard compares at the champion's quantile: were 5 % of its requests slower than t, no more than 5 % of the challenger's may be
    slower than `scale` * t + `shift`. `recent`: the champion's latencies; `pending`: requests and counted of both sides that wait until
    both have some; `seen`: of both sides, all.
    """

    guard: Guard
    against: Evidence
    within: Evidence
    recent: dict[int, float] = field(default_factory=dict)
    pending: list[float] = field(default_factory=lambda: [0.0] * 4)
    seen: list[float] = field(default_factory=lambda: [0.0] * 4)
    entering: float = 0.0
    carried: float = 0.0
    blocks: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(cls, guard: Guard) -> RateWatch:
        scale, shift = _as_rates(guard)
        return cls(guard, Evidence(scale, shift, is_against=True), Evidence(scale, shift, is_against=False))

    @property
    def num_samples(self) -> int:
        return int(self.seen[2])

    def add(self, block: Block) -> None:
        counts = self._counts(block)
        self._remember(block)
        self.entering += block.entering
        if counts is None:
            return
        self.pending = [one + other for one, other in zip(self.pending, counts, strict=True)]
        num0, _, num1, _ = self.pending
        if num1 <= 0 or (self.against.scale > 0 and (num0 <= 0 or num0 + num1 < LEAST_BLOCK)):
            return
        closed, self.pending = self.pending, [0.0] * 4
        if self.against.scale == 0:
            self._bet(closed)
            return
        self.blocks = [*self.blocks, closed][-3:]
        # A block is bet on when the next one is known: see `_is_steady`.
        if len(self.blocks) > 1 and self._is_steady():
            self._bet(self.blocks[-2])

    def _is_steady(self) -> bool:
        """Whether the champion was much the same in the block before and in the one after. Replicas report at their own times: where a bad
        second begins or ends, one side is told of it before the other, and that is no difference between them."""
        counts = [(min(num0, MOST_STEADY), counted0 / num0) for num0, counted0, _, _ in self.blocks]
        here = counts[-2]
        return all(_apart(here, other) < UNSTEADY_SDS for other in counts if other is not here)

    def _bet(self, block: list[float]) -> None:
        num0, counted0, num1, counted1 = block
        rate0 = self._rate0()
        self.within.add(rate0, (num0, counted0), (num1, counted1), 0.0 if self.within.logs else 1.0)
        self.against.add(rate0, (num0, counted0), (num1, counted1), self.entering)
        self.seen = [one + other for one, other in zip(self.seen, block, strict=True)]
        self.entering = 0.0

    def _counts(self, block: Block) -> tuple[float, float, float, float] | None:
        champion, challenger = block.champion, block.challenger
        if self.guard.kind == "agreement":
            return 0.0, 0.0, champion.num_compared, champion.num_compared - champion.num_agreed
        if block.step < 0:
            return None
        if self.guard.kind == "error_rate":
            return champion.num_requests, champion.num_errors, challenger.num_requests, challenger.num_errors
        if self.guard.is_absolute:
            return 0.0, 0.0, sum(challenger.latency_counts.values()), num_above(challenger.latency_counts, self.guard.shift)
        at_ms = self._compared_at_ms()
        if at_ms is None:
            return None
        # On a border of buckets the challenger's count is whole. The champion's is not, and what is cut off is carried on.
        limit_ms = bucket_end_ms(nearest_bucket(max(FIRST_BUCKET_MS, self.guard.scale * at_ms + self.guard.shift)))
        at_ms = (limit_ms - self.guard.shift) / self.guard.scale
        slow0, self.carried = divmod(num_above(champion.latency_counts, at_ms) + self.carried, 1.0)
        slow1 = round(num_above(challenger.latency_counts, limit_ms))
        num0 = sum(champion.latency_counts.values())
        return num0, min(slow0, num0), sum(challenger.latency_counts.values()), slow1

    def _remember(self, block: Block) -> None:
        if self.guard.kind != "latency" or self.guard.is_absolute:
            return
        kept = 2.0 ** (-block.dt_s / RECENT_S)
        if kept < 1.0:
            self.recent = {bucket: count * kept for bucket, count in self.recent.items() if count * kept > 1e-6}
        counts = block.champion.latency_counts
        if not counts:
            return
        # A slow spell must not become what is slow: a block of which far more is beyond the quantile than usual counts in part.
        at_ms = self._compared_at_ms()
        slow = num_above(counts, at_ms) / sum(counts.values()) if at_ms else 0.0
        part = min(1.0, MOST_BEYOND * self.guard.tail / slow) if slow else 1.0
        for bucket, count in counts.items():
            self.recent[bucket] = self.recent.get(bucket, 0.0) + part * count

    def begin(self, champion: Observed) -> None:
        """What the champion had answered before the rollout says where its quantile is."""
        if self.guard.kind == "latency" and not self.guard.is_absolute:
            part = min(1.0, HISTORY / max(1, sum(champion.latency_counts.values())))
            self.recent = {bucket: part * count for bucket, count in champion.latency_counts.items()}

    def _compared_at_ms(self) -> float | None:
        if sum(self.recent.values()) * min(self.guard.tail, 1 - self.guard.tail) < LEAST_TAIL:
            return None
        return quantile_ms(self.recent, self.guard.tail)

    def _rate0(self) -> float:
        """What the champion's rate is taken to be, from before this block."""
        return (self.seen[1] + 0.5) / (self.seen[0] + 500.0)

    def verdict(self, alpha: float) -> Verdict:
        if self.against.p_value <= alpha:
            return "violated"
        return "satisfied" if self.within.p_value <= SATISFIED_ALPHA else "undecided"

    def is_leaning(self, alpha: float) -> bool:
        return self.against.log_e > 0.5 * math.log(1.0 / alpha)

    def figures(self, alpha: float, champion: Observed, challenger: Observed) -> GuardFigures:
        value, other, bound = self._values(champion, challenger)
        return figures_of(self.guard, self.verdict(alpha), value, other, bound, self.num_samples, self.against.p_value, self.within.p_value)

    def _values(self, champion: Observed, challenger: Observed) -> tuple[float | None, float | None, float | None]:
        if self.guard.kind == "latency":
            other = quantile_ms(champion.latency_counts, self.guard.tail)
            value = quantile_ms(challenger.latency_counts, self.guard.tail)
        else:
            num0, counted0, num1, counted1 = self.seen
            value, other = (counted / num if num else None for counted, num in ((counted1, num1), (counted0, num0)))
        if self.guard.kind == "agreement":
            return None if value is None else 1 - value, None, self.guard.shift
        bound = self.guard.shift if self.guard.is_absolute else None if other is None else self.guard.scale * other + self.guard.shift
        return value, other, bound

    def as_json(self) -> dict[str, Any]:
        return {
            "against": [self.against.best_log_e, *_finite(self.against.logs)],
            "within": [self.within.best_log_e, *_finite(self.within.logs)],
            "recent": {str(bucket): count for bucket, count in self.recent.items()},
            "pending": list(self.pending),
            "seen": list(self.seen),
            "entering": self.entering,
            "carried": self.carried,
            "blocks": [list(block) for block in self.blocks],
        }

    def restore(self, body: Mapping[str, Any]) -> None:
        for evidence, key in ((self.against, "against"), (self.within, "within")):
            best, *logs = body[key]
            evidence.best_log_e, evidence.logs = best, [-math.inf if one is None else one for one in logs]
        self.recent = {int(bucket): count for bucket, count in body["recent"].items()}
        self.pending, self.seen, self.entering = list(body["pending"]), list(body["seen"]), body["entering"]
        self.carried, self.blocks = body["carried"], [list(block) for block in body["blocks"]]


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Of two (requests, rate): how many standard deviations are between the rates."""
    (num, rate), (num_other, rate_other) = one, other
    both = (num * rate + num_other * rate_other + 0.5) / (num + num_other + 1.0)
    return abs(rate - rate_other) / math.sqrt(both * (1.0 - both) * (1.0 / num + 1.0 / num_other))


def _as_rates(guard: Guard) -> tuple[float, float]:
    """The null of a guard about shares of requests."""
    if guard.kind == "latency":
        return (0.0, guard.tail) if guard.is_absolute else (1.0, 0.0)
    if guard.kind == "agreement":
        return 0.0, 1 - guard.shift
    return guard.scale, guard.shift


def _finite(logs: list[float]) -> list[float | None]:
    return [None if one == -math.inf else one for one in logs]
