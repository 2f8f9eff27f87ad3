"""Who has used what: a row for each user or queue, from the records of all jobs. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.scheduler.standing import HOUR_S


@dataclass(slots=True)
class _Used:
    pending: int = 0
    running: int = 0
    ended: int = 0
    units: float = 0.0
    unit_seconds: float = 0.0
    accelerator_seconds: float = 0.0
    cost_usd: float = 0.0

    def add(self, core: Core, job: JobRecord, now_s: float) -> None:
        self.unit_seconds += job.unit_seconds
        self.accelerator_seconds += job.accelerator_seconds
        self.cost_usd += job.spent_usd
        if job.state.is_final:
            self.ended += 1
        elif job.grant is None:
            self.pending += 1
        else:
            option, held_s = job.grant.option, max(0.0, now_s - job.dispatched_s)
            self.running += 1
            self.units += option.units
            self.unit_seconds += option.units * held_s
            self.accelerator_seconds += 0.0 if core.book.catalogue[option.flavor].is_cpu else option.units * held_s
            self.cost_usd += core.book.standing.usd_per_s(option) * held_s


def usage_rows(core: Core, by: Literal["user", "queue"], now_s: float) -> list[dict[str, Any]]:
    """The rows of `fabric.usage_form.ROW_KEYS`, by name. Units are accelerators, or vCPUs of CPU flavors.

    `share_frac` is the part of all that was used: of a queue the faded usage that its order goes by, of a user the cost (the
    unit-hours where nothing has a price). `cost_usd` is None where nothing has a price."""
    standing, used = core.book.standing, dict[str, _Used]()
    if by == "queue":
        used = {queue.name: _Used() for queue in core.book.policy.queues}
    for job in core.jobs.values():
        name = job.spec.user if by == "user" else job.spec.queue
        used.setdefault(name, _Used()).add(core, job, now_s)
    has_prices = bool(standing.prices)
    if by == "queue":
        weighed = {name: standing.queue_share(name, now_s) * standing.queue(name).weight for name in used}
    else:
        weighed = {name: each.cost_usd if has_prices else each.unit_seconds for name, each in used.items()}
    total = sum(weighed.values())
    return [
        {
            "name": name,
            "pending": each.pending,
            "running": each.running,
            "ended": each.ended,
            "units": each.units,
            "accelerator_hours": each.accelerator_seconds / HOUR_S,
            "vcpu_hours": (each.unit_seconds - each.accelerator_seconds) / HOUR_S,
            "cost_usd": each.cost_usd if has_prices else None,
            "share_frac": weighed[name] / total if total > 0 else None,
            **_limits(core, name if by == "queue" else None, now_s),
        }
        for name, each in sorted(used.items())
    ]


def _limits(core: Core, queue_name: str | None, now_s: float) -> dict[str, float | None]:
    """Only queues have a weight and a budget."""
    if queue_name is None:
        return {"weight": None, "budget_usd": None, "budget_left_usd": None}
    standing = core.book.standing
    queue = standing.queue(queue_name)
    left = None if queue.budget_usd is None else queue.budget_usd - standing.spent_usd(queue_name, now_s)
    return {"weight": queue.weight, "budget_usd": queue.budget_usd, "budget_left_usd": left}
