"""The way of facts to the actor that decides: picklable, so that hosts on any node carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabric import ray_io
from fabric.job_events import JobFact

REPORT_TIMEOUT_S = 30.0
"""Longer than a busy journal takes: what was taken in and not answered comes twice."""


@dataclass(frozen=True, slots=True)
class ActorReport:
    """A `Report` that calls `report(epoch, facts)` of the named fabric actor and waits for its answer.

    Raises: UnavailableError while the actor is away; whatever it raises itself.
    """

    actor: str

    def __call__(self, epoch: int, facts: Sequence[JobFact]) -> None:
        ray_io.ask(ray_io.actor(self.actor).report.remote(epoch, tuple(facts)), REPORT_TIMEOUT_S)
