"""The seams between the scheduler and what carries out its commands: protocols, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Outcome
from fabric.job_events import RunFact

Report = Callable[[int, Sequence[RunFact]], None]
"""`report(epoch, facts)`: how a runner tells the scheduler. Raises where that is away: the runner keeps the facts and tries again."""


class RunnerPort(Protocol):
    """Starts, stops and finds attempts. Every call is idempotent by (job_id, attempt) and returns at once; what came of it
    arrives as facts: `JobStarted` or `LeaseRefused` after `launch`, `JobVacated` or `JobEnded` after `preempt`, `JobEnded`
    in the end. An `epoch` lower than one that was seen before is refused."""

    def launch(self, epoch: int, spec: JobSpec, how: LaunchSpec, attempt: int, grant: Grant) -> None: ...

    def preempt(self, epoch: int, job_id: JobId, attempt: int) -> None: ...

    def kill(self, epoch: int, job_id: JobId, attempt: int, outcome: Outcome) -> None: ...

    def living(self) -> Sequence[tuple[JobId, int]]:
        """The attempts that are alive now: what a restarted scheduler reconciles with."""
        ...
