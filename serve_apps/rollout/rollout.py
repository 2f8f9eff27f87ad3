"""Decides how a challenger comes to serve a model: which share of the requests it gets, and when it is promoted or rolled back.

    starting -> shadow (if asked for) -> stepping 1 %, 5 %, … 100 % -> promoted
       |           |                        |  ^
     failed     rolled_back | aborted       v  |
                                           paused (by hand, or as too few requests came)

A step is left once it has soaked and every guard is satisfied; one that stays undecided holds a step for `PATIENCE` soaks at most, unless
the evidence leans to violated. A violated guard, replicas that keep dying, or none that lives end it at any look, also while paused.

Invariants: shares sum to 10,000; they grow or stay until the end; the same sums seen twice change no evidence; the state is JSON, and a
rollout that was read back decides as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fabric.errors import RejectedError
from serve_apps.directory.observed import Observed
from serve_apps.directory.table import WHOLE
from serve_apps.rollout.block import Block, GuardFigures, Health
from serve_apps.rollout.decision import ENDED, Decision, State
from serve_apps.rollout.guards import FIGURES
from serve_apps.rollout.observed_json import is_behind, observed_from_json, observed_to_json
from serve_apps.rollout.spec import RolloutSpec
from serve_apps.rollout.watch import Watch, watch_for
from serve_apps.rollout.words import violation_text

PATIENCE = 3.0
FIGURES_S = 60.0
"""For so long the last step waits for a cost or a memory that nobody reports."""
FIRST_WEIGHT = 0.9
"""Of the evidence that begins with the rollout; the rest begins later, and so finds what breaks later."""
LONGEST_GAP_S = 5.0
"""Nobody watched for longer than this between two looks: it does not count as soak."""
RATE_S = 10.0
COPIES_PER_S = 20.0
FIRST_COPIES_PER_S = 50.0
MOST_COPIED = WHOLE // 2
"""Of the champion's requests, unless there are copies only."""
NUM_HISTORY = 50


@dataclass(slots=True)
class Rollout:
    """`champion`, `challenger`: deployments. Make one with `begin`, or `from_json`."""

    spec: RolloutSpec
    champion: str
    challenger: str
    began_s: float
    state: State = "starting"
    reason: str = "the challenger starts"
    step: int = -1
    resume_to: State = "starting"
    paused_by: Literal["", "hand", "few_samples"] = ""
    soaked_s: float = 0.0
    compared_s: float = 0.0
    looked_s: float = 0.0
    rate_per_s: float = 0.0
    shadow_share: int = 0
    step_requests: int = 0
    seen: list[Observed] = field(default_factory=list)
    base: list[Observed] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)

    @classmethod
    def begin(cls, spec: RolloutSpec, *, champion: str, challenger: str, now_s: float) -> Rollout:
        return cls(spec, champion, challenger, now_s, looked_s=now_s, watches=[watch_for(guard) for guard in spec.guards])

    # -- looks ---------------------------------------------------------------------------------------------------------

    def look(self, now_s: float, champion: Observed, challenger: Observed, health: Health) -> Decision:
        """Take in what both have seen, about twice a second.

        `champion`, `challenger`: sums that never fall, also when a replica is replaced: whoever adds up replicas keeps what those that are
        gone had seen. Sums that fall all the same are taken for new ones, and what came between the two looks is not compared.
        """
        if self.state in ENDED:
            return self._decision(None)
        dt_s = min(LONGEST_GAP_S, max(0.0, now_s - self.looked_s))
        self.looked_s = max(self.looked_s, now_s)
        since = self._since(champion, challenger)
        self._measure_rate(since[0].num_requests, dt_s)
        if self.state == "starting":
            self._watch(since, health, dt_s)
            return self._decision(self._start(now_s, health))
        self.compared_s += dt_s
        self._watch(since, health, dt_s)
        self.step_requests += since[1].num_requests if self.step >= 0 else since[0].num_compared
        if self.state != "paused":
            self.soaked_s += dt_s
        fault = self._fault(health)
        if fault:
            return self._decision(self._turn(now_s, "rolled_back", fault))
        return self._decision(self._proceed(now_s))

    def _since(self, champion: Observed, challenger: Observed) -> tuple[Observed, Observed]:
        now = [champion, challenger]
        before = self.seen or now
        self.seen = now
        if not self.base:
            self.base = list(now)
            for watch in self.watches:
                watch.begin(champion)
        if any(is_behind(one, old) for one, old in zip(now, before, strict=True)):
            self.base = list(now)
            return Observed(), Observed()
        return champion - before[0], challenger - before[1]

    def _measure_rate(self, num_requests: int, dt_s: float) -> None:
        if dt_s > 0:
            part = 1.0 - math.exp(-dt_s / RATE_S)
            self.rate_per_s += part * (num_requests / dt_s - self.rate_per_s)

    def _watch(self, since: tuple[Observed, Observed], health: Health, dt_s: float) -> None:
        step = self.step if self.state != "starting" else -1
        block = Block(*since, health, dt_s, step, self._percent() / 100.0, self._entering(dt_s))
        for watch in self.watches:
            watch.add(block)

    def _entering(self, dt_s: float) -> float:
        """The weight of the evidence that begins at this look; all of them sum to 1 at most."""
        if self.state == "starting":
            return 0.0
        until_s, planned_s = self.compared_s, 1.0 + self.spec.shadow_first_s + self.spec.soak_s * len(self.spec.steps)
        late = (1.0 - FIRST_WEIGHT) * (until_s / (planned_s + until_s) - (until_s - dt_s) / (planned_s + until_s - dt_s))
        return late + (FIRST_WEIGHT if until_s <= dt_s else 0.0)

    # -- what follows --------------------------------------------------------------------------------------------------

    def _start(self, now_s: float, health: Health) -> dict[str, Any] | None:
        if health.start_error:
            return self._turn(now_s, "failed", f"the challenger cannot start: {health.start_error}")
        if health.num_deaths >= self.spec.max_deaths:
            return self._turn(now_s, "failed", f"{health.num_deaths} replicas of the challenger died as it started")
        if health.num_ready >= max(1, health.num_wanted):
            self.base = list(self.seen)
            if self.spec.shadow_first_s > 0:
                return self._turn(now_s, "shadow", "the challenger gets copies of requests")
            return self._enter_step(now_s, 0)
        if now_s - self.began_s > self.spec.start_timeout_s:
            waited = f"{health.num_ready} of {health.num_wanted} replicas after {self.spec.start_timeout_s:.0f} s"
            return self._turn(now_s, "failed", f"the challenger did not start in time: {waited}")
        return None

    def _fault(self, health: Health) -> str:
        if health.num_deaths >= self.spec.max_deaths:
            return f"replicas of the challenger keep dying: {health.num_deaths} deaths"
        if health.num_ready == 0:
            return "no replica of the challenger is left"
        if all(watch.verdict(self.spec.guard_alpha) != "violated" for watch in self.watches):
            return ""
        return "; ".join(violation_text(one) for one in self.figures() if one.verdict == "violated")

    def _proceed(self, now_s: float) -> dict[str, Any] | None:
        if self.paused_by == "hand":
            return None
        needed_s = self.spec.shadow_first_s if self.step < 0 else self.spec.soak_s
        if self.soaked_s < needed_s:
            return None
        few = self._too_few()
        if few:
            if self.state == "paused":
                self.reason = few
                return None
            self.resume_to, self.paused_by = self.state, "few_samples"
            return self._turn(now_s, "paused", few)
        if self.state == "paused":
            self.paused_by = ""
            return self._turn(now_s, self.resume_to, "enough requests have come")
        if self._is_held(needed_s):
            return None
        if self.step + 1 < len(self.spec.steps):
            return self._enter_step(now_s, self.step + 1)
        return self._turn(now_s, "promoted", "every step is done")

    def _too_few(self) -> str:
        """What there are too few of, or nothing."""
        least = self.spec.min_samples
        if self.step >= 0 and self.step_requests < least:
            return f"too few requests to judge: {self.step_requests} of {least} at this step"
        for watch in self.watches:
            comes_later = watch.guard.kind in FIGURES or (self.step < 0 and not _is_copying(watch))
            if not comes_later and watch.num_samples < least:
                return f"too few samples to judge {watch.guard.text}: {watch.num_samples} of {least}"
        return ""

    def _is_held(self, needed_s: float) -> bool:
        """Whether a guard keeps the rollout at this step."""
        waits = False
        for watch in self.watches:
            if self.step < 0 and not _is_copying(watch):
                continue
            verdict = watch.verdict(self.spec.guard_alpha)
            if watch.is_leaning(self.spec.guard_alpha):
                self.reason = f"waits for {watch.guard.text}, which leans to violated"
                return True
            if watch.guard.kind in FIGURES:  # cost is known in the last step only
                patience_s = FIGURES_S if self.step + 1 == len(self.spec.steps) else 0.0
            else:
                patience_s = PATIENCE * needed_s
            if verdict == "undecided" and self.soaked_s < patience_s:
                self.reason = f"waits until {watch.guard.text} is certain"
                waits = True
        return waits

    def _enter_step(self, now_s: float, step: int) -> dict[str, Any]:
        self.step = step
        return self._turn(now_s, "stepping", f"{self.spec.steps[step]:g} % of the requests")

    def _turn(self, now_s: float, state: State, reason: str) -> dict[str, Any]:
        """Every change goes through here, and is a fact for the journal."""
        before = self.state
        self.state, self.reason = state, reason
        if "paused" not in (before, state):
            self.soaked_s, self.step_requests = 0.0, 0
        figures = [asdict(one) for one in self.figures()]
        fact = {
            "at_s": now_s,
            "from": before,
            "to": state,
            "reason": reason,
            "percent": self._percent(),
            "shares": self.shares(),
            "figures": figures,
        }
        self.history = [*self.history[-(NUM_HISTORY - 1) :], {key: value for key, value in fact.items() if key != "figures"}]
        return fact

    # -- by hand -------------------------------------------------------------------------------------------------------

    def pause(self, now_s: float, who: str = "") -> Decision:
        """Shares stay as they are; guards go on watching. Raises: RejectedError (`rollout_ended`, `rollout_not_ready`)."""
        self._must_run("paused")
        if self.paused_by == "hand":
            return self._decision(None)
        if self.state != "paused":
            self.resume_to = self.state
        self.paused_by = "hand"
        return self._decision(self._turn(now_s, "paused", f"paused{_by(who)}"))

    def resume(self, now_s: float, who: str = "") -> Decision:
        """Raises: RejectedError (`rollout_ended`, `rollout_not_ready`)."""
        self._must_run("resumed")
        if self.paused_by != "hand":
            return self._decision(None)
        self.paused_by = ""
        return self._decision(self._turn(now_s, self.resume_to, f"resumed{_by(who)}"))

    def promote(self, now_s: float, who: str = "") -> Decision:
        """The challenger gets everything now. Raises: RejectedError (`rollout_ended`, `rollout_not_ready`)."""
        self._must_run("promoted")
        return self._decision(self._turn(now_s, "promoted", f"promoted{_by(who)}"))

    def abort(self, now_s: float, who: str = "") -> Decision:
        """The champion gets everything now. Raises: RejectedError (`rollout_ended`)."""
        self._must_not_be_over("aborted")
        return self._decision(self._turn(now_s, "aborted", f"aborted{_by(who)}"))

    def _must_not_be_over(self, verb: str) -> None:
        if self.state in ENDED:
            raise RejectedError(
                f"the rollout is {self.state.replace('_', ' ')} and cannot be {verb}",
                code="rollout_ended",
                hint="fabric rollout start begins a new one",
            )

    def _must_run(self, verb: str) -> None:
        self._must_not_be_over(verb)
        if self.state == "starting":
            raise RejectedError(f"the challenger still starts; it cannot be {verb}", code="rollout_not_ready", hint="wait, or abort")

    # -- what holds now ------------------------------------------------------------------------------------------------

    def figures(self) -> tuple[GuardFigures, ...]:
        if not self.seen:
            return tuple(GuardFigures(watch.guard.text, "undecided") for watch in self.watches)
        champion, challenger = (now - then for now, then in zip(self.seen, self.base, strict=True))
        return tuple(watch.figures(self.spec.guard_alpha, champion, challenger) for watch in self.watches)

    def _percent(self) -> float:
        if self.state == "promoted":
            return 100.0
        is_stepping = self.state == "stepping" or (self.state == "paused" and self.resume_to == "stepping")
        return self.spec.steps[self.step] if is_stepping else 0.0

    def shares(self) -> dict[str, int]:
        percent = self._percent()
        if percent == 100.0 and self.state != "promoted":
            percent -= self.spec.holdback
        share = round(WHOLE * percent / 100.0)
        return {self.champion: WHOLE - share, self.challenger: share}

    def decision(self) -> Decision:
        """What holds, without a look."""
        return self._decision(None)

    def _decision(self, fact: dict[str, Any] | None) -> Decision:
        self.shadow_share = self._copied()
        return Decision(self.state, self.shares(), self.shadow_share, self._percent(), self.reason, self.figures(), fact)

    def _copied(self) -> int:
        """So many copies that they are about `COPIES_PER_S`; the old share while it is near enough, as each change is a new table."""
        is_shadow = self.state == "shadow" or (self.state == "paused" and self.resume_to == "shadow")
        if self.state in (*ENDED, "starting") or not (is_shadow or self.spec.is_copying):
            return 0
        wanted_per_s, most = (FIRST_COPIES_PER_S, WHOLE) if is_shadow else (COPIES_PER_S, MOST_COPIED)
        wanted = most if self.rate_per_s <= 0 else min(most, math.ceil(WHOLE * wanted_per_s / self.rate_per_s))
        return self.shadow_share if 0.7 * wanted <= self.shadow_share <= min(most, 1.4 * wanted) else wanted

    # -- JSON ----------------------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "spec": self.spec.as_json(),
            "history": list(self.history),
            "seen": [observed_to_json(one) for one in self.seen],
            "base": [observed_to_json(one) for one in self.base],
            "watches": [watch.as_json() for watch in self.watches],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Rollout:
        spec = RolloutSpec.from_json(body["spec"])
        rollout = cls(spec, **{name: body[name] for name in _PLAIN}, history=list(body["history"]))
        rollout.seen = [observed_from_json(one) for one in body["seen"]]
        rollout.base = [observed_from_json(one) for one in body["base"]]
        rollout.watches = [watch_for(guard) for guard in spec.guards]
        for watch, state in zip(rollout.watches, body["watches"], strict=True):
            watch.restore(state)
        return rollout


_PLAIN = (
    "champion",
    "challenger",
    "began_s",
    "state",
    "reason",
    "step",
    "resume_to",
    "paused_by",
    "soaked_s",
    "compared_s",
    "looked_s",
    "rate_per_s",
    "shadow_share",
    "step_requests",
)


def _is_copying(watch: Watch) -> bool:
    return watch.guard.kind in ("agreement", "drift")


def _by(who: str) -> str:
    return f" by {who}" if who else " by hand"
