"""Watches one guard: takes in what both sides have seen since the last look, and says violated, satisfied or undecided.

Champion and challenger are compared over the same seconds, block by block (one block is what came between two looks), so that a busy hour
or a slow disk that hits both is held against neither. What a watch knows goes to JSON and back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from serve_apps.directory.observed import Observed
from serve_apps.rollout.block import Block, GuardFigures, Verdict
from serve_apps.rollout.figure_watch import FigureWatch
from serve_apps.rollout.guards import Guard
from serve_apps.rollout.mean_watch import MeanWatch
from serve_apps.rollout.rate_watch import RateWatch


class Watch(Protocol):
    guard: Guard

    @property
    def num_samples(self) -> int: ...

    def begin(self, champion: Observed) -> None:
        """Once, with what the champion had seen before the rollout."""
        ...

    def add(self, block: Block) -> None: ...

    def verdict(self, alpha: float) -> Verdict: ...

    def is_leaning(self, alpha: float) -> bool:
        """Whether the evidence is half way to violated."""
        ...

    def figures(self, alpha: float, champion: Observed, challenger: Observed) -> GuardFigures: ...

    def as_json(self) -> dict[str, Any]: ...

    def restore(self, body: Mapping[str, Any]) -> None: ...


def watch_for(guard: Guard) -> Watch:
    if guard.kind in ("latency", "error_rate", "agreement"):
        return RateWatch.of(guard)
    return MeanWatch(guard) if guard.kind in ("drift", "metric") else FigureWatch(guard)
