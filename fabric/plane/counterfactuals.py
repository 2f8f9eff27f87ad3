"""What would let a waiting job start now: changes of its request, each tried on a copy of the core.

Only what is true is told: a change is listed when the core, asked about the changed job in place of the real one, starts it at
once, or makes others leave for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fabric.job import JobEstimate, JobId, JobSpec, Option, Shape
from fabric.plane.core_copy import copy_of
from fabric.plane.rehearsal import LEAVE_S, Watching
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core
from fabric.scheduler.machines import EPSILON, fits
from fabric.scheduler.record import JobRecord
from fabric.scheduler.ways import MEMORY, SCALING

GB = 1e9
MOST = 6
EstimateOf = Callable[[JobSpec], JobEstimate]


class Expected(NamedTuple):
    """What the job has before it as it is: finish in seconds from now, cost; None: not known."""

    finish_s: float | None
    cost_usd: float | None


class _Change(NamedTuple):
    words: str
    spec: JobSpec


def counterfactual_rows(
    core: Core, job: JobRecord, expected: Expected, now_s: float, estimate_of: EstimateOf | None = None
) -> list[dict[str, Any]]:
    """The rows of `fabric.job_answers.COUNTERFACTUAL_KEYS`, at most `MOST`. `estimate_of` predicts a changed job; without it only
    flavors of which the job's own estimate knows have figures."""
    found: dict[str, dict[str, Any]] = {}
    trials = _Trials(core, job, now_s, estimate_of)
    for kind in (_other_places, _less_memory, _fewer_cpus, _fewer_accelerators, _fewer_bundles, _other_queues, _without, _other_classes):
        for change in kind(core, job):
            if len(found) == MOST:
                break
            tried = trials.start(change.spec)
            if tried is None:
                continue
            record, way, start_s = tried
            found.setdefault(change.words, _row(core, record, way, start_s, change.words, expected))
            if kind not in (_other_places, _other_queues):
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
        self._copy: Core | None = None

    def start(self, spec: JobSpec) -> tuple[JobRecord, Option, float] | None:
        """The changed job's record, the way in which it would start, and in how many seconds; None: it would not."""
        copy = self._copy = self._copy or self._without_job()
        book, watching = copy.book, copy.admission
        assert isinstance(watching, Watching)
        record = self._record(spec)
        book.jobs[spec.job_id] = record
        record.num_deps_left = sum(other in book.jobs for other in spec.after)
        book.enqueue(record)
        watching.watched, watching.wanted, watching.starts, watching.preempting = spec.job_id, record.ways, {}, set()
        before = watching.reservation
        watching.run(float("inf"))
        claim, way = watching.claims.get(spec.job_id), next(iter(watching.starts.values()), None)
        book.backlog.drop(record)
        book.jobs.pop(spec.job_id)
        watching.reservation = before
        book.facts, book.commands = [], []
        if claim is not None and way is None:
            self._copy = None
            return record, claim, LEAVE_S
        return None if way is None else (record, way, 0.0)

    def _without_job(self) -> Core:
        copy, job_id = copy_of(self._core, self._now_s, Watching), self._job.spec.job_id
        copy.book.backlog.drop(copy.book.jobs[job_id])
        copy.book.jobs.pop(job_id)
        copy.admission.claims.pop(job_id, None)
        reservation = copy.admission.reservation
        if reservation is not None and reservation.job_id == job_id:
            copy.admission.reservation = None
        return copy

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
        """The job's own estimate, carried over to other shapes in the ratio of what is predicted for both."""
        own = self._job.estimate
        if own is None:
            return None
        fresh = self._estimate_of(spec).rates if self._estimate_of is not None else {}
        known = self._estimate_of(self._job.spec).rates if self._estimate_of is not None else {}
        factor = next((rate / known[way] for way, rate in own.rates.items() if known.get(way)), None)
        rates = {}
        for number, shape in enumerate(spec.shapes):
            for flavor in self._core.book.ways.flavors(shape):
                if factor is not None and (number, flavor) in fresh:
                    rates[number, flavor] = factor * fresh[number, flavor]
                elif (rate := own.rates.get((number, flavor))) is not None:
                    rates[number, flavor] = rate * (_size(shape) / _size(self._job.spec.shapes[number])) ** SCALING
        is_known = all(
            (number, flavor) in rates for number, shape in enumerate(spec.shapes) for flavor in self._core.book.ways.flavors(shape)
        )
        return dataclasses.replace(own, rates=rates) if is_known else None


def _size(shape: Shape) -> float:
    return max(1.0, (shape.accelerators or shape.cpus) * shape.num_bundles)


# ---- what may be changed


def _reshaped(job: JobRecord, **changes: Any) -> JobSpec:
    """No shape asks for more than before."""
    shapes = []
    for shape in job.spec.shapes:
        least = {name: min(getattr(shape, name), value) for name, value in changes.items()}
        shapes.append(dataclasses.replace(shape, **least, max_bundles=min(shape.max_bundles, least.get("num_bundles", shape.max_bundles))))
    return dataclasses.replace(job.spec, shapes=tuple(shapes))


def _other_places(core: Core, job: JobRecord) -> Iterator[_Change]:
    """Each tier that has nodes of the kind that it asks for."""
    catalogue, stocks = core.book.catalogue, core.book.machines.stocks
    wants_accelerators = any(shape.accelerators for shape in job.spec.shapes)
    for tier in dict.fromkeys(flavor.tier for flavor in catalogue.values()):
        here = [flavor for flavor in catalogue.values() if flavor.tier == tier and flavor.name in stocks]
        if not any(flavor.is_cpu != wants_accelerators for flavor in here):
            continue
        shapes = tuple(dict.fromkeys(dataclasses.replace(shape, selector=tier) for shape in job.spec.shapes))
        if shapes != job.spec.shapes:
            yield _Change(f"on tier={tier}", dataclasses.replace(job.spec, shapes=shapes))


def _most_free(core: Core, job: JobRecord, resource: str) -> float:
    """The most of a resource that a job could ask of one node and find free now, beside what else it asks for."""
    most = 0.0
    for way in job.ways:
        demand = dict(core.book.demand(job, way))
        name = resource or core.book.catalogue[way.flavor].resource
        demand.pop(name, None)
        free = sorted(
            (
                machine.free.get(name, 0.0)
                for machine in core.book.machines.nodes.values()
                if _is_room(machine.flavor, machine.free, way, demand)
            ),
            reverse=True,
        )
        at = way.num_bundles if job.spec.shapes[way.shape].spread else 1
        most = max(most, free[at - 1] if len(free) >= at else 0.0)
    return most


def _is_room(flavor: str, free: dict[str, float], way: Option, demand: dict[str, float]) -> bool:
    return flavor == way.flavor and fits(free, demand)


def _less_memory(core: Core, job: JobRecord) -> Iterator[_Change]:
    asked = max((shape.memory_bytes for shape in job.spec.shapes), default=0) * job.memory_factor
    free_gb = int(_most_free(core, job, MEMORY) / GB + EPSILON)
    if asked and 0 < free_gb * GB < asked:
        yield _Change(f"if it asks for ≤ {free_gb} GB", _reshaped(job, memory_bytes=int(free_gb * GB / job.memory_factor)))


def _fewer_cpus(core: Core, job: JobRecord) -> Iterator[_Change]:
    asked = max((shape.cpus for shape in job.spec.shapes), default=0.0)
    free = int(_most_free(core, job, "CPU") + EPSILON)
    if 0 < free < asked:
        yield _Change(f"if it asks for ≤ {free} {'CPU' if free == 1 else 'CPUs'}", _reshaped(job, cpus=float(free)))


def _fewer_accelerators(core: Core, job: JobRecord) -> Iterator[_Change]:
    asked = max((shape.accelerators for shape in job.spec.shapes), default=0)
    for number in _smaller(asked):
        words = f"with {number} {'GPU' if number == 1 else 'GPUs'} instead of {asked}"
        yield _Change(words, _reshaped(job, accelerators=number))


def _fewer_bundles(core: Core, job: JobRecord) -> Iterator[_Change]:
    asked = max((shape.num_bundles for shape in job.spec.shapes), default=1)
    noun = "node" if any(shape.spread for shape in job.spec.shapes) else "process"
    many = "nodes" if noun == "node" else "processes"
    for number in _smaller(asked):
        yield _Change(f"with {number} {noun if number == 1 else many} instead of {asked}", _reshaped(job, num_bundles=number))


def _smaller(asked: int) -> list[int]:
    """Sizes below, largest first: all of a few, halves of many."""
    if asked <= 8:
        return list(range(asked - 1, 0, -1))
    sizes = []
    while (asked := asked // 2) > 0:
        sizes.append(asked)
    return sizes


def _other_queues(core: Core, job: JobRecord) -> Iterator[_Change]:
    for queue in core.book.policy.queues:
        if queue.name != job.spec.queue:
            yield _Change(f"in queue {queue.name}", dataclasses.replace(job.spec, queue=queue.name))


def _other_classes(core: Core, job: JobRecord) -> Iterator[_Change]:
    """The least that is enough: by value, then weight."""
    own = job.cls or core.book.standing.lowest
    for cls in sorted(core.book.policy.classes, key=lambda cls: (cls.value, cls.weight)):
        if cls.name != own.name and cls.value >= own.value:
            yield _Change(f"with class {cls.name}", dataclasses.replace(job.spec, priority=cls.name))


def _without(core: Core, job: JobRecord) -> Iterator[_Change]:
    """What it asks for beside room: that others have ended, that it stays within a budget."""
    code = reason(job)[0]
    if code == "Dependency":
        names = [
            other.spec.name for each in job.spec.after if (other := core.jobs.get(JobId(each))) is not None and not other.state.is_final
        ]
        yield _Change(f"if it does not come after {', '.join(names)}", dataclasses.replace(job.spec, after=()))
    if code == "BudgetExceeded":
        yield _Change("without its budget", dataclasses.replace(job.spec, budget_usd=None))
