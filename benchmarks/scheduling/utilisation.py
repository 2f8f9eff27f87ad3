"""One shared fabric under a policy against one static partition per class, on the same jobs and the same mixed cluster.

Two classes: `production` (strictly higher value: bursts of short jobs by day and night) and `batch` (a backlog of long ones). The
partitions have as many accelerators of each flavor as their class asks for on average, each run by the same scheduler on its own. Both
sides run for the same span: the work done in it over what the cluster could do is the utilisation, in V100-seconds so that a busy
K80 does not count as a busy V100. `qos_p99_ratio`: p99 of the production jobs' completion time over their own fastest run time, shared
over partitioned.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fabric.job import Shape
from fabric.policy import Policy, PriorityClass
from fabric.show import table
from fabric.sim.cluster import make_cluster
from fabric.sim.events import LeaseLine
from fabric.sim.figures import quantile
from fabric.sim.scenario import Outcome, Scenario, simulate
from fabric.sim.trace import TraceJob

CAPACITY = {"v100": 8, "p100": 16, "k80": 24}
SPEEDS = {"v100": 1.0, "p100": 0.55, "k80": 0.2}
PRODUCTION, BATCH = "production", "batch"
SHARED = Policy(name="shared", classes=(PriorityClass(PRODUCTION, value=100), PriorityClass(BATCH)), restart_s=60.0)
ALONE = replace(SHARED, name="partition")
SPAN_S = 48 * 3600.0
BURST_EVERY_S, BURST_S = 4 * 3600.0, 1800.0
NUM_FAMILIES = 26
GOALS = {"utilisation_ratio": ">= 1.3", "qos_p99_ratio": "<= 1.0"}


def draw(seed: int) -> list[TraceJob]:
    """Production: bursts of half an hour every four hours, at several times the average. Batch: always more than there is room for."""
    luck = random.Random(seed)
    families = [{flavor: speed * luck.uniform(0.6, 1.4) for flavor, speed in SPEEDS.items()} for _ in range(NUM_FAMILIES)]
    arrivals: list[tuple[float, str]] = []
    burst_s = luck.uniform(0, BURST_EVERY_S)
    while burst_s < SPAN_S:
        arrivals += [(burst_s + luck.uniform(0, BURST_S), PRODUCTION) for _ in range(luck.randint(20, 60))]
        burst_s += luck.expovariate(1 / BURST_EVERY_S)
    arrivals += [(luck.uniform(0, SPAN_S), PRODUCTION) for _ in range(60)]
    arrivals += [(0.0 if n < 60 else luck.uniform(0, 0.8 * SPAN_S), BATCH) for n in range(260)]
    jobs = []
    for line, (arrival_s, cls) in enumerate(sorted(arrivals)):
        gpus = luck.choices((1, 2, 4), (80, 14, 6))[0]
        seconds = luck.uniform(300, 1500) if cls == PRODUCTION else 60 * 10 ** luck.uniform(1.5, 2.7)
        shape = Shape("", 1, cpus=0.0, num_bundles=gpus)
        family = luck.randrange(NUM_FAMILIES)
        jobs.append(TraceJob(line, f"{line}", f"{cls}-{family}", shape, seconds, arrival_s, families[family], priority=cls))
    return jobs


def partitions(jobs: Sequence[TraceJob]) -> dict[str, dict[str, int]]:
    """Class -> flavor -> accelerators: every flavor in proportion to the classes' peaks, as an operator would who keeps production's
    latency: production gets what its bursts need, at least half."""
    work = {cls: sum(job.work * job.gpus for job in jobs if job.priority == cls) for cls in (PRODUCTION, BATCH)}
    share = max(0.5, work[PRODUCTION] / sum(work.values()))
    mine = {flavor: max(1, round(count * share)) for flavor, count in CAPACITY.items()}
    return {PRODUCTION: mine, BATCH: {flavor: count - mine[flavor] for flavor, count in CAPACITY.items()}}


def measure(seed: int) -> dict[str, float]:
    jobs = draw(seed)
    shared = simulate(Scenario(jobs, make_cluster(CAPACITY), SHARED))
    split = partitions(jobs)
    apart = {cls: simulate(Scenario(_of(jobs, cls), make_cluster(split[cls]), ALONE)) for cls in split}
    leases = [lease for outcome in apart.values() for lease in outcome.leases]
    ours, theirs = useful(shared.leases, jobs), useful(leases, jobs)
    p99, alone_p99 = (qos_p99(outcome, _of(jobs, PRODUCTION)) for outcome in (shared, apart[PRODUCTION]))
    return {
        "utilisation_ratio": ours / theirs,
        "qos_p99_ratio": p99 / alone_p99,
        "utilisation": ours,
        "partitioned_utilisation": theirs,
        "qos_p99": p99,
        "partitioned_qos_p99": alone_p99,
        "batch_jct_h": jct_h(shared, _of(jobs, BATCH)),
        "partitioned_batch_jct_h": jct_h(apart[BATCH], _of(jobs, BATCH)),
        "restarts": float(shared.figures.restarts),
    }


def _of(jobs: Sequence[TraceJob], cls: str) -> list[TraceJob]:
    return [job for job in jobs if job.priority == cls]


def useful(leases: Sequence[LeaseLine], jobs: Sequence[TraceJob]) -> float:
    """Work done by `SPAN_S` over what the cluster could have done, in V100-seconds of each job's own speed."""
    by_line = {job.line: job for job in jobs}
    done = 0.0
    for lease in leases:
        if lease.start_s < SPAN_S and lease.end_s > lease.start_s:
            inside = min(1.0, (SPAN_S - lease.start_s) / (lease.end_s - lease.start_s))
            done += lease.steps * inside * by_line[lease.job].gpus
    return done / (SPAN_S * sum(CAPACITY[flavor] * speed for flavor, speed in SPEEDS.items()))


def qos_p99(outcome: Outcome, jobs: Sequence[TraceJob]) -> float:
    return quantile(sorted((outcome.end_s[job.line] - job.arrival_s) * max(job.rates.values()) / job.work for job in jobs), 0.99)


def jct_h(outcome: Outcome, jobs: Sequence[TraceJob]) -> float:
    return statistics.fmean(outcome.end_s[job.line] - job.arrival_s for job in jobs) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    by_seed = [measure(seed) for seed in range(args.seeds)]
    figures: Mapping[str, float] = {name: statistics.median(row[name] for row in by_seed) for name in by_seed[0]}
    if args.json:
        print(json.dumps({**figures, "seeds": {str(seed): row for seed, row in enumerate(by_seed)}}))
        return
    rows = [[name, f"{value:.3g}", *(f"{row[name]:.3g}" for row in by_seed), GOALS.get(name, "")] for name, value in figures.items()]
    columns = ["figure", "median", *(f"seed {seed}" for seed in range(args.seeds)), "goal"]
    print(table(columns, rows, right=tuple(range(1, len(columns)))))


if __name__ == "__main__":
    main()
