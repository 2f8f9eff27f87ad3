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
from fabric.job import AttemptUse, JobId, Option
from fabric.job_events import JOURNALLED, JobEnded, JobFact, Kill, Preempt
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.plane.plane import FAMILIES, JobPlane
from fabric.plane.views import NOTED, Aside
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.scheduler.standing import Used
from fabric.states import JobState
from profiler.families import Families
from profiler.store import from_document

LEFT_OUT = ("group", "expects", "ways", "ways_known")


@dataclass(frozen=True, slots=True)
class Shown:
    """What listings show of a job, see `Aside`; its summary lies with the job's launch document."""

    job_id: JobId
    option: Option | None = None
    nodes: tuple[str, ...] = ()
    started_s: float | None = None
    exit_code: int | None = None
    total: float | None = None
    use: AttemptUse | None = None
    use_attempt: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """The core's time at the snapshot."""

    now_s: float


KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (JobRecord, Shown, Used, Moment)}


@dataclass(slots=True)
class Restored:
    """`last_s`: the wall-clock time of the newest fact; the new plane's clock does not begin before it."""

    core: Core
    asides: dict[JobId, Aside]
    last_s: float
    num_facts: int


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
        rows = columns.unpack_all(KINDS, chunks)
        last_s = rows["Moment"][0].now_s if rows["Moment"] else 0.0
        core.book.load(rows["JobRecord"], rows["Used"], last_s)
        for row in rows["Shown"]:
            aside = Aside(None, row.option, row.nodes, row.started_s, row.exit_code, row.total)
            aside.use, aside.use_attempt = row.use, row.use_attempt
            asides[row.job_id] = aside
    for entry in journal.entries(STREAM, seq):
        fact = _fact(entry.kind, entry.body)
        core.replay(fact, entry.wall_s)
        if isinstance(fact, NOTED):
            asides.setdefault(fact.job_id, Aside(None)).note(fact, entry.wall_s)
        last_s, count = max(last_s, entry.wall_s), count + 1
    return Restored(core, asides, last_s, count)


def save_snapshot(journal: Journal, plane: JobPlane) -> int:
    """Keep the state as it is now; returns the number of jobs in it.

    Facts are on disk before the core has them: the snapshot claims only those that have been applied for certain. What it has
    of later ones changes nothing when they are replayed. Raises: RuntimeFault (`not_settled`, `journal`).
    """
    seq = plane.settled_seq()
    with plane.driver.lock:
        num_jobs, chunks = len(plane.core.jobs), snapshot_of(plane.core, plane.shelf.asides)
    journal.save_snapshot(STREAM, seq, chunks)
    return num_jobs


def snapshot_of(core: Core, asides: Mapping[JobId, Aside]) -> list[bytes]:
    """The chunks of a snapshot: jobs, what listings show of them, what was used and spent, and the time."""
    now_s = core.book.now_s
    shown = [
        Shown(job_id, one.option, one.nodes, one.started_s, one.exit_code, one.total, one.use, one.use_attempt)
        for job_id, one in asides.items()
    ]
    chunks: list[bytes] = []
    for rows in ([Moment(now_s)], core.book.standing.kept(now_s), shown):
        chunks += columns.pack(rows) if rows else ()
    jobs = list(core.jobs.values())
    return [*chunks, *columns.pack(jobs, leave_out=LEFT_OUT)] if jobs else chunks


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
