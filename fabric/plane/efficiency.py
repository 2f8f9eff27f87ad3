"""What jobs and tasks asked for against what they used: one job, or a row for each user, queue or task. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fabric.efficiency import Tally
from fabric.efficiency_form import job_hints, task_hints
from fabric.job import JobId
from fabric.plane.views import Aside
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.types import Flavor, Node, name_of
from profiler.efficiency import TaskUse

By = Literal["user", "queue", "task"]


def job_efficiency(core: Core, job: JobRecord, aside: Aside) -> dict[str, Any]:
    """The row of one job, its time limit, and what to change. Attempts that run still, or that nobody measured, are not in it."""
    tally = Tally()
    if aside.use is not None:
        tally.add_job(aside.use, _cost_usd(core, job, aside))
    row = tally.as_row(job.spec.name)
    hints: list[str] = []
    if aside.use is not None:
        num_ranks = aside.option.num_bundles if aside.option is not None else 1
        hints = job_hints(row, is_accelerated=aside.use.accelerator_asked_s > 0, num_ranks=num_ranks)
    return {**row, "timeout_s": job.spec.timeout_s, "hints": hints}


def efficiency_rows(
    core: Core, asides: Mapping[JobId, Aside], uses: Iterable[TaskUse], nodes: Mapping[str, Node], by: By, user: str | None = None
) -> list[dict[str, Any]]:
    """A row for each, the one that wastes most first. `user`: only what is that user's."""
    tallies: dict[str, Tally] = {}
    if by != "task":
        for job in core.jobs.values():
            aside = asides.get(job.spec.job_id)
            if aside is not None and aside.use is not None and user in (None, job.spec.user):
                name = job.spec.user if by == "user" else job.spec.queue
                tallies.setdefault(name, Tally()).add_job(aside.use, _cost_usd(core, job, aside))
    catalogue, alike = core.book.catalogue, {node.flavor: node for node in nodes.values()}
    for use in uses:
        node = nodes.get(use.node_id) or alike.get(use.flavor)  # one that is gone was like those that are there
        if node is not None and use.flavor in catalogue and user in (None, use.user):
            name = {"user": use.user, "queue": use.queue, "task": name_of(use.task)}[by]
            _add_runs(tallies.setdefault(name, Tally()), use, node, catalogue[use.flavor])
    rows = [tally.as_row(name) for name, tally in tallies.items()]
    for row in rows:
        row["hints"] = task_hints(row) if by == "task" else []
    return sorted(rows, key=lambda row: (-(row["wasted_usd"] or 0.0), row["name"]))


def _add_runs(tally: Tally, use: TaskUse, node: Node, flavor: Flavor) -> None:
    tally.add_runs(use.num_runs, use.wall_s, use.cpu_s, use.peak_memory_bytes, use.asked, node, flavor)


def _cost_usd(core: Core, job: JobRecord, aside: Aside) -> float | None:
    """What the attempts that have ended cost; None where the flavor has no price."""
    is_priced = aside.option is not None and aside.option.flavor in core.book.standing.prices
    return job.spent_usd if is_priced else None
