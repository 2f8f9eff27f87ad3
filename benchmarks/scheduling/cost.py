"""What meeting all deadlines costs: the `cost` planner against the cheapest possible and against Gavel's cost policy with deadlines.

Generated single-GPU jobs as in Gavel, deadlines {1.2, 2, 10} x V100 time in thirds, GCP prices. Jobs are known only from their arrival.
The lower bound is the linear program that knows all arrivals and meets all deadlines. A missed job is charged its fastest completion on
the dearest flavor or what it cost, whichever is more. Gavel's figures are of its published mechanism; `*_repaired` of the one that leaves
accelerators idle where its allocation is zero. A miss is a job that ends after its deadline; `gavel_own_misses` counts them as Gavel's
simulator does, which compares a job's duration with its deadline on the clock and so finds fewer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from execute import Executed, Execution
from gavel_cost import GavelCostSlo, GavelOutcome
from gavel_jobs import FLAVORS, GCP_USD_PER_H, GavelJob, Throughputs, data_dir, generate, load_throughputs

from fabric.bounds.cost import cost_bound
from fabric.job import JobId, Option
from fabric.scheduler.plan_cost import plan_cost
from fabric.scheduler.problem import PlanJob
from fabric.show import table


class Instance(NamedTuple):
    """`lam_s`: mean time between arrivals; `units`: accelerators of each of the three flavors."""

    name: str
    num_jobs: int
    lam_s: float
    seed: int
    units: int


INSTANCES = (
    Instance("light_60_seed0", 60, 1800, 0, 12),
    Instance("light_60_seed1", 60, 1800, 1, 12),
    Instance("light_60_seed2", 60, 1800, 2, 12),
    Instance("light_60_seed3", 60, 1800, 3, 12),
    Instance("medium_100_seed1", 100, 900, 1, 12),
    Instance("medium_100_seed2", 100, 900, 2, 12),
    Instance("heavy_100_seed0", 100, 600, 0, 8),
    Instance("heavy_100_seed1", 100, 600, 1, 8),
    Instance("heavy_100_seed2", 100, 600, 2, 8),
    Instance("heavy_100_seed3", 100, 600, 3, 8),
    Instance("heavy_150_seed0", 150, 450, 0, 12),
    Instance("heavy_150_seed1", 150, 450, 1, 12),
    Instance("heavy_150_seed2", 150, 450, 2, 12),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--restart-s", type=float, default=0.0, help="seconds without work after every start and move (ours only)")
    parser.add_argument("--only", default="", help="instances whose name contains this")
    args = parser.parse_args()
    if not (data_dir() / "gavel").is_dir():
        sys.exit(f"skipped: no Gavel data in {data_dir()} (set FABRIC_DATA_DIR)")
    throughputs = load_throughputs()
    seeds = {one.name: measure(one, throughputs, args.restart_s) for one in INSTANCES if args.only in one.name}
    figures = {"seeds": seeds, "worst_cost_ratio": max(row["cost_ratio"] for row in seeds.values())}
    if args.json:
        print(json.dumps(figures))
        return
    keys = ["num_jobs", "cost_ratio", "misses", "gavel_misses", "gavel_cost_ratio", "cost_usd", "lp_usd", "gavel_cost_usd", "plan_s_mean"]
    rows = [[name, *(f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in keys)] for name, row in seeds.items()]
    print(table(["instance", *keys], rows, right=tuple(range(1, len(keys) + 1))))
    print("goals: cost_ratio <= 1.03 everywhere; misses <= gavel_misses / 2; 0 misses under light load")


def measure(instance: Instance, throughputs: Throughputs, restart_s: float) -> dict[str, Any]:
    jobs = generate(throughputs, num_jobs=instance.num_jobs, lam_s=instance.lam_s, seed=instance.seed)
    capacity = dict.fromkeys(FLAVORS, float(instance.units))
    bound = cost_bound([planned(job) for job in jobs], capacity, GCP_USD_PER_H)
    ours = Execution(jobs, capacity, GCP_USD_PER_H, plan_cost, objective="cost", restart_s=restart_s).run()
    gavel = GavelCostSlo(jobs, capacity, GCP_USD_PER_H, is_repaired=False).run()
    repaired = GavelCostSlo(jobs, capacity, GCP_USD_PER_H, is_repaired=True).run()
    cost_usd = charged_usd(jobs, ours)
    gavel_usd, repaired_usd = charged_usd(jobs, gavel), charged_usd(jobs, repaired)
    return {
        "num_jobs": len(jobs),
        "cost_ratio": cost_usd / bound.usd,
        "misses": len(missed(jobs, ours)),
        "gavel_misses": len(missed(jobs, gavel)),
        "gavel_cost_ratio": gavel_usd / bound.usd,
        "gavel_misses_repaired": len(missed(jobs, repaired)),
        "gavel_cost_ratio_repaired": repaired_usd / bound.usd,
        "gavel_own_misses": sum(gavel.finish_s[job.num] - job.arrival_s > (job.deadline_s or 0.0) for job in jobs),
        "cost_usd": cost_usd,
        "spent_usd": sum(ours.cost_usd.values()),
        "lp_usd": bound.usd,
        "lp_late_frac": bound.late_frac,
        "gavel_cost_usd": gavel_usd,
        "moves": ours.num_moves,
        "plan_s_mean": statistics.fmean(ours.plan_s),
        "plan_s_max": max(ours.plan_s),
    }


def planned(job: GavelJob) -> PlanJob:
    options = tuple(Option(0, flavor, job.gpus, float(job.gpus), rate) for flavor, rate in job.rates.items())
    return PlanJob(JobId(str(job.num)), options, job.steps, job.arrival_s, deadline_s=job.deadline_s)


def missed(jobs: Sequence[GavelJob], run: Executed | GavelOutcome) -> set[int]:
    return {job.num for job in jobs if job.deadline_s is not None and run.finish_s[job.num] > job.deadline_s + 1e-6}


def charged_usd(jobs: Sequence[GavelJob], run: Executed | GavelOutcome) -> float:
    late = missed(jobs, run)
    dearest = max(FLAVORS, key=lambda flavor: GCP_USD_PER_H[flavor])
    total = 0.0
    for job in jobs:
        spent = run.cost_usd[job.num]
        full = GCP_USD_PER_H[dearest] * job.gpus * job.steps / job.rates[dearest] / 3600
        total += max(spent, full) if job.num in late else spent
    return total


if __name__ == "__main__":
    main()
