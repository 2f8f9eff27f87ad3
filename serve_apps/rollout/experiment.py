"""Decides which arm of an A/B experiment has the better metric, and when that is certain. Pure; its state is JSON.

Every interval holds at all times at once, so that one may look, and stop, whenever one likes. Each arm is compared with the first one,
and the leader with all others; `alpha` is split over the pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fabric.errors import RejectedError, UserError
from serve_apps.directory.observed import Observed, Sum
from serve_apps.directory.table import WHOLE
from serve_apps.rollout.means import TUNED_COUNT, Estimate, interval, mean_of, sd_of

State = Literal["running", "concluded", "stopped"]
LEAST_VALUES = 200
"""Of every arm, before anything is concluded: the intervals hold for large counts."""


@dataclass(frozen=True, slots=True)
class Arm:
    """`percent` of the requests go to deployment or alias `name`."""

    name: str
    percent: float


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """`interval`: of the mean; `difference`: of the mean less the first arm's. None while there are too few values."""

    arm: str
    weight: float
    num_values: int
    mean: float | None
    interval: tuple[float, float] | None
    difference: tuple[float, float] | None


def parse_arms(text: str | Mapping[str, float]) -> tuple[Arm, ...]:
    """`champion=50,challenger=50`, or the same as a mapping. At least two arms, weights sum to 100.

    Raises: UserError (`bad_experiment`).
    """
    hint = "champion=50,challenger=50"
    given: Iterable[tuple[Any, Any]] = text.items() if isinstance(text, Mapping) else [part.partition("=")[::2] for part in text.split(",")]
    arms = []
    for name, weight in given:
        try:
            percent = float(str(weight).strip().removesuffix("%"))
        except ValueError:
            raise UserError(f"arm {name!r} has no weight", code="bad_experiment", hint=hint) from None
        if not str(name).strip() or not 0 < percent < 100:
            raise UserError(f"arm {name!r} has weight {weight!r}", code="bad_experiment", hint=f"a percentage above 0: {hint}")
        arms.append(Arm(str(name).strip(), percent))
    total = sum(arm.percent for arm in arms)
    if len(arms) < 2 or len({arm.name for arm in arms}) < len(arms):
        raise UserError("an experiment has two arms or more, each named once", code="bad_experiment", hint=hint)
    if abs(total - 100) > 1e-6:
        raise UserError(f"the weights of the arms sum to {total:g}, not to 100", code="bad_experiment", hint=hint)
    return tuple(arms)


@dataclass(slots=True)
class Experiment:
    """`metric`: what users post back; `is_higher_better` False for what should be low; `base`: what each arm had seen before."""

    arms: tuple[Arm, ...]
    metric: str
    began_s: float
    is_higher_better: bool = True
    alpha: float = 0.05
    state: State = "running"
    reason: str = "too few values yet"
    winner: str = ""
    base: dict[str, Sum] = field(default_factory=dict)
    values: dict[str, Sum] = field(default_factory=dict)

    def look(self, now_s: float, observed: Mapping[str, Observed]) -> dict[str, Any] | None:
        """`observed`: sums of each arm, which never fall. A fact for the journal where this look ends the experiment, else None."""
        if self.state != "running":
            return None
        for arm in self.arms:
            seen = observed.get(arm.name, Observed()).metrics.get(self.metric, Sum())
            if seen.count < self.base.setdefault(arm.name, seen).count:
                self.base[arm.name] = seen
            self.values[arm.name] = seen - self.base[arm.name]
        return self._conclude(now_s)

    def _conclude(self, now_s: float) -> dict[str, Any] | None:
        if any(self.values[arm.name].count < LEAST_VALUES for arm in self.arms):
            fewest = min(self.values[arm.name].count for arm in self.arms)
            self.reason = f"too few values yet: {fewest} of {LEAST_VALUES} in the smallest arm"
            return None
        sign = 1 if self.is_higher_better else -1
        leader = max(self.arms, key=lambda arm: sign * self.values[arm.name].total / self.values[arm.name].count)
        for other in self.arms:
            if other is leader:
                continue
            low_high = self._difference(leader.name, other.name)
            if low_high is None or (low_high[0] if sign > 0 else -low_high[1]) <= 0:
                self.reason = f"{leader.name} leads, {other.name} may still be as good"
                return None
        self.winner = leader.name
        return self._end(now_s, "concluded", f"{leader.name} is better, with {100 * (1 - self.alpha):g} % confidence")

    def stop(self, now_s: float, who: str = "") -> dict[str, Any]:
        """Raises: RejectedError (`experiment_ended`)."""
        if self.state != "running":
            raise RejectedError(f"the experiment is {self.state} already", code="experiment_ended")
        return self._end(now_s, "stopped", f"stopped by {who or 'hand'}")

    def _end(self, now_s: float, state: State, reason: str) -> dict[str, Any]:
        self.state, self.reason = state, reason
        figures = [_figures_json(one) for one in self.figures()]
        return {"at_s": now_s, "to": state, "reason": reason, "winner": self.winner, "figures": figures}

    def shares(self) -> dict[str, int]:
        """Ten-thousandths by arm, sum 10,000: rounded, and the first arm has what is left."""
        shares = {arm.name: round(WHOLE * arm.percent / 100) for arm in self.arms}
        shares[self.arms[0].name] += WHOLE - sum(shares.values())
        return shares

    def figures(self) -> tuple[ArmFigures, ...]:
        return tuple(self._figures(arm) for arm in self.arms)

    def _figures(self, arm: Arm) -> ArmFigures:
        values = self.values.get(arm.name, Sum())
        estimate = mean_of(values)
        own = None if estimate is None else interval(estimate, estimate.variance * values.count / TUNED_COUNT, self.alpha)
        first = self.arms[0].name
        difference = self._difference(arm.name, first) if arm.name != first else None
        return ArmFigures(arm.name, arm.percent, values.count, values.total / values.count if values.count else None, own, difference)

    def _difference(self, one: str, other: str) -> tuple[float, float] | None:
        mine, theirs = self.values.get(one, Sum()), self.values.get(other, Sum())
        first, second = mean_of(mine, sd_of(theirs)), mean_of(theirs, sd_of(mine))
        if first is None or second is None:
            return None
        variance = first.variance + second.variance
        num_pairs = math.comb(len(self.arms), 2)
        spread = variance * min(mine.count, theirs.count) / TUNED_COUNT
        return interval(Estimate(first.value - second.value, variance), spread, self.alpha / num_pairs)

    def form(self, model: str) -> dict[str, Any]:
        """The one JSON form of an experiment."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {"model": model, **plain, "shares": self.shares(), "arms": [_figures_json(one) for one in self.figures()]}

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        sums = {key: {name: [s.count, s.total, s.squares] for name, s in getattr(self, key).items()} for key in ("base", "values")}
        return {**plain, **sums, "arms": {arm.name: arm.percent for arm in self.arms}}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Experiment:
        experiment = cls(parse_arms(body["arms"]), **{name: body[name] for name in _PLAIN})
        experiment.base, experiment.values = ({name: Sum(*sums) for name, sums in body[key].items()} for key in ("base", "values"))
        return experiment


_PLAIN = ("metric", "began_s", "is_higher_better", "alpha", "state", "reason", "winner")


def _figures_json(one: ArmFigures) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ArmFigures.__slots__}
