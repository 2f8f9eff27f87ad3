"""A job plane from what its predecessor left on disk, and what of that is still alive.

Replay applies facts and decides nothing. What was begun and not confirmed is then compared with the runners: an attempt
that nobody leads is lost, and starts again only after the time in which it may still have been alive elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fabric import codec, columns
from fabric.job import JobId
from fabric.job_events import JOURNALLED, JobDispatched, JobEnded, JobFact, JobStarted, Kill, Preempt
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.plane.plane import FAMILIES, JobPlane
from fabric.plane.views import Aside
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState
from profiler.families import Families
from profiler.store import from_document

EPOCHS = "epochs"
LEFT_OUT = ("group", "expects", "ways", "ways_known")
_KINDS: Mapping[str, type] = {"JobRecord": JobRecord}


@dataclass(slots=True)
class Restored:
    """`last_s`: the wall-clock time of the newest fact; the new plane's clock does not begin before it."""

    core: Core
    asides: dict[JobId, Aside]
    last_s: float
    num_facts: int


def next_epoch(journal: Journal) -> int:
    """One more than any scheduler before; on disk when it returns."""
    epoch = int(journal.document(STREAM, EPOCHS) or 0) + 1
    journal.save(STREAM, {EPOCHS: epoch})
    return epoch


def restore(journal: Journal, core: Core) -> Restored:
    """Bring a fresh core to where the journal ends: the snapshot, then the facts behind it."""
    asides: dict[JobId, Aside] = {}
    seq, last_s, count = 0, 0.0, 0
    snapshot = journal.load_snapshot(STREAM)
    policy = list(journal.entries(STREAM, kinds=("PolicyApplied",)))
    if snapshot is not None:
        seq, chunks = snapshot
        before = [entry for entry in policy if entry.seq <= seq]
        if before:
            core.replay(_fact(before[-1].kind, before[-1].body), before[-1].wall_s)
        core.book.load(columns.unpack_all(_KINDS, chunks)["JobRecord"])
    for entry in journal.entries(STREAM, seq):
        fact = _fact(entry.kind, entry.body)
        core.replay(fact, entry.wall_s)
        _note(asides, fact, entry.wall_s)
        last_s, count = max(last_s, entry.wall_s), count + 1
    return Restored(core, asides, last_s, count)


def save_snapshot(journal: Journal, plane: JobPlane) -> int:
    """Keep the state as it is now; returns the number of jobs in it."""
    with plane.driver.lock:
        seq = journal.last_seq(STREAM)
        jobs = list(plane.core.jobs.values())
        chunks = list(columns.pack(jobs, leave_out=LEFT_OUT)) if jobs else []
    journal.save_snapshot(STREAM, seq, chunks)
    return len(jobs)


def restore_families(journal: Journal, families: Families) -> None:
    families.restore(from_document(document) for document in journal.load(FAMILIES).values())


def reconcile(plane: JobPlane, living: Collection[tuple[JobId, int]], *, takeover_s: float) -> None:
    """Compare with what is alive: lead it again, or give it up `takeover_s` from now."""
    lost: list[JobFact] = []
    for job in list(plane.core.book.holding.values()):
        key = (job.spec.job_id, job.attempt)
        if key not in living:
            lost.append(JobEnded(*key, "lost", "it was gone when the scheduler came back"))
        elif job.cancel_requested:
            plane.perform(Kill(*key, "cancelled"))
        elif job.state is JobState.PREEMPTING:
            plane.perform(Preempt(*key, "Preempted"))
    if lost and takeover_s > 0:
        timer = threading.Timer(takeover_s, plane.driver.tell, lost)
        timer.daemon = True
        timer.start()
    elif lost:
        plane.driver.tell(*lost)


def _fact(kind: str, body: dict[str, Any]) -> JobFact:
    fact: JobFact = codec.fact_of(JOURNALLED, kind, body)
    return fact


def _note(asides: dict[JobId, Aside], fact: JobFact, wall_s: float) -> None:
    match fact:
        case JobDispatched():
            aside = asides.setdefault(fact.job_id, Aside())
            aside.option, aside.nodes = fact.grant.option, fact.grant.nodes
        case JobStarted():
            asides.setdefault(fact.job_id, Aside()).started_s = wall_s
        case JobEnded():
            asides.setdefault(fact.job_id, Aside()).exit_code = fact.exit_code
