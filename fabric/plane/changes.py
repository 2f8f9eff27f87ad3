"""What a waiting job could ask for instead: candidates, by kind, the least change first. Whether one helps is for others to try."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from fabric.job import JobSpec
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core
from fabric.scheduler.machines import EPSILON, fits
from fabric.scheduler.record import JobRecord
from fabric.scheduler.ways import MEMORY

GB = 1e9


class Change(NamedTuple):
    """`words` end the sentence "starts now …"."""

    words: str
    spec: JobSpec


def _reshaped(job: JobRecord, **changes: Any) -> JobSpec:
    """No shape asks for more than before."""
    shapes = []
    for shape in job.spec.shapes:
        least = {name: min(getattr(shape, name), value) for name, value in changes.items()}
        shapes.append(dataclasses.replace(shape, **least, max_bundles=min(shape.max_bundles, least.get("num_bundles", shape.max_bundles))))
    return dataclasses.replace(job.spec, shapes=tuple(shapes))


def _other_places(core: Core, job: JobRecord) -> Iterator[Change]:
    """Each tier that has nodes of the kind that it asks for."""
    catalogue, stocks = core.book.catalogue, core.book.machines.stocks
    wants_accelerators = any(shape.accelerators for shape in job.spec.shapes)
    for tier in dict.fromkeys(flavor.tier for flavor in catalogue.values()):
        here = [flavor for flavor in catalogue.values() if flavor.tier == tier and flavor.name in stocks]
        if not any(flavor.is_cpu != wants_accelerators for flavor in here):
            continue
        shapes = tuple(dict.fromkeys(dataclasses.replace(shape, selector=tier) for shape in job.spec.shapes))
        if shapes != job.spec.shapes:
            yield Change(f"on tier={tier}", dataclasses.replace(job.spec, shapes=shapes))


def _most_free(core: Core, job: JobRecord, resource: str) -> float:
    """The most of a resource that a job could ask of one node and find free now, beside what else it asks for."""
    most = 0.0
    for way in job.ways:
        demand = dict(core.book.demand(job, way))
        name = resource or core.book.catalogue[way.flavor].resource
        demand.pop(name, None)
        nodes = (node for node in core.book.machines.nodes.values() if node.flavor == way.flavor and node.is_open)
        free = sorted((node.free.get(name, 0.0) for node in nodes if fits(node.free, demand)), reverse=True)
        at = way.num_bundles if job.spec.shapes[way.shape].spread else 1
        most = max(most, free[at - 1] if len(free) >= at else 0.0)
    return most


def _less_memory(core: Core, job: JobRecord) -> Iterator[Change]:
    asked = max((shape.memory_bytes for shape in job.spec.shapes), default=0) * job.memory_factor
    free_gb = int(_most_free(core, job, MEMORY) / GB + EPSILON)
    if asked and 0 < free_gb * GB < asked:
        yield Change(f"if it asks for ≤ {free_gb} GB", _reshaped(job, memory_bytes=int(free_gb * GB / job.memory_factor)))


def _fewer_cpus(core: Core, job: JobRecord) -> Iterator[Change]:
    asked = max((shape.cpus for shape in job.spec.shapes), default=0.0)
    free = int(_most_free(core, job, "CPU") + EPSILON)
    if 0 < free < asked:
        yield Change(f"if it asks for ≤ {free} {'CPU' if free == 1 else 'CPUs'}", _reshaped(job, cpus=float(free)))


def _fewer_accelerators(core: Core, job: JobRecord) -> Iterator[Change]:
    asked = max((shape.accelerators for shape in job.spec.shapes), default=0)
    for number in _smaller(asked):
        words = f"with {number} {'GPU' if number == 1 else 'GPUs'} instead of {asked}"
        yield Change(words, _reshaped(job, accelerators=number))


def _fewer_bundles(core: Core, job: JobRecord) -> Iterator[Change]:
    asked = max((shape.num_bundles for shape in job.spec.shapes), default=1)
    noun = "node" if any(shape.spread for shape in job.spec.shapes) else "process"
    many = "nodes" if noun == "node" else "processes"
    for number in _smaller(asked):
        yield Change(f"with {number} {noun if number == 1 else many} instead of {asked}", _reshaped(job, num_bundles=number))


def _smaller(asked: int) -> list[int]:
    """Sizes below, largest first: all of a few, halves of many."""
    if asked <= 8:
        return list(range(asked - 1, 0, -1))
    sizes = []
    while (asked := asked // 2) > 0:
        sizes.append(asked)
    return sizes


def _other_queues(core: Core, job: JobRecord) -> Iterator[Change]:
    for queue in core.book.policy.queues:
        if queue.name != job.spec.queue:
            yield Change(f"in queue {queue.name}", dataclasses.replace(job.spec, queue=queue.name))


def _other_classes(core: Core, job: JobRecord) -> Iterator[Change]:
    """The least that is enough: by value, then weight."""
    own = job.cls or core.book.standing.lowest
    for cls in sorted(core.book.policy.classes, key=lambda cls: (cls.value, cls.weight)):
        if cls.name != own.name and cls.value >= own.value:
            yield Change(f"with class {cls.name}", dataclasses.replace(job.spec, priority=cls.name))


def _without(core: Core, job: JobRecord) -> Iterator[Change]:
    """What it asks for beside room: that others have ended, that it stays within a budget."""
    code = reason(job)[0]
    if code == "Dependency":
        others = [core.jobs[each] for each in job.spec.after if each in core.jobs]
        names = [other.spec.name for other in others if not other.state.is_final]
        yield Change(f"if it does not come after {', '.join(names)}", dataclasses.replace(job.spec, after=()))
    if code == "BudgetExceeded":
        yield Change("without its budget", dataclasses.replace(job.spec, budget_usd=None))


KINDS = (_other_places, _less_memory, _fewer_cpus, _fewer_accelerators, _fewer_bundles, _other_queues, _without, _other_classes)
MANY = (_other_places, _other_queues)
"""Of these kinds every change that helps is worth telling; of the others the first."""
