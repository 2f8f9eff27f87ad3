"""What `fabric simulate` prints: the figures, the lower bound of each that has one, and the ratio to it."""

from __future__ import annotations

from typing import Any

from fabric.job import JobId, Option
from fabric.scheduler.problem import PlanJob, Problem
from fabric.scheduler.ways import speed_up
from fabric.show import duration, table, usd
from fabric.sim.scenario import Outcome, Scenario
from fabric.sim.trace import TraceJob

MOST_BOUNDED = 1000
"""Bounds of larger traces are computed only when asked for."""
_LABELS = {
    "jobs": "jobs",
    "failed": "of which failed",
    "jct_h": "mean completion time",
    "jct_p99_h": "99th percentile",
    "makespan_s": "makespan",
    "cost_usd": "cost",
    "misses": "deadlines missed",
    "utilisation": "utilisation",
    "restarts": "restarts",
    "leases_kept_frac": "leases kept",
    "worst_fairness": "worst finish-time fairness",
}


def report_of(scenario: Scenario, outcome: Outcome, *, has_bounds: bool) -> dict[str, Any]:
    """Figures by name, then `bounds` and `ratios` by the same names, then what was run."""
    figures = outcome.figures.as_json()
    bounds = bounds_of(scenario) if has_bounds else {}
    policy = scenario.policy
    return {
        **figures,
        "bounds": bounds,
        "ratios": {name: ratio(figures[name], bound) for name, bound in bounds.items()},
        "usd_per_h": scenario.cluster.usd_per_h,
        "policy": policy.name,
        "objective": policy.objective,
        "restart_s": policy.restart_s,
        "steps": scenario.steps,
        "seed": scenario.seed,
        "events": outcome.events,
        "wall_s": round(outcome.wall_s, 3),
    }


def ratio(value: float | None, bound: float | None) -> float | None:
    """How far above the bound; None where there is none to divide by."""
    return None if value is None or not bound else value / bound


def bounds_of(scenario: Scenario) -> dict[str, float | None]:
    """What no schedule can beat, not even one that knows the future; utilisation alone is bounded from above.

    `cost_usd` meets all deadlines that can be met; `misses` counts the jobs that would miss theirs on an empty cluster.
    """
    from fabric.bounds.cost import cost_bound
    from fabric.bounds.jct import mean_jct_bound
    from fabric.bounds.makespan import makespan_bound

    jobs, cluster = [_plan_job(job, scenario.policy.restart_s) for job in scenario.jobs], scenario.cluster
    capacity = {flavor: float(count) for flavor, count in cluster.capacity.items()}
    problem = Problem(min(job.submitted_s for job in jobs), "jct", jobs, capacity)
    jct_s, makespan_s, prices = mean_jct_bound(problem), makespan_bound(jobs, capacity), cluster.prices
    span_s = None if makespan_s is None else makespan_s - problem.now_s
    demand = sum(_most_unit_s(job) for job in scenario.jobs) / sum(capacity.values())
    return {
        "jct_h": None if jct_s is None else jct_s / 3600,
        "makespan_s": span_s,
        "cost_usd": cost_bound(jobs, capacity, prices).usd if prices else None,
        "misses": sum(_must_miss(job, scenario.policy.restart_s) for job in scenario.jobs),
        "utilisation": min(1.0, demand / span_s) if span_s else None,
    }


def _plan_job(job: TraceJob, restart_s: float) -> PlanJob:
    options = tuple(
        Option(0, flavor, size, float(size * job.shape.accelerators), rate * speed_up(job.shape, size))
        for flavor, rate in job.rates.items()
        for size in job.shape.sizes()
    )
    return PlanJob(JobId(f"{job.line:08d}"), options, job.work, job.arrival_s, deadline_s=job.deadline_s, restart_s=restart_s)


def _must_miss(job: TraceJob, restart_s: float) -> bool:
    return job.deadline_s is not None and job.arrival_s + restart_s + job.work / max(job.rates.values()) > job.deadline_s + 1e-6


def _most_unit_s(job: TraceJob) -> float:
    """The most that it can hold without wasting any."""
    return job.gpus * job.work / min(job.rates.values())


def format_report(document: dict[str, Any]) -> str:
    rows = []
    for name, label in _LABELS.items():
        bound, over = document["bounds"].get(name), document["ratios"].get(name)
        rows.append(
            [label, _shown(name, document[name]), "" if bound is None else _shown(name, bound), "" if over is None else f"{over:.3f}"]
        )
    told = "{policy} policy, objective {objective}, {restart_s:g} s for every start, steps {steps}".format(**document)
    return f"{told}\n\n{table(['figure', 'value', 'bound', 'ratio'], rows, right=(1, 2, 3))}"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_h"):
        return f"{value:.2f} h"
    if name.endswith("_s"):
        return f"{value:,.0f} s ({duration(value)})"
    if name == "cost_usd":
        return usd(value)
    if name in ("utilisation", "leases_kept_frac"):
        return f"{100 * value:.1f} %"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
