"""What came between two looks at a rollout, and what is said of a guard. The vocabulary of the watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serve_apps.directory.observed import Observed
from serve_apps.rollout.guards import Guard

Verdict = Literal["violated", "satisfied", "undecided"]
SATISFIED_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Health:
    """Of the challenger's replicas, except `champion_…`. `num_deaths`: ended unasked, since the rollout began, never falling.
    `start_error`: why it cannot start. `memory_bytes`: mean of a replica, 0 unknown. `usd_per_h`: of all replicas, 0 unknown."""

    num_ready: int
    num_wanted: int = 1
    num_deaths: int = 0
    start_error: str = ""
    memory_bytes: float = 0.0
    champion_memory_bytes: float = 0.0
    usd_per_h: float = 0.0
    champion_usd_per_h: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """Between two looks. `entering`: weight of the evidence that starts here; `step`: its number, -1 before the first; `share`: the
    challenger's, 0 to 1."""

    champion: Observed
    challenger: Observed
    health: Health
    dt_s: float
    step: int
    share: float
    entering: float


@dataclass(frozen=True, slots=True)
class GuardFigures:
    """`value`, `champion`: the challenger's figure and the champion's (ms, shares of 1, USD, bytes, or the metric's unit), since the
    rollout began; `bound`: what `value` is held against. `confidence`: that the verdict which evidence leans to is right, always valid."""

    guard: str
    verdict: Verdict
    value: float | None = None
    champion: float | None = None
    bound: float | None = None
    num_samples: int = 0
    confidence: float = 0.0
    leans: Literal["violated", "satisfied", ""] = ""


def figures_of(
    guard: Guard,
    verdict: Verdict,
    value: float | None,
    champion: float | None,
    bound: float | None,
    num_samples: int,
    p_against: float,
    p_within: float,
) -> GuardFigures:
    against, within = 1 - p_against, 1 - p_within
    leans: Literal["violated", "satisfied", ""] = "violated" if against > within else "satisfied" if within > 0 else ""
    if verdict != "undecided":
        leans = verdict
    confidence = against if leans == "violated" else within
    return GuardFigures(guard.text, verdict, value, champion, bound, num_samples, confidence, leans)
