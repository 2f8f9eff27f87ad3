"""Runs one trace on one cluster under one policy: builds what the engine needs, drives it, and takes the figures.

The core and the planner are the product's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fabric.errors import BugError, UserError
from fabric.job import JobEstimate, JobId, JobSpec
from fabric.policy import Policy
from fabric.scheduler.core import Core
from fabric.scheduler.optimise import solve
from fabric.sim.beliefs import Steps, beliefs_of
from fabric.sim.cluster import Cluster
from fabric.sim.engine import Beliefs, Planner, SimJob, Simulation
from fabric.sim.events import LeaseLine
from fabric.sim.failures import FailureModel
from fabric.sim.figures import Figures, figures_of
from fabric.sim.trace import TraceJob
from fabric.types import Flavor

MANY_RETRIES = 1_000_000
"""A simulated job is only ever lost with its node: it is tried again until it is done."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to run. `policy.restart_s` is charged for every start and move. `planner` None: first in order, first served.
    `beliefs`: what the core is told in place of what `steps` says. `plan_s`: see `Simulation`."""

    jobs: Sequence[TraceJob]
    cluster: Cluster
    policy: Policy
    steps: Steps = "known"
    failures: FailureModel | None = None
    seed: int = 0
    planner: Planner | None = solve
    beliefs: Beliefs | None = None
    plan_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`end_s`: line -> when the job succeeded. `events`: facts that the core was given; `wall_s`: how long it took to compute."""

    figures: Figures
    leases: list[LeaseLine]
    end_s: dict[int, float]
    events: int
    wall_s: float


def simulate(scenario: Scenario, on_time: Callable[[float, int], None] | None = None) -> Outcome:
    """`on_time(now_s, jobs left)` is called after every event.

    Raises: UserError `empty_trace`, `gang_too_large`, `unknown_queue`, `never_starts`.
    """
    _check(scenario)
    cluster, policy, failures = scenario.cluster, scenario.policy, scenario.failures
    began_s = time.perf_counter()
    nodes = cluster.nodes()
    simulation = Simulation(
        Core(_catalogue(scenario), policy, is_planning=scenario.planner is not None),
        [_sim_job(job) for job in scenario.jobs],
        nodes,
        scenario.planner,
        restart_s=policy.restart_s,
        failures=failures.draw((node.node_id for node in nodes), scenario.seed) if failures else (),
        checkpoint_s=failures.checkpoint_s if failures else 0.0,
        beliefs=scenario.beliefs or beliefs_of(scenario.steps, scenario.seed),
        on_time=on_time,
        plan_s=scenario.plan_s,
    )
    try:
        simulation.run()
    except BugError as error:
        if error.code != "simulation_stuck":
            raise
        raise UserError(error.message, code="never_starts", hint="quotas and preferred nodes must leave room for every job") from None
    wall_s = time.perf_counter() - began_s
    end_s = {_line(job_id): job.end_s for job_id, job in simulation.jobs.items() if job.outcome == "SUCCEEDED" and job.end_s is not None}
    leases = [LeaseLine(_line(le.job), le.flavor, le.units, le.start_s, le.end_s, le.steps) for le in simulation.leases]
    figures = figures_of(scenario.jobs, end_s, leases, cluster.capacity, cluster.prices)
    return Outcome(figures, leases, end_s, simulation.num_events, wall_s)


def _check(scenario: Scenario) -> None:
    if not scenario.jobs:
        raise UserError("the trace has no jobs", code="empty_trace", hint="one line per job")
    queues = {queue.name for queue in scenario.policy.queues}
    seen = set()
    for job in scenario.jobs:
        if (kind := (job.shape, *job.rates)) not in seen:
            scenario.cluster.check_fits(job)
            seen.add(kind)
        if queues != {"default"} and job.queue not in queues:
            message = f"job {job.name} (line {job.line}) is for the queue {job.queue!r}, which the policy does not have"
            raise UserError(message, code="unknown_queue", hint=f"queues: {', '.join(sorted(queues))}")


def _catalogue(scenario: Scenario) -> dict[str, Flavor]:
    """Only the cluster's flavors, unless the policy or a job may name others."""
    catalogue = scenario.cluster.catalogue
    policy = scenario.policy
    is_naming = any(cls.selectors for cls in policy.classes) or any(queue.nominal for queue in policy.queues)
    if is_naming or any(job.shape.selector for job in scenario.jobs):
        return dict(catalogue)
    return {name: catalogue[name] for name in scenario.cluster.capacity}


def _sim_job(job: TraceJob) -> SimJob:
    rates = {(0, flavor): rate for flavor, rate in job.rates.items()}
    spec = JobSpec(
        _job_id(job.line),
        job.name,
        job.user,
        job.queue,
        job.priority,
        "program",
        (job.shape,),
        job.family,
        job.arrival_s,
        deadline_s=job.deadline_s,
        after=tuple(_job_id(line) for line in job.after),
        max_retries=MANY_RETRIES,
        can_resume=True,
    )
    return SimJob(spec, job.arrival_s, job.work, rates, JobEstimate(job.work, rates))


def _job_id(line: int) -> JobId:
    return JobId(f"{line:08d}")


def _line(job_id: str) -> int:
    return int(job_id)
