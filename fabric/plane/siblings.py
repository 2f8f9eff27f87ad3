"""Waiting jobs are predicted anew once their family's history, or the progress of one of them, says something else.

Invariants: only jobs that have not run yet; only where the prediction differs by `NEWS_FRAC`; a few at a time, so that ten thousand of
a family never hold up the scheduler's turn.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

from fabric.job import JobEstimate
from fabric.job_events import JobEstimated
from fabric.plane.driver import Driver
from fabric.scheduler.record import JobRecord
from profiler.families import Families

NEWS_FRAC = 0.2
BATCH = 200


class Siblings:
    def __init__(self, families: Families, driver: Driver) -> None:
        self._families = families
        self._driver = driver
        self._lock = threading.Lock()
        self._changed: set[str] = set()

    def note(self, family: str) -> None:
        """Something new is known of this family."""
        with self._lock:
            self._changed.add(family)

    def first(self, family: str) -> list[JobEstimated]:
        """Under the scheduler's lock: what is predicted now of the first of them, to be told together with what it follows from, lest a
        plan is made in between; the others' turn comes with `renew`."""
        self.note(family)
        return list(itertools.islice(self._news({family}), BATCH))

    def renew(self) -> None:
        """Tell the scheduler what is predicted now. Blocks until it has taken it in."""
        with self._lock:
            families, self._changed = self._changed, set()
        if not families:
            return
        with self._driver.lock:
            facts = list(self._news(families))
        for start in range(0, len(facts), BATCH):
            self._driver.tell_and_wait(*facts[start : start + BATCH])

    def _news(self, families: set[str]) -> Iterator[JobEstimated]:
        for job in self._driver.core.book.backlog.all_waiting():
            if job.attempt == 0 and job.spec.family in families:
                estimate = self._families.estimate(job.spec)
                if _is_news(job, estimate):
                    yield JobEstimated(job.spec.job_id, estimate)


def _is_news(job: JobRecord, estimate: JobEstimate) -> bool:
    last = job.estimate
    if last is None or last.rates.keys() != estimate.rates.keys():
        return True
    before = {way: rate / last.work for way, rate in last.rates.items()}
    return any(abs(rate / estimate.work - before[way]) > NEWS_FRAC * before[way] for way, rate in estimate.rates.items())
