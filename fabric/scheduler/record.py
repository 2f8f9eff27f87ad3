"""What the core knows of one job: the mutable record behind its frozen spec.

Invariants: `grant` is there exactly while the state holds a lease; `done` never shrinks but by a preemption or a lost attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fabric.job import Grant, JobEstimate, JobSpec, Option
from fabric.policy import PriorityClass
from fabric.states import HOLDING, JobState

LAST_RANK = 1e12
"""A job that no plan knows yet."""


@dataclass(slots=True)
class JobRecord:
    """Times are the core's `now_s`. `done` is work kept so far as of `seen_s`, in the unit of its estimate; `checkpointed` what a
    preemption keeps of it; `total` is all work in the unit that the job itself counts in, where it has told.

    `ways` are the options it may take, best first; `why` is the code of why it waits; `not_before_s` ends a back-off.
    `cls` is the class that it was queued with; `expects` are the jobs that were told to leave for it. `memory_factor`
    multiplies its memory after running out of it; `spent_usd` is what its attempts have cost, `unit_seconds` what they held,
    `accelerator_seconds` the part of it that was no vCPUs.
    """

    spec: JobSpec
    state: JobState = JobState.PENDING
    attempt: int = 0
    num_failures: int = 0
    num_ooms: int = 0
    num_lost: int = 0
    estimate: JobEstimate | None = None
    ways: tuple[Option, ...] = ()
    cls: PriorityClass | None = None
    rank: float = LAST_RANK
    is_planned: bool = False
    grant: Grant | None = None
    dispatched_s: float = 0.0
    started_s: float = 0.0
    done: float = 0.0
    checkpointed: float = 0.0
    total: float | None = None
    seen_s: float = 0.0
    seen_rate: float | None = None
    spent_usd: float = 0.0
    unit_seconds: float = 0.0
    accelerator_seconds: float = 0.0
    why: str = ""
    detail: str = ""
    not_before_s: float = 0.0
    num_deps_left: int = 0
    memory_factor: float = 1.0
    excluded: tuple[str, ...] = ()
    cancel_requested: bool = False
    ended_s: float = 0.0
    ends_s: float | None = None
    """When the running attempt is predicted to end, kept until something is heard of it; see `left_s`."""
    expects: tuple[JobRecord, ...] = field(default=(), repr=False, compare=False)
    ways_known: tuple[tuple[object, ...], tuple[Option, ...]] | None = field(default=None, repr=False, compare=False)
    group: object = field(default=None, repr=False, compare=False)
    ticket: int = 0
    """Grows when it is queued anew, so that its old places in heaps are known for stale."""

    @property
    def is_holding(self) -> bool:
        return self.state in HOLDING

    @property
    def is_leaving(self) -> bool:
        return self.state is JobState.PREEMPTING

    @property
    def rate(self) -> float:
        """Work per second of the running attempt: as measured, else as predicted."""
        if self.grant is None:
            return 0.0
        return self.seen_rate or self.grant.option.rate

    def done_at(self, now_s: float, restart_s: float) -> float:
        """Work done by now, going on from the last report at the measured or predicted rate."""
        if self.state is not JobState.RUNNING:
            return self.done
        since = max(self.seen_s, self.started_s + restart_s)
        done = self.done + max(0.0, now_s - since) * self.rate
        return min(done, self.work) if self.estimate else done

    def measured(self, told: float) -> float:
        """What the job says that it has done, in the unit of its estimate (an estimate from its family's history counts whole jobs)."""
        return told * self.work / self.total if self.total else told

    def take_estimate(self, estimate: JobEstimate) -> None:
        """From now on this is what is predicted; where its unit is another, all that is measured in it is brought to that."""
        scale = estimate.work / self.work if self.total and self.work else 1.0
        self.done, self.checkpointed = self.done * scale, self.checkpointed * scale
        if scale != 1.0 and self.grant is not None:
            self.seen_rate = self.rate * scale
        self.estimate, self.ends_s = estimate, None

    @property
    def work(self) -> float:
        return self.estimate.work if self.estimate else 1.0

    def remaining_s(self, now_s: float, restart_s: float) -> float:
        """Predicted seconds until the running attempt ends; infinite where nothing is known."""
        if self.grant is None or self.estimate is None or not self.rate:
            return float("inf")
        warmup = max(0.0, self.started_s + restart_s - now_s)
        left = warmup + max(0.0, self.work - self.done_at(now_s, restart_s)) / self.rate
        if self.spec.timeout_s is not None:
            left = min(left, max(0.0, self.started_s + self.spec.timeout_s - now_s))
        return left

    def left_s(self, now_s: float, restart_s: float) -> float:
        """The same as `remaining_s`, worked out once for many questions."""
        if self.state is not JobState.RUNNING:
            return self.remaining_s(now_s, restart_s)
        if self.ends_s is None:
            self.ends_s = now_s + self.remaining_s(now_s, restart_s)
        return max(0.0, self.ends_s - now_s)
