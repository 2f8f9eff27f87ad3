"""100,000 jobs on 10,000 accelerators, simulated in one process on one core: how long it takes and what memory.

Jobs as in Gavel (sizes 1/2/4/8 for 70/10/15/5 %, long and short ones, 26 families), arriving so that the cluster is about 90 % busy.
`jct_ratio` is the mean completion time over that of first come, first served on the fastest flavor that is free.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time

from fabric.job import Shape
from fabric.policy import Policy
from fabric.scheduler.problem import Objective
from fabric.show import table
from fabric.sim.check import problems
from fabric.sim.cluster import make_cluster
from fabric.sim.scenario import Outcome, Scenario, simulate
from fabric.sim.trace import TraceJob

MIX = {"v100": 0.25, "p100": 0.25, "k80": 0.5}
SPEEDS = {"v100": 1.0, "p100": 0.55, "k80": 0.2}
NUM_FAMILIES = 26
LOAD = 0.9
GPUS_PER_NODE = 8
GOALS = {"wall_s": "<= 600", "peak_rss_mb": "<= 4000"}


def draw(num_jobs: int, num_gpus: int, seed: int) -> list[TraceJob]:
    """Arrivals are Poisson, at `LOAD` of what the cluster can do."""
    luck = random.Random(seed)
    twists = [{flavor: speed * luck.uniform(0.6, 1.4) for flavor, speed in SPEEDS.items()} for _ in range(NUM_FAMILIES)]
    power = sum(MIX[flavor] * speed for flavor, speed in SPEEDS.items()) * num_gpus
    jobs, work = [], 0.0
    for line in range(num_jobs):
        gpus = luck.choices((1, 2, 4, 8), (70, 10, 15, 5))[0]
        family = luck.randrange(NUM_FAMILIES)
        seconds = 60 * 10 ** (luck.uniform(1.5, 3) if luck.random() < 0.8 else luck.uniform(3, 4))
        arrival_s, work = work / (LOAD * power), work + seconds * gpus * luck.expovariate(1.0)
        shape = Shape("", 1, cpus=0.0, num_bundles=gpus)
        jobs.append(TraceJob(line, f"{line}", f"family-{family}", shape, seconds, arrival_s, twists[family]))
    return jobs


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--objective", default="balanced", choices=["balanced", "jct", "makespan", "cost"])
    parser.add_argument("--no-baseline", action="store_true", help="without first come, first served beside it")
    args = parser.parse_args()
    cluster = make_cluster({flavor: int(share * args.gpus) for flavor, share in MIX.items()}, gpus_per_node=GPUS_PER_NODE)
    jobs = draw(args.jobs, args.gpus, 0)

    def run(objective: Objective, *, is_planning: bool) -> tuple[Outcome, float]:
        scenario = Scenario(jobs, cluster, Policy(objective=objective))
        used_s = time.process_time()
        outcome = simulate(scenario if is_planning else Scenario(jobs, cluster, scenario.policy, planner=None))
        return outcome, time.process_time() - used_s

    outcome, cpu_s = run(args.objective, is_planning=True)
    figures = {"wall_s": outcome.wall_s, "cpu_s": cpu_s, "peak_rss_mb": peak_rss_mb(), "events": outcome.events}
    found = problems(jobs, outcome.leases, cluster.capacity, restart_s=60.0, figures=outcome.figures.as_json())
    assert not found, found[:5]
    figures |= {name: value for name, value in outcome.figures.as_json().items() if isinstance(value, int | float)}
    if not args.no_baseline:
        first, _ = run(args.objective, is_planning=False)
        figures |= {
            "fcfs_jct_h": first.figures.jct_h,
            "jct_ratio": outcome.figures.jct_h / first.figures.jct_h,
            "fcfs_wall_s": first.wall_s,
        }
    if args.json:
        print(json.dumps(figures))
        return
    print(
        table(
            ["figure", "measured", "goal"], [[name, f"{value:,.4g}", GOALS.get(name, "")] for name, value in figures.items()], right=(1, 2)
        )
    )


if __name__ == "__main__":
    main()
