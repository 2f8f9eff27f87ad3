"""Looks up jobs and shows them: the core's records, with what is kept of each beside the core.

All but `keep` are called under the core's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fabric.errors import UnknownNameError
from fabric.job import JobId
from fabric.job_events import JobFact
from fabric.job_form import JobView
from fabric.journal import Journal
from fabric.plane import views
from fabric.plane.driver import STREAM, WallClock
from fabric.plane.views import NOTED, Aside
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState


class Shelf:
    """`twins`: flavors whose nodes are twins."""

    def __init__(self, core: Core, journal: Journal, clock: WallClock, asides: dict[JobId, Aside]) -> None:
        self.asides = asides
        self.twins: frozenset[str] = frozenset()
        self._core = core
        self._journal = journal
        self._clock = clock

    def keep(self, job_id: JobId, summary: Mapping[str, Any]) -> None:
        """What a new job is shown with."""
        self.asides[job_id] = Aside(summary)

    def note(self, facts: Sequence[JobFact]) -> None:
        """After every turn, with all that was applied."""
        for fact in facts:
            if isinstance(fact, NOTED):
                self.aside(fact.job_id).note(fact, self._core.book.now_s)

    def aside(self, job_id: JobId) -> Aside:
        return self.asides.setdefault(job_id, Aside(None))

    def find(self, text: str) -> JobRecord:
        """Raises: UnknownNameError (`unknown_job`)."""
        found = views.find(self._core, text)
        if found is None:
            raise UnknownNameError(f"unknown job {text!r}", code="unknown_job", hint="`fabric queue` lists jobs", name=text)
        return found

    def view(self, job: JobRecord, places: Mapping[JobId, int] | None = None) -> JobView:
        aside = self.aside(job.spec.job_id)
        if aside.summary is None:
            kept = self._journal.document(STREAM, job.spec.job_id)
            aside.summary = kept.get("summary", {}) if isinstance(kept, dict) else {}
        place = None if places is None else places.get(job.spec.job_id)
        return views.view_of(self._core, job, aside, self.twins, self._clock.now_s(), place)

    def places(self) -> dict[JobId, int]:
        """The place of each job that waits, from 1."""
        return {job.spec.job_id: place for place, job in enumerate(views.in_order(self._core), 1)}

    def listed(self, queue: str | None, user: str | None, states: Collection[JobState], array: str | None, limit: int) -> list[JobView]:
        """See `fabric.api.port.JobPlanePort.jobs`."""
        places = self.places()
        wanted = [
            job
            for job in self._core.jobs.values()
            if queue in (None, job.spec.queue)
            and user in (None, job.spec.user)
            and array in (None, job.spec.array_id)
            and (not states or job.state in states)
        ]
        wanted.sort(key=lambda job: (job.state.is_final, not job.is_holding, places.get(job.spec.job_id, 0), -job.ended_s))
        return [self.view(job, places) for job in wanted[:limit]]
