"""An admission that notes when one watched job could start, and decides everything else as ever.

Invariant: the watched job never starts; whatever it is tried for, others do not see it, except that others leave for it.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeVar

from fabric.job import JobId, Option
from fabric.job_events import Launch
from fabric.scheduler.admission import Admission
from fabric.scheduler.holds import QuotaHold
from fabric.scheduler.record import JobRecord
from fabric.scheduler.refusal import Refusal
from fabric.scheduler.reserve import Reservation
from fabric.types import asleep_type

Way = tuple[int, str, int]
Hold = TypeVar("Hold", Reservation, QuotaHold)


def key_of(way: Option) -> Way:
    """Shape, flavor and number of bundles: the rate may be predicted anew."""
    return way[:3]


class Watching(Admission):
    """Notes when the watched job could start, and takes every such start back: others do not see it."""

    def __init__(self, admission: Admission) -> None:
        self.__dict__.update(vars(admission))
        self.watched: JobId | None = None
        self.wanted: tuple[Option, ...] = ()
        self.starts: dict[Way, Option] = {}
        self.preempting: set[Way] = set()
        self.waking: set[Way] = set()
        self.num_tries = 0

    def _try(self, job: JobRecord, hold_back_from_s: float) -> bool:
        self.num_tries += 1
        if job.spec.job_id != self.watched:
            return super()._try(job, hold_back_from_s)
        claim = self.claims.get(job.spec.job_id)
        is_first = not self.starts
        for way, may_wake in self._turns(job, (claim,) if claim is not None else self._by_score(job, job.ways)):
            if key_of(way) not in self.starts and self.probe(job, way, has_claim=claim is not None, may_wake=may_wake) is None:
                self.starts[key_of(way)] = way
        if claim is not None and key_of(claim) in self.starts:
            del self.claims[job.spec.job_id]
        if self.starts:
            job.ways = tuple(way for way in (self.wanted if is_first else job.ways) if key_of(way) not in self.starts)
            job.is_planned = False
            self.book.push(job)
        if not job.ways:
            self.book.backlog.drop(job)
            return True
        is_started = super()._try(job, hold_back_from_s)
        if job.spec.job_id in self.claims:
            self.preempting.add(key_of(self.claims[job.spec.job_id]))
        return is_started

    def probe(self, job: JobRecord, way: Option, *, has_claim: bool = False, may_wake: bool = True) -> tuple[str, str] | None:
        """Why the job could not start this way now, as (code, detail); None: it could. Changes nothing."""
        book, holds, claims, claimed = self.book, self.holds, dict(self.claims), self._claimed.copy()
        said, freed = (self.refusal, job.why, job.detail), set(book.freed_flavors)
        rooms = {flavor: _kept(hold) for flavor, hold in holds.rooms.items()}
        quotas = {scope: _kept(hold) for scope, hold in holds.quotas.items()}
        self.refusal = Refusal()
        # The start is decided as ever, but not written into the book.
        vars(book)["decide"] = lambda _fact: None
        try:
            is_possible = self._start(job, way, has_claim=has_claim, may_wake=may_wake)
        finally:
            del vars(book)["decide"]
        refused = None if is_possible else (self.refusal.why, self.refusal.detail)
        if is_possible:
            launch = book.commands.pop()
            assert isinstance(launch, Launch)
            if any(asleep_type(node) is not None for node in launch.grant.nodes):
                self.waking.add(key_of(way))
            book.machines.give(launch.grant.nodes, book.demand(job, way))
        holds.rooms, holds.quotas, self.claims, self._claimed = rooms, quotas, claims, claimed
        book.freed_flavors, (self.refusal, job.why, job.detail) = freed, said
        return refused


def _kept(hold: Hold) -> Hold:
    """A promise with a memory of its own for what is to spare."""
    return dataclasses.replace(hold, spare=copy.deepcopy(hold.spare))
