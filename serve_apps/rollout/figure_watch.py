"""Watches a guard on plain numbers, without chance in them: cost per 1,000 requests, memory of a replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from serve_apps.directory.observed import Observed
from serve_apps.rollout.block import Block, GuardFigures, Verdict
from serve_apps.rollout.guards import Guard

LOADED_SHARE = 0.9
"""Cost is measured while a side has nearly all requests: idle replicas are not the version's fault."""
LEAST_LOADED_S = 20.0
OVER_S = 15.0
"""Memory must be over the bound for so long."""


@dataclass(slots=True)
class FigureWatch:
    """A guard on plain numbers: cost per 1,000 requests of each side while it has nearly all of them, and memory of a replica. `paid`: USD,
    requests and seconds of champion and challenger."""

    guard: Guard
    paid: list[float] = field(default_factory=lambda: [0.0] * 6)
    memory: list[float] = field(default_factory=lambda: [0.0] * 2)
    over_s: float = 0.0
    num_samples: int = 0

    def begin(self, champion: Observed) -> None:
        """What was before the rollout is no part of it."""

    def add(self, block: Block) -> None:
        health = block.health
        if self.guard.kind == "memory":
            self.memory = [health.champion_memory_bytes, health.memory_bytes]
            over = self._is_over()
            self.over_s = self.over_s + block.dt_s if over else 0.0
            self.num_samples += over is not None and block.dt_s > 0
            return
        if block.share <= 1 - LOADED_SHARE and health.champion_usd_per_h:
            self._pay(0, health.champion_usd_per_h, block.champion.num_requests, block.dt_s)
        if block.share >= LOADED_SHARE and health.usd_per_h:
            self._pay(3, health.usd_per_h, block.challenger.num_requests, block.dt_s)
            self.num_samples += block.challenger.num_requests

    def _pay(self, at: int, usd_per_h: float, num_requests: int, dt_s: float) -> None:
        for offset, value in enumerate((usd_per_h * dt_s / 3600.0, num_requests, dt_s)):
            self.paid[at + offset] += value

    def _values(self) -> tuple[float | None, float | None, float | None]:
        """The challenger's, the champion's, the bound."""
        if self.guard.kind == "memory":
            other, value = (one or None for one in self.memory)
        else:
            other, value = (1000.0 * usd / num if num else None for usd, num in (self.paid[:2], self.paid[3:5]))
        bound = self.guard.shift if self.guard.is_absolute else None if other is None else self.guard.scale * other + self.guard.shift
        return value, other, bound

    def _is_over(self) -> bool | None:
        value, _, bound = self._values()
        if value is None or bound is None:
            return None
        # Rates are measured, and so is what they are compared with: a thousandth is no difference.
        return value > 1.001 * bound if self.guard.is_at_most else value < 0.999 * bound

    def verdict(self, alpha: float) -> Verdict:
        over = self._is_over()
        if over is None:
            return "undecided"
        if self.guard.kind == "memory":
            return "violated" if self.over_s >= OVER_S else "undecided" if over else "satisfied"
        if self.paid[5] < LEAST_LOADED_S:
            return "undecided"
        return "violated" if over else "satisfied"

    def is_leaning(self, alpha: float) -> bool:
        return bool(self._is_over())

    def figures(self, alpha: float, champion: Observed, challenger: Observed) -> GuardFigures:
        verdict = self.verdict(alpha)
        leans: Literal["violated", "satisfied", ""] = "" if verdict == "undecided" else verdict
        return GuardFigures(self.guard.text, verdict, *self._values(), self.num_samples, 1.0 if leans else 0.0, leans)

    def as_json(self) -> dict[str, Any]:
        return {"paid": list(self.paid), "memory": list(self.memory), "over_s": self.over_s, "num_samples": self.num_samples}

    def restore(self, body: Mapping[str, Any]) -> None:
        self.paid, self.memory = list(body["paid"]), list(body["memory"])
        self.over_s, self.num_samples = body["over_s"], body["num_samples"]
