"""A core without an optimiser whose facts are written to a real journal, as its shell does, and runners that do what they are told."""

from __future__ import annotations

import random
from pathlib import Path

from fabric.job import JobId, Outcome, Shape
from fabric.job_events import JOURNALLED, JobCancelRequested, JobEnded, JobFact, JobReprioritised, JobStarted, JobVacated, LeaseRefused
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.plane.restore import snapshot_of
from fabric.plane.views import NOTED, Aside
from fabric.policy import Policy, PriorityClass
from fabric.scheduler.core import Decision
from fabric.states import JobState
from fabric.types import Node
from tests.jobs import Desk, machine, spec

BEGIN_S = 1.7e9
CLASSES = (PriorityClass("high", value=10), PriorityClass("low"))
OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "oom", "timeout", "lost", "cancelled", "budget")
MACHINES = (machine("a1"), machine("a2", gpus=2.0))


class JournalledDesk(Desk):
    """`step(chance)` is something that happens, ten seconds after the last."""

    def __init__(self, folder: Path, *nodes: Node) -> None:
        self.journal = Journal(f"sqlite:///{folder / 'journal.db'}")
        self.asides: dict[JobId, Aside] = {}
        super().__init__(*(nodes or MACHINES), policy=Policy(classes=CLASSES, restart_s=0.0))
        self.now_s = BEGIN_S

    def tell(self, *facts: JobFact, at_s: float | None = None) -> Decision:
        decision = super().tell(*facts, at_s=at_s)
        applied = (*facts, *decision.facts)
        for fact in applied:
            if isinstance(fact, NOTED):
                self.asides.setdefault(fact.job_id, Aside({})).note(fact, self.now_s)
        written = [fact for fact in applied if type(fact).__name__ in JOURNALLED]
        if written:
            self.journal.append_all(STREAM, written, wall_s=self.now_s)
        return decision

    def save_snapshot(self) -> None:
        self.journal.save_snapshot(STREAM, self.journal.last_seq(STREAM), snapshot_of(self.core, self.asides))

    def step(self, chance: random.Random) -> None:
        self.tell(at_s=self.now_s + 10.0)
        holding = [job for job in self.core.jobs.values() if job.is_holding]
        if not holding or chance.random() < 0.3:
            self._submit(chance)
            return
        job = chance.choice(holding)
        key, lot = (job.spec.job_id, job.attempt), chance.random()
        if lot < 0.05:
            self.tell(JobReprioritised(chance.choice(list(self.core.jobs)), chance.choice(("high", "low", "")), "ann"))
        elif lot < 0.1:
            self.tell(JobCancelRequested(chance.choice(list(self.core.jobs)), "ann"))
        elif job.state is JobState.ADMITTED:
            moved = ("a2",) * len(job.grant.nodes) if job.grant is not None and lot > 0.9 else ()
            self.tell(JobStarted(*key, moved) if lot > 0.3 else LeaseRefused(*key, "no room"))
        elif job.state is JobState.PREEMPTING and lot > 0.3:
            self.tell(JobVacated(*key, 0.5))
        else:
            outcome = chance.choice(OUTCOMES)
            self.tell(JobEnded(*key, outcome, f"it was {outcome}", chance.choice((None, 0, 1))))

    def _submit(self, chance: random.Random) -> None:
        name = f"j{len(self.core.jobs)}"
        others = tuple(chance.sample(list(self.core.jobs), min(len(self.core.jobs), chance.choice((0, 0, 0, 1)))))
        shape = Shape("a100", chance.choice((1, 1, 2, 4)), num_bundles=chance.choice((1, 1, 2)))
        self.submit(
            spec(
                name,
                shape,
                user=chance.choice(("ann", "bob", "<script>")),
                priority=chance.choice(("high", "low", "low")),
                max_retries=chance.choice((0, 2)),
                after=others,
                submitted_s=self.now_s,
            ),
            run_s=600.0,
        )
