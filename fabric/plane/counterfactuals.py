"""What would let a waiting job start now: changes of its request, each tried on a copy of the core.

Only what is true is told: a change is listed when the core, asked about the changed job in place of the real one, starts it at
once, or makes others leave for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fabric.job import SCALING, JobEstimate, JobSpec, Option, Shape
from fabric.plane.changes import KINDS, MANY
from fabric.plane.core_copy import copy_of
from fabric.plane.watching import Watching
from fabric.scheduler.core import Core
from fabric.scheduler.preemption import LEAVE_S
from fabric.scheduler.record import JobRecord

GB = 1e9
MOST = 6
EstimateOf = Callable[[JobSpec], JobEstimate]


class Expected(NamedTuple):
    """What the job has before it as it is: finish in seconds from now, cost; None: not known."""

    finish_s: float | None
    cost_usd: float | None


def counterfactual_rows(
    core: Core, job: JobRecord, expected: Expected, now_s: float, estimate_of: EstimateOf | None = None
) -> list[dict[str, Any]]:
    """The rows of `fabric.job_answers.COUNTERFACTUAL_KEYS`, at most `MOST`. `estimate_of` predicts a changed job; without it only
    flavors of which the job's own estimate knows have figures."""
    found: dict[str, dict[str, Any]] = {}
    trials = _Trials(core, job, now_s, estimate_of)
    for kind in KINDS:
        for change in kind(core, job):
            if len(found) == MOST:
                break
            tried = trials.start(change.spec)
            if tried is None:
                continue
            record, way, start_s = tried
            found.setdefault(change.words, _row(core, record, way, start_s, change.words, expected))
            if kind not in MANY:
                break
    return list(found.values())


def _row(core: Core, job: JobRecord, way: Option, start_s: float, words: str, expected: Expected) -> dict[str, Any]:
    standing, restart_s = core.book.standing, core.book.policy.restart_s
    run_s = restart_s + max(0.0, job.work - job.done) / way.rate if way.rate > 0 else None
    has_price = way.flavor in standing.prices and run_s is not None
    return {
        "change": words,
        "start_s": start_s,
        "finish_delta_s": start_s + run_s - expected.finish_s if run_s is not None and expected.finish_s is not None else None,
        "cost_delta_usd": run_s * standing.usd_per_s(way) - expected.cost_usd
        if has_price and run_s is not None and expected.cost_usd is not None
        else None,
    }


class _Trials:
    """One copy of the core, without the job; it is made anew after a trial that made others leave."""

    def __init__(self, core: Core, job: JobRecord, now_s: float, estimate_of: EstimateOf | None) -> None:
        self._core, self._job, self._now_s, self._estimate_of = core, job, now_s, estimate_of
        self._watching: Watching | None = None

    def start(self, spec: JobSpec) -> tuple[JobRecord, Option, float] | None:
        """The changed job's record, the way in which it would start, and in how many seconds; None: it would not."""
        watching = self._watching = self._watching or self._without_job()
        book, record = watching.book, self._record(spec)
        book.jobs[spec.job_id] = record
        record.num_deps_left = sum(other in book.jobs for other in spec.after)
        book.enqueue(record)
        rooms, quotas = dict(watching.holds.rooms), dict(watching.holds.quotas)
        watching.watched, watching.wanted, watching.starts = spec.job_id, record.ways, {}
        if record.group is not None:
            watching._try(record, math.inf)
        claim, way = watching.claims.get(spec.job_id), next(iter(watching.starts.values()), None)
        book.backlog.drop(record)
        book.jobs.pop(spec.job_id)
        watching.holds.rooms, watching.holds.quotas = rooms, quotas
        if claim is not None:
            self._watching = None
        if way is not None:
            return record, way, 0.0
        return (record, claim, LEAVE_S) if claim is not None else None

    def _without_job(self) -> Watching:
        watching, job_id = Watching(copy_of(self._core, self._now_s).admission), self._job.spec.job_id
        watching.book.backlog.drop(watching.book.jobs[job_id])
        watching.book.jobs.pop(job_id)
        watching.claims.pop(job_id, None)
        holds = watching.holds
        holds.rooms = {flavor: hold for flavor, hold in holds.rooms.items() if hold.job_id != job_id}
        holds.quotas = {scope: hold for scope, hold in holds.quotas.items() if hold.job_id != job_id}
        return watching

    def _record(self, spec: JobSpec) -> JobRecord:
        job = self._job
        return JobRecord(
            spec,
            estimate=self._estimate(spec),
            done=job.done,
            checkpointed=job.checkpointed,
            spent_usd=job.spent_usd,
            memory_factor=job.memory_factor,
            excluded=job.excluded,
        )

    def _estimate(self, spec: JobSpec) -> JobEstimate | None:
        """The job's own estimate, carried over to other shapes in the ratio of what is predicted for both; None: nothing is."""
        own, last = self._job.estimate, self._job.spec
        if own is None:
            return None
        fresh, known = (self._estimate_of(each).rates if self._estimate_of is not None else {} for each in (spec, last))
        factor = next((rate / known[way] for way, rate in own.rates.items() if known.get(way)), None)
        rates = {}
        for number, shape in enumerate(spec.shapes):
            for flavor in self._core.book.ways.flavors(shape):
                way = (number, flavor)
                if factor is not None and way in fresh:
                    rates[way] = factor * fresh[way]
                elif way in own.rates:
                    rates[way] = own.rates[way] * (_size(shape) / _size(last.shapes[number])) ** SCALING
        return dataclasses.replace(own, rates=rates) if rates else None


def _size(shape: Shape) -> float:
    return max(1.0, (shape.accelerators or shape.cpus) * shape.num_bundles)
