"""Preemption: the cheapest set of running jobs whose leaving makes room.

Explores on the machines and quotas and takes everything back. The cost of a victim is the work that no checkpoint keeps,
and its restart, at the price of what it holds. Rules as in Kueue: within a queue lower values give way; across queues only
what is borrowed is reclaimed, or held by queues that have no quota; a job that is only partly borrowed must have run for a
while, or queues at the edge of their quotas would take turns in throwing out each other's jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fabric.policy import QueuePolicy
from fabric.scheduler.machines import Machines
from fabric.scheduler.quota import Quotas
from fabric.scheduler.record import JobRecord

MOST_CANDIDATES = 512


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running job that may have to leave; `demand` is of one bundle."""

    job: JobRecord
    value: int
    queue: str
    flavor: str
    units: float
    nodes: tuple[str, ...]
    demand: Mapping[str, float]
    cost: float
    ran_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The room that is wanted."""

    queue: str
    value: int
    flavor: str
    demand: Mapping[str, float]
    num_bundles: int
    units: float
    spread: bool = False
    least_run_s: float = 0.0


def may_preempt(wanted: Wanted, victim: Candidate, queues: Mapping[str, QueuePolicy], quotas: Quotas) -> bool:
    """Whether the policy lets this victim leave for what is wanted."""
    if not victim.job.spec.is_preemptible or victim.flavor != wanted.flavor:
        return False
    lower = victim.value < wanted.value
    if victim.queue == wanted.queue:
        return lower and queues[wanted.queue].within_queue == "LowerPriority"
    if not queues[victim.queue].nominal:
        return lower
    if not quotas.borrows(victim.queue, victim.flavor) or quotas.borrows(wanted.queue, wanted.flavor, wanted.units):
        return False
    if victim.ran_s < wanted.least_run_s and not quotas.has_surplus(victim.queue, victim.flavor, victim.units):
        return False
    rule = queues[wanted.queue].reclaim_within_cohort
    same_cohort = victim.queue in quotas.cohort_queues(wanted.queue)
    return same_cohort and (rule == "Any" or (rule == "LowerPriority" and lower))


def find_victims(
    wanted: Wanted, candidates: Sequence[Candidate], machines: Machines, quotas: Quotas, queues: Mapping[str, QueuePolicy]
) -> list[JobRecord]:
    """The jobs to preempt, cheapest first; empty where no allowed set makes room."""
    allowed = [victim for victim in candidates if may_preempt(wanted, victim, queues, quotas)]
    allowed.sort(key=lambda victim: (victim.value, victim.cost / max(victim.units, 1e-9), victim.job.spec.job_id))
    gone: list[Candidate] = []
    mark = machines.checkpoint()
    try:
        for victim in allowed[:MOST_CANDIDATES]:
            # What borrowed at first may be within its quota once others of its queue have left.
            if victim.queue != wanted.queue and not may_preempt(wanted, victim, queues, quotas):
                continue
            _leave(victim, machines, quotas)
            gone.append(victim)
            if _has_room(wanted, machines, quotas):
                _spare_the_dearest(wanted, gone, machines, quotas)
                return [victim.job for victim in gone]
        return []
    finally:
        for victim in gone:
            quotas.change(victim.queue, victim.flavor, victim.units)
        machines.rollback(mark)


def _leave(victim: Candidate, machines: Machines, quotas: Quotas) -> None:
    machines.give(victim.nodes, victim.demand)
    quotas.change(victim.queue, victim.flavor, -victim.units)


def _has_room(wanted: Wanted, machines: Machines, quotas: Quotas) -> bool:
    if quotas.shortage(wanted.queue, wanted.flavor, wanted.units) is not None:
        return False
    placed = machines.place(wanted.flavor, wanted.demand, wanted.num_bundles, spread=wanted.spread)
    if placed is not None:
        machines.give(placed, wanted.demand)
    return placed is not None


def _spare_the_dearest(wanted: Wanted, gone: list[Candidate], machines: Machines, quotas: Quotas) -> None:
    """Let those stay after all without whom there is room too."""
    for victim in sorted(gone, key=lambda victim: -victim.cost):
        if len(gone) == 1:
            return
        machines.take(victim.nodes, victim.demand)
        quotas.change(victim.queue, victim.flavor, victim.units)
        if _has_room(wanted, machines, quotas):
            gone.remove(victim)
        else:
            _leave(victim, machines, quotas)
