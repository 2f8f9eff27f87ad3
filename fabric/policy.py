"""What a policy says, as the core reads it: classes, queues, quotas, objective. `fabric.policy_document` reads the YAML.

Quotas are in units of a flavor (accelerators; vCPUs on CPU flavors), by selector: a flavor's name, family, kind or tier. A
selector that is not named in `nominal` has no limit; an empty `nominal` means a queue without quotas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fabric.scheduler.problem import Objective

Fallback = Literal["best-effort", "strict", "patient"]
OnStraggler = Literal["report", "cordon", "drain"]
Reclaim = Literal["Never", "LowerPriority", "Any"]


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """`value` is strict: higher goes first and may preempt lower. `weight` is its share among classes of equal value.
    `selectors` name the preferred nodes (all of them must hold)."""

    name: str
    weight: float = 1.0
    value: int = 0
    selectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """One queue. `borrowing_limit` None: without limit; `lending_limit` None: all. Limits by the selectors of `nominal`.

    `reclaim_within_cohort`: which borrowers it may preempt to get its nominal quota back; `within_queue`: whether its
    own jobs of lower value give way. `budget_usd` per `budget_period_s`: once spent, its jobs count as the lowest class.
    """

    name: str
    cohort: str = ""
    weight: float = 1.0
    nominal: Mapping[str, float] = field(default_factory=dict)
    borrowing_limit: Mapping[str, float] | None = None
    lending_limit: Mapping[str, float] | None = None
    reclaim_within_cohort: Reclaim = "Any"
    within_queue: Literal["Never", "LowerPriority"] = "LowerPriority"
    max_units_per_user: float | None = None
    max_jobs_per_user: int | None = None
    budget_usd: float | None = None
    budget_period_s: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Policy:
    """See the module. Without classes there is one, `default`; without queues there is one, `default`, without quota;
    once queues are named, any other queue is unknown. `stragglers` is what becomes of a node that takes
    `slower_than` times as long as its like."""

    name: str = "default"
    classes: tuple[PriorityClass, ...] = (PriorityClass("default"),)
    queues: tuple[QueuePolicy, ...] = (QueuePolicy("default"),)
    fallback: Fallback = "best-effort"
    patience_s: float = 300.0
    objective: Objective = "balanced"
    usage_half_life_s: float = 7 * 86400.0
    restart_s: float = 60.0
    stragglers: OnStraggler = "report"
    slower_than: float = 1.5
    version: int = 0
