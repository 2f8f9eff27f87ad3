"""A read model from the journal: the scheduler's snapshot, the facts behind it, and the leases of the last day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric import columns
from fabric.console.job_row import restored_row
from fabric.console.read_model import ReadModel
from fabric.journal import Entry, Journal
from fabric.plane.driver import STREAM
from fabric.plane.restore import KINDS
from fabric.types import Flavor

HORIZON_S = 24 * 3600.0
"""How far back the timeline goes."""
LEASE_KINDS = frozenset({"JobDispatched", "JobStarted", "JobPreempted", "JobVacated", "JobEnded", "LeaseRefused"})


def restored(journal: Journal, catalogue: Mapping[str, Flavor], now_s: float) -> ReadModel:
    """Where the journal ends. Raises: FabricError (`journal`, `journal_newer`)."""
    model = ReadModel(catalogue)
    snapshot = journal.load_snapshot(STREAM)
    if snapshot is not None:
        seq, chunks = snapshot
        rows = columns.unpack_all(KINDS, chunks)
        shown = {one.job_id: one for one in rows["Shown"]}
        for record in rows["JobRecord"]:
            model.table.take(restored_row(record, shown.get(record.spec.job_id)))
        _leases_until(seq, model, journal, now_s)
        model.seq = seq
        model.newest_s = rows["Moment"][0].now_s if rows["Moment"] else 0.0
    for entry in journal.entries(STREAM, model.seq):
        model.apply(entry)
    model.changed()
    return model


def _leases_until(seq: int, model: ReadModel, journal: Journal, now_s: float) -> None:
    """The leases of the last day up to fact `seq`, which the jobs of the snapshot show already."""
    horizon_s = now_s - HORIZON_S
    first = journal.first_since(STREAM, horizon_s)
    entries: list[Entry] = [] if first is None else list(_up_to(journal, first - 1, seq))
    begun = {_attempt(entry.body) for entry in entries if entry.kind == "JobDispatched"}
    missing = {_attempt(entry.body) for entry in entries if entry.kind != "JobDispatched"} - begun
    missing |= {(row.id, row.attempt) for row in model.table.rows if row.is_holding} - begun
    older = [entry for job_id, attempt in sorted(missing) for entry in _story(journal, job_id, attempt, entries[0].seq if entries else seq)]
    for entry in sorted((*older, *entries)):
        number = model.table.numbers.get(entry.body["job_id"])
        if number is not None:
            model.book.apply(entry.kind, entry.body, entry.wall_s, number)
    model.book.forget(horizon_s)


def _up_to(journal: Journal, after_seq: int, seq: int) -> Any:
    for entry in journal.entries(STREAM, after_seq, kinds=LEASE_KINDS):
        if entry.seq > seq:
            return
        yield entry


def _story(journal: Journal, job_id: str, attempt: int, before_seq: int) -> list[Entry]:
    """What happened to an attempt before a fact that is known anyway."""
    found = (entry for entry in journal.story(STREAM, job_id) if entry.seq < before_seq and entry.kind in LEASE_KINDS)
    return [entry for entry in found if _attempt(entry.body)[1] == attempt]


def _attempt(body: Mapping[str, Any]) -> tuple[str, int]:
    return body["job_id"], body["attempt"]
