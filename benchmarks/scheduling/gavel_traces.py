"""Gavel's physical-cluster traces through the simulator, every run checked from outside, and what Gavel itself made of them.

Cluster 8 V100 : 16 P100 : 24 K80, `physical_cluster_throughputs.json`, GCP prices. Gavel's figures were measured with its own simulator
(stanford-futuredata/gavel, commit c4fa4009, seed 0, rounds of 360 s), which charges nothing for a move.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from gavel_jobs import FLAVORS, GCP_USD_PER_H, data_dir

from fabric.policy import Policy
from fabric.scheduler.problem import Objective
from fabric.sim.beliefs import Steps
from fabric.sim.check import problems
from fabric.sim.cluster import make_cluster
from fabric.sim.gavel import read_gavel
from fabric.sim.report import bounds_of
from fabric.sim.scenario import Outcome, Scenario, simulate
from fabric.sim.trace import TraceJob
from fabric.throughputs import read_throughputs

CAPACITY = {"v100": 8, "p100": 16, "k80": 24}
CLUSTER = make_cluster(CAPACITY, usd_per_h=GCP_USD_PER_H)
GAVEL = {
    "minimize_makespan": {
        "max_min_fairness": (9.22, 80748.0),
        "max_min_fairness_perf": (9.26, 67104.0),
        "finish_time_fairness_perf": (9.37, 68724.0),
        "gandiva": (9.77, 75348.0),
        "fifo_perf": (10.71, 87516.0),
        "min_total_duration_perf": (17.05, 62657.0),
        "fifo": (47.25, 253368.0),
    },
    "max_min_fairness": {
        "max_min_fairness_perf": (3.82, 61596.0),
        "finish_time_fairness_perf": (3.94, 61848.0),
        "max_sum_throughput_perf": (4.35, 63432.0),
        "max_min_fairness": (5.20, 70920.0),
        "fifo": (9.85, 191988.0),
    },
}
"""Trace -> policy -> (mean completion time in hours, makespan in seconds)."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A checked run; `figures` as `fabric simulate -o json` names them."""

    scenario: Scenario
    outcome: Outcome

    @property
    def figures(self) -> dict[str, Any]:
        return self.outcome.figures.as_json()


@cache
def load(trace: str) -> tuple[TraceJob, ...]:
    """The jobs of a trace. Ends the process where Gavel's data are absent."""
    folder = data_dir() / "gavel"
    if not folder.is_dir():
        sys.exit(f"skipped: no Gavel data in {data_dir()} (set FABRIC_DATA_DIR)")
    path, devices = folder / f"{trace}.trace", list(FLAVORS)
    return tuple(read_gavel(path, path.read_text(), read_throughputs(folder / "physical_cluster_throughputs.json", devices), devices))


def run(trace: str, objective: Objective, *, restart_s: float = 0.0, steps: Steps = "known", seed: int = 0) -> Ran:
    """Raises: AssertionError where the leases do not bear the figures out."""
    jobs = load(trace)
    scenario = Scenario(jobs, CLUSTER, Policy(objective=objective, restart_s=restart_s), steps, seed=seed)
    ran = Ran(scenario, simulate(scenario))
    found = problems(jobs, ran.outcome.leases, CAPACITY, restart_s=restart_s, figures=ran.figures, usd_per_h=GCP_USD_PER_H)
    assert not found, found[:5]
    return ran


@cache
def bounds(trace: str) -> dict[str, float | None]:
    """Lower bounds without any restart charged."""
    return bounds_of(Scenario(load(trace), CLUSTER, Policy(restart_s=0.0)))
