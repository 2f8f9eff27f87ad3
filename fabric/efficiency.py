"""Asked for against used, and the dollars between: sums over jobs and task runs. Pure.

A job is billed by the units of its flavor, so what it wastes is the part of them that stood idle: of accelerators while they were not
busy (unknown where nothing measures them), else of CPUs. A task's call costs its dominant share of the node (decision 3), so what it
wastes is the difference to the share that it used; memory counts there, and an accelerator that nothing measures as used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.capacity import dominant_share
from fabric.job import AttemptUse
from fabric.types import Flavor, Node, Resources

MARGIN = 1.2
"""What is suggested is the peak and a fifth: the next input is a little larger."""
LEAST_CPUS, WAITING_CPUS, SLACK_CPUS = 0.1, 0.3, 0.15
"""What uses so little waits most of the time, and tenths will do; what uses more may have been kept from a whole CPU by others. A hundredth
above a whole number is no reason for one more."""
_MEMORY_STEPS = ((2**31, 2**27), (2**62, 2**29))


@dataclass(slots=True)
class Tally:
    """Sums of one job, task, user or queue. Amounts × seconds; memory that was asked for and its peaks also × seconds, and the most of
    each. `own_s` is `wall_s` without what twins sleep. `cost_usd` and `wasted_usd` are None until something with a price was added."""

    num_jobs: int = 0
    num_runs: int = 0
    wall_s: float = 0.0
    own_s: float = 0.0
    cpu_asked_s: float = 0.0
    cpu_s: float = 0.0
    memory_asked_byte_s: float = 0.0
    memory_peak_byte_s: float = 0.0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    gpu_seen_s: float = 0.0
    gpu_busy_s: float | None = None
    gpu_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None
    cost_usd: float | None = None
    wasted_usd: float | None = None

    def add_job(self, use: AttemptUse, cost_usd: float | None) -> None:
        """All measured attempts of one job, and what they cost."""
        self.num_jobs += 1
        self.own_s += use.wall_s
        self._add_amounts(use.wall_s, use.cpu_asked_s, use.cpu_s, use.memory_bytes, use.peak_memory_bytes)
        if use.gpu_busy_s is not None and use.gpu_seen_s is not None:
            self.gpu_seen_s += use.gpu_seen_s
            self.gpu_busy_s = (self.gpu_busy_s or 0.0) + use.gpu_busy_s
        if use.peak_gpu_memory_bytes is not None:
            self.peak_gpu_memory_bytes = max(self.peak_gpu_memory_bytes or 0, use.peak_gpu_memory_bytes)
            self.gpu_memory_bytes = max(self.gpu_memory_bytes or 0, use.gpu_memory_bytes or 0)
        used = used_frac(use)
        self._add_cost(cost_usd, None if cost_usd is None or used is None else cost_usd * (1.0 - used))

    def add_runs(self, num: int, wall_s: float, cpu_s: float, peak_memory_bytes: int, asked: Resources, node: Node, flavor: Flavor) -> None:
        """So many alike runs of a task on one node. A twin sleeps for what it stretches: its CPU time is set against the rest."""
        self.num_runs += num
        own_s = wall_s / (node.slowdown or 1.0)
        self.own_s += own_s
        self._add_amounts(wall_s, asked.num_cpus * own_s, cpu_s, asked.memory_bytes, peak_memory_bytes)
        if flavor.usd_per_h is None:
            return
        node_usd = flavor.usd_per_h * node.total.get(flavor.resource, 0.0) / flavor.units * wall_s / 3600.0
        asked_frac = dominant_share(_of_node(asked.as_demand(), node), node.total)
        demand = asked.as_demand() | {"CPU": min(asked.num_cpus, cpu_s / own_s if own_s else 0.0)}
        if asked.memory_bytes:
            demand["memory"] = min(asked.memory_bytes, peak_memory_bytes)
        used_frac = dominant_share(_of_node(demand, node), node.total)
        self._add_cost(node_usd * asked_frac, node_usd * max(0.0, asked_frac - used_frac))

    def _add_amounts(self, wall_s: float, cpu_asked_s: float, cpu_s: float, memory_bytes: int, peak_bytes: int) -> None:
        self.wall_s += wall_s
        self.cpu_asked_s += cpu_asked_s
        self.cpu_s += cpu_s
        if memory_bytes:
            self.memory_asked_byte_s += memory_bytes * wall_s
            self.memory_peak_byte_s += peak_bytes * wall_s
        self.memory_bytes = max(self.memory_bytes, memory_bytes)
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_bytes)

    def _add_cost(self, cost_usd: float | None, wasted_usd: float | None) -> None:
        if cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cost_usd
        if wasted_usd is not None:
            self.wasted_usd = (self.wasted_usd or 0.0) + wasted_usd

    @property
    def cpu_frac(self) -> float | None:
        return self.cpu_s / self.cpu_asked_s if self.cpu_asked_s > 0 else None

    @property
    def memory_frac(self) -> float | None:
        return self.memory_peak_byte_s / self.memory_asked_byte_s if self.memory_asked_byte_s > 0 else None

    @property
    def gpu_frac(self) -> float | None:
        return self.gpu_busy_s / self.gpu_seen_s if self.gpu_busy_s is not None and self.gpu_seen_s > 0 else None

    def as_row(self, name: str) -> dict[str, Any]:
        """See `fabric.efficiency_form`. What was asked for and used of CPUs is the mean over the time that it ran."""
        own_s = self.own_s or math.inf
        return {
            "name": name,
            "jobs": self.num_jobs,
            "runs": self.num_runs,
            "wall_s": self.wall_s,
            "cpus_asked": self.cpu_asked_s / own_s,
            "cpus_used": self.cpu_s / own_s,
            "cpu_frac": self.cpu_frac,
            "memory_asked_bytes": self.memory_bytes or None,
            "memory_peak_bytes": self.peak_memory_bytes or None,
            "memory_frac": self.memory_frac,
            "gpu_frac": self.gpu_frac,
            "gpu_memory_bytes": self.gpu_memory_bytes,
            "gpu_memory_peak_bytes": self.peak_gpu_memory_bytes,
            "cost_usd": self.cost_usd,
            "wasted_usd": self.wasted_usd,
        }


def used_frac(use: AttemptUse) -> float | None:
    """The part (0..1) of what a job pays for that was busy; None where nothing measured it."""
    if use.accelerator_asked_s > 0:
        return min(1.0, use.gpu_busy_s / use.gpu_seen_s) if use.gpu_busy_s is not None and use.gpu_seen_s else None
    return min(1.0, use.cpu_s / use.cpu_asked_s) if use.cpu_asked_s > 0 else None


def fitting_memory(peak_bytes: int) -> int:
    """What to ask for after such a peak, in steps that people write."""
    wanted = peak_bytes * MARGIN
    step = next(step for below, step in _MEMORY_STEPS if wanted <= below)
    return math.ceil(wanted / step) * step


def fitting_cpus(used: float) -> float:
    """What to ask for after such a mean use. Ray enforces no CPUs, so a little less than the mean is no harm."""
    if used <= WAITING_CPUS:
        return max(LEAST_CPUS, math.ceil(used * MARGIN * 10.0 - 1e-9) / 10.0)
    return float(max(1, math.ceil(used - SLACK_CPUS)))


def _of_node(demand: Mapping[str, float], node: Node) -> dict[str, float]:
    """Without what the node does not have, as where it was started anew with less."""
    return {name: amount for name, amount in demand.items() if node.total.get(name)}
