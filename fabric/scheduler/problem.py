"""What the optimiser is asked and what it answers: plain values, so that it can run in a process of its own.

A planner is a pure function `Problem -> Plan`. It sees only jobs that have been submitted. It is asked again when the
situation changes (a job came, ended, was re-estimated; nodes came or went) and at `Plan.review_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fabric.job import JobId, Option

Objective = Literal["balanced", "jct", "makespan", "cost"]
OBJECTIVES: tuple[Objective, ...] = ("balanced", "jct", "makespan", "cost")


@dataclass(slots=True)
class PlanJob:
    """One job that wants to run or runs. `work` is what is left of it now, in its own unit.

    `held` is the option that it runs with now, `held_since_s` since when. The first `restart_s` seconds after every start or
    move do no work; `warmup_left_s` is what is left of them for a running job. `lost_work` is what a move now would cost
    in work that no checkpoint keeps. `deadline_s` is absolute. `log_sd`: doubt about `work`.
    """

    job_id: JobId
    options: tuple[Option, ...]
    work: float
    submitted_s: float = 0.0
    weight: float = 1.0
    log_sd: float = 0.0
    deadline_s: float | None = None
    held: Option | None = None
    held_since_s: float = 0.0
    restart_s: float = 0.0
    warmup_left_s: float = 0.0
    lost_work: float = 0.0
    is_movable: bool = True


Listed = list[tuple[JobId, tuple[Option, ...]]]
"""Jobs, best first, each with its ways, best first."""


@dataclass(slots=True)
class WarmStart:
    """What a planner found, for the next time to begin with: its list, and per flavor two prices of a unit (the planner's own,
    not money)."""

    listed: Listed = field(default_factory=list)
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Problem:
    """`capacity`: flavor -> units that jobs may hold (running ones included). `usd_per_h`: flavor -> price of a unit. `warm`: what
    the last answer's planner left to begin with."""

    now_s: float
    objective: Objective
    jobs: list[PlanJob]
    capacity: Mapping[str, float]
    usd_per_h: Mapping[str, float] = field(default_factory=dict)
    warm: WarmStart | None = None


@dataclass(slots=True)
class Plan:
    """`run`: who should hold what from now on; feasible as a whole; a job that holds it already keeps its lease; a running job
    that is not in it, and is movable, gives its lease up. `order`: who comes next, best first, with the ways it may
    start (best first) as room appears. `review_s`: ask again at this time even if nothing happens.
    `finish_s`: predicted completion times, where the planner made them. `warm`: for the next problem.
    """

    now_s: float
    run: dict[JobId, Option]
    order: Listed = field(default_factory=list)
    review_s: float | None = None
    finish_s: dict[JobId, float] = field(default_factory=dict)
    bound: float | None = None
    warm: WarmStart | None = None
