"""What a look at a rollout answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serve_apps.rollout.block import GuardFigures

State = Literal["starting", "shadow", "stepping", "paused", "promoted", "rolled_back", "aborted", "failed"]
ENDED: tuple[State, ...] = ("promoted", "rolled_back", "aborted", "failed")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be so from now on. `shares`: ten-thousandths by deployment, champion first, sum 10,000; `shadow_share`: ten-thousandths of
    the champion's requests that are copied to the challenger; `percent`: the step, 0 before the first. `fact`: for the journal, with the
    numbers that decided; None where this look changed nothing."""

    state: State
    shares: Mapping[str, int]
    shadow_share: int
    percent: float
    reason: str
    figures: tuple[GuardFigures, ...]
    fact: Mapping[str, Any] | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "shares": dict(self.shares), "figures": [asdict(one) for one in self.figures]}
