"""The training arms of `tiering.py`: the same jobs through the product's own scheduler, on hot alone, first come first served on whatever
is free, and under the planner for cost on what the tier plan leaves free.

Every start and move loses 60 seconds. The tiers' jobs are due when hot alone has finished its last one: the same work in the same window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tiering_world import TRAINERS, GavelJob, World, domain_of

from fabric.job import Shape
from fabric.policy import Policy
from fabric.scheduler.optimise import solve
from fabric.scheduler.problem import Objective
from fabric.sim.cluster import make_cluster
from fabric.sim.events import LeaseLine
from fabric.sim.figures import cost_of
from fabric.sim.scenario import Scenario, simulate
from fabric.sim.trace import TraceJob
from fabric.tiering import TrainingLoad

RESTART_S = 60.0


@dataclass(frozen=True)
class Trained:
    """`usd`: price x time held, of every lease. `peak_usd`: the most units of each flavor that were ever held at once, for the whole
    window: what is paid where nodes cannot be given back in between. `provisioned_usd`: all units of the arm's pools,
    for the whole window."""

    usd: float
    peak_usd: float
    provisioned_usd: float
    end_s: float
    jct_h: float
    by_domain: Mapping[str, float]


def loads_of(jobs: Sequence[GavelJob], rates: Mapping[str, Mapping[str, float]]) -> list[TrainingLoad]:
    """What the tier plan is told: the steps of each job type per second of the window in which jobs arrive."""
    window_s = max(job.arrival_s for job in jobs)
    steps: dict[str, float] = {}
    for job in jobs:
        steps[job.job_type] = steps.get(job.job_type, 0.0) + job.steps
    return [TrainingLoad(kind, total / window_s, rates[kind], domain_of(kind)) for kind, total in steps.items()]


def on_hot(jobs: Sequence[GavelJob], world: World) -> Trained:
    """As soon as possible; with one flavor the price of the work does not depend on the order."""
    return _run(jobs, world, world.units(hot_only=True), "jct", None, is_planned=True)


def first_free(jobs: Sequence[GavelJob], world: World) -> Trained:
    """First come, first served, on the fastest flavor that is free."""
    return _run(jobs, world, world.units(), "jct", None, is_planned=False)


def on_tiers(jobs: Sequence[GavelJob], world: World, for_jobs: Mapping[str, int], due_s: float) -> Trained:
    return _run(jobs, world, for_jobs, "cost", due_s, is_planned=True)


def cheapest_usd(jobs: Sequence[GavelJob], world: World) -> float:
    """No schedule costs less: every job on the flavor where its work is cheapest, whatever the room there."""
    hours = ({name: job.steps / rate / 3600 for name, rate in job.rates.items()} for job in jobs)
    prices = _prices(world)
    return sum(min(some * prices[name] for name, some in ways.items() if name in prices) for ways in hours)


def _prices(world: World) -> dict[str, float]:
    return {name: price for name in TRAINERS if name in world.units() and (price := world.usd_per_h(name)) is not None}


def _run(
    jobs: Sequence[GavelJob], world: World, units: Mapping[str, int], objective: Objective, due_s: float | None, *, is_planned: bool
) -> Trained:
    prices = _prices(world)
    capacity = {name: units[name] for name in TRAINERS if units.get(name, 0) > 0 and name in prices}
    shape = Shape("", 1, cpus=0.0)
    trace = [
        TraceJob(
            job.num,
            f"job-{job.num}",
            job.job_type,
            shape,
            job.steps,
            job.arrival_s,
            {name: rate for name, rate in job.rates.items() if name in capacity},
            due_s,
        )
        for job in jobs
    ]
    policy = Policy(objective=objective, restart_s=RESTART_S)
    scenario = Scenario(trace, make_cluster(capacity, usd_per_h=prices), policy, planner=solve if is_planned else None)
    outcome = simulate(scenario)
    assert len(outcome.end_s) == len(jobs), "all work is done"
    end_s = max(outcome.end_s.values())
    hours = max(end_s, due_s or 0.0) / 3600
    by_domain: dict[str, list[LeaseLine]] = {}
    for lease in outcome.leases:
        by_domain.setdefault(domain_of(jobs[lease.job].job_type), []).append(lease)
    return Trained(
        cost_of(outcome.leases, prices),
        hours * sum(prices[name] * _peak([one for one in outcome.leases if one.flavor == name]) for name in capacity),
        hours * sum(prices[name] * count for name, count in capacity.items()),
        end_s,
        outcome.figures.jct_h,
        {domain: cost_of(leases, prices) for domain, leases in by_domain.items()},
    )


def _peak(leases: Sequence[LeaseLine]) -> float:
    changes = sorted([(one.start_s, one.gpus) for one in leases] + [(one.end_s, -one.gpus) for one in leases])
    held = most = 0.0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
