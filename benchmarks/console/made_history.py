"""A day of a large fabric, made up from a seed and written to a journal: nodes, leases that ended and go on, and jobs that wait.

Every lane of every node is held by one attempt after the other until now. Some fail, are preempted, run out of memory or lose
their node; some names are what an attacker would call a job.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fabric.job import Grant, JobId, JobSpec, Option, Shape
from fabric.job_events import (
    JobClosed,
    JobDispatched,
    JobEnded,
    JobFact,
    JobPreempted,
    JobStarted,
    JobSubmitted,
    JobVacated,
)
from fabric.journal import Batch, Journal
from fabric.plane.driver import STREAM
from fabric.types import Flavor, Node

DAY_S = 24 * 3600.0
USERS = ("ann", "bob", "cho", "dee", "eve", "<b>fay</b>")
QUEUES = ("default", "research", "prod", "batch")
NAMES = ("train-resnet", "tune-bert", "etl", "sweep", "eval", "render", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>')
OUTCOMES = ("ok",) * 16 + ("error", "error", "oom", "cancelled", "timeout", "lost")
KINDS = (("a100-80g", 0.3, 8, 4), ("t4", 0.3, 4, 4), ("cpu", 0.4, 32, 4))
"""Flavor, its part of all nodes, units of a node, lanes of a node."""


@dataclass(slots=True)
class Attempt:
    spec: JobSpec
    number: int
    grant: Grant


@dataclass(slots=True)
class History:
    """What is true when the journal ends."""

    nodes: list[Node]
    lanes: list[tuple[Node, float]]
    """(node, units) of each lane."""
    running: dict[int, Attempt] = field(default_factory=dict)
    waiting: list[JobSpec] = field(default_factory=list)


class Maker:
    """`now_s`: when the journal ends. Ids, names and times follow from the seed."""

    def __init__(self, catalogue: dict[str, Flavor], *, num_nodes: int, num_leases: int, num_waiting: int, seed: int, now_s: float) -> None:
        self._random = random.Random(seed)
        self._num_jobs = 0
        self._now_s, self._num_leases, self._num_waiting = now_s, num_leases, num_waiting
        self.history = History(*machines(catalogue, num_nodes))

    def write(self, journal: Journal, chunk: int = 5_000) -> int:
        """The number of facts."""
        facts = sorted(self._facts(), key=lambda each: each[0])
        for start in range(0, len(facts), chunk):
            journal.write([Batch(STREAM, (fact,), wall_s=at_s) for at_s, fact in facts[start : start + chunk]])
        return len(facts)

    def spec(self, at_s: float, units: float, flavor: str) -> JobSpec:
        """A new job that asks for one bundle."""
        self._num_jobs += 1
        chance, number = self._random, self._num_jobs
        job_id = JobId(f"{int(at_s * 1000):012x}"[-12:][:8] + f"-{number >> 16 & 0xFFFF:04x}-7{number & 0xFFF:03x}-8000-{number:012x}")
        shape = Shape("any") if flavor == "cpu" else Shape(flavor, accelerators=int(units))
        name = f"{chance.choice(NAMES)}-{number}"
        user, queue = chance.choice(USERS), chance.choice(QUEUES)
        return JobSpec(job_id, name, user, queue, chance.choice(("", "high", "low")), "program", (shape,), name.partition("-")[0], at_s)

    def begin(self, spec: JobSpec, number: int, lane: int) -> tuple[Attempt, list[JobFact]]:
        node, units = self.history.lanes[lane]
        grant = Grant(Option(0, node.flavor, 1, units, 1.0), (node.node_id,))
        dispatched = JobDispatched(spec.job_id, number, grant, "Fit", f"{units:g} of {node.flavor}")
        return Attempt(spec, number, grant), [dispatched, JobStarted(spec.job_id, number, grant.nodes)]

    def end(self, attempt: Attempt) -> list[JobFact]:
        """One way or the other; a preempted one waits again."""
        if self._random.random() < 0.08:
            reason = self._random.choice(("Preempted", "Moved"))
            for_job = attempt.spec.job_id if reason == "Preempted" else None
            self.history.waiting.append(attempt.spec)
            return [
                JobPreempted(attempt.spec.job_id, attempt.number, reason, for_job),
                JobVacated(attempt.spec.job_id, attempt.number, 0.5),
            ]
        outcome: Any = self._random.choice(OUTCOMES)
        return [JobEnded(attempt.spec.job_id, attempt.number, outcome, "" if outcome == "ok" else f"it ended with {outcome}")]

    def _facts(self) -> Iterator[tuple[float, JobFact]]:
        chance, lanes = self._random, self.history.lanes
        mean_s = DAY_S * len(lanes) / self._num_leases
        for lane, (node, units) in enumerate(lanes):
            at_s = self._now_s - DAY_S + chance.uniform(0, mean_s)
            while at_s < self._now_s:
                spec = self.spec(at_s - chance.uniform(1, 600), units, node.flavor)
                attempt, begun = self.begin(spec, 1, lane)
                yield spec.submitted_s, JobSubmitted(spec, spec.user)
                yield from zip((at_s, at_s + 2.0), begun, strict=True)
                ends_s = at_s + 4.0 + chance.lognormvariate(0.0, 1.2) * mean_s / 2.05
                if ends_s >= self._now_s:
                    self.history.running[lane] = attempt
                    break
                ended = self.end(attempt)
                yield from ((ends_s + 0.5 * step, fact) for step, fact in enumerate(ended))
                if isinstance(ended[-1], JobVacated):
                    yield ends_s + 2.0, JobClosed(spec.job_id, "CANCELLED", "Cancelled", "by ann")
                at_s = ends_s + chance.uniform(1, 30)
        self.history.waiting.clear()
        for _ in range(self._num_waiting):
            _, units = chance.choice(lanes)
            spec = self.spec(self._now_s - chance.uniform(0, 7200), units, chance.choice(("a100-80g", "t4")))
            self.history.waiting.append(spec)
            yield spec.submitted_s, JobSubmitted(spec, spec.user)


def machines(catalogue: dict[str, Flavor], num_nodes: int) -> tuple[list[Node], list[tuple[Node, float]]]:
    nodes, lanes = [], []
    for name, part, units, num_lanes in KINDS:
        flavor = catalogue[name]
        total = {"CPU": 32.0, "memory": 256e9} | ({} if flavor.is_cpu else {flavor.resource: units * flavor.units})
        for number in range(round(part * num_nodes)):
            node = Node(f"{name}-{number:04d}".encode().hex().ljust(56, "0")[:56], f"{name}-{number:04d}", flavor.tier, name, total)
            nodes.append(node)
            lanes += [(node, units / num_lanes)] * num_lanes
    return nodes, lanes
