"""The vocabulary of the job plane: facts in (past tense), decisions as facts, commands out (imperative).

Facts in `JOURNALLED` are written before the commands that follow from them are performed; replay applies them and never
decides. `by` names who caused a fact: a user, or `fabric`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.job import AttemptUse, Grant, JobEstimate, JobId, JobSpec, Outcome
from fabric.types import Node

FABRIC = "fabric"

# ---- what others tell the core


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    spec: JobSpec
    by: str


@dataclass(frozen=True, slots=True)
class JobCancelRequested:
    job_id: JobId
    by: str


@dataclass(frozen=True, slots=True)
class JobReprioritised:
    """From now on the job names this priority class, as if it had been submitted with it; empty: none."""

    job_id: JobId
    priority: str
    by: str


@dataclass(frozen=True, slots=True)
class JobEstimated:
    """The profiler's prediction for a job; a later one replaces it."""

    job_id: JobId
    estimate: JobEstimate


@dataclass(frozen=True, slots=True)
class JobProgressed:
    """`done` of `total` work units since the job began (over all attempts); `total` None: not known.
    `checkpointed` is the part of `done` that a preemption keeps."""

    job_id: JobId
    attempt: int
    done: float
    total: float | None = None
    checkpointed: float | None = None


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Ray has confirmed the lease and user code runs; `nodes` is where its bundles really are."""

    job_id: JobId
    attempt: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    """Ray could not confirm the reservation: the job goes back to its queue."""

    job_id: JobId
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class JobVacated:
    """A preempted attempt has ended and its checkpoint is kept; `done` of `total` is the work that survives; `total` as in
    `JobProgressed`. `use` is what it used, None where nobody measured it."""

    job_id: JobId
    attempt: int
    done: float = 0.0
    total: float | None = None
    use: AttemptUse | None = None


@dataclass(frozen=True, slots=True)
class JobEnded:
    """An attempt has ended by itself, by force, or with its node. `use` is what it used, None where nobody measured it."""

    job_id: JobId
    attempt: int
    outcome: Outcome
    message: str = ""
    exit_code: int | None = None
    use: AttemptUse | None = None


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """All living nodes of all tiers; replaces the last view. `used` is what others than jobs use."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """`document` is the policy as its user wrote it (`fabric.policy.Policy.model_validate` reads it)."""

    version: int
    document: Mapping[str, Any]
    by: str


@dataclass(frozen=True, slots=True)
class PlanSolved:
    """What the optimiser answers to `Solve`: `plan` is a `fabric.scheduler.problem.Plan`; `took_s` of a processor's time."""

    plan: Any
    took_s: float = 0.0


# ---- what the core decided


@dataclass(frozen=True, slots=True)
class JobDispatched:
    """The job holds this grant from now on; `reason` is the code, `detail` the figures in a few words."""

    job_id: JobId
    attempt: int
    grant: Grant
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JobPreempted:
    """The attempt is told to leave. `for_job` takes its place; None: it moves, or its node leaves."""

    job_id: JobId
    attempt: int
    reason: str
    for_job: JobId | None = None


@dataclass(frozen=True, slots=True)
class JobClosed:
    """A job that never runs (again): cancelled, out of retries, dependency failed, …"""

    job_id: JobId
    state: str
    reason: str
    detail: str = ""


# ---- commands


@dataclass(frozen=True, slots=True)
class Launch:
    job_id: JobId
    attempt: int
    grant: Grant


@dataclass(frozen=True, slots=True)
class Preempt:
    """SIGTERM, grace, checkpoint kept; answered by `JobVacated` or `JobEnded`."""

    job_id: JobId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End the attempt (cancelled, over its time limit); answered by `JobEnded`."""

    job_id: JobId
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Solve:
    """Ask the optimiser; `problem` is a `fabric.scheduler.problem.Problem`. Answered by `PlanSolved`."""

    problem: Any


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `handle` again at this time even if nothing happens."""

    at_s: float


JobFact = (
    JobSubmitted | JobCancelRequested | JobReprioritised | JobEstimated | JobProgressed | JobStarted | LeaseRefused | JobVacated | JobEnded
    | NodesSeen | PolicyApplied | PlanSolved | JobDispatched | JobPreempted | JobClosed
)  # fmt: skip
RunFact = JobStarted | LeaseRefused | JobProgressed | JobVacated | JobEnded
"""What runners tell of one attempt."""
JobCommand = Launch | Preempt | Kill | Solve | WakeAt
JOURNALLED: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        JobSubmitted, JobCancelRequested, JobReprioritised, JobStarted, LeaseRefused, JobVacated, JobEnded, PolicyApplied,
        JobDispatched, JobPreempted, JobClosed,
    )
}  # fmt: skip
