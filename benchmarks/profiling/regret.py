"""What it costs to schedule by predicted throughputs instead of the true ones: both schedules are carried out at the true ones.

The product's own scheduler and planners on virtual time, 60 s charged for every start and move in both, every run checked from outside.
Steps are known. Rates are predicted from the rest of Gavel's table and corrected by the jobs' own progress as they run. Held out:
`unseen`, all rows of the job's type, of every gang size; `one_known`, those on two of the three devices (the known one goes round among
the types); `device`, all rows on one device, each in turn; `catalogue`, the whole table. A type's jobs without a deadline wait for a
probe of 30 s on each flavor where the doubt about them is worth it; probes are jobs like others, of a class that goes first, and what
they hold and start counts in the figures. `unprobed`: `unseen` without them; `uncorrected`: progress teaches nothing either.

Workloads: Gavel's two physical-cluster traces on 8 V100, 16 P100 and 24 K80, for their last completion and, as they have no deadlines,
for plain cost; and jobs with deadlines (never probed) from Gavel's generator under three loads, for cost, a missed job being charged at
least its run on the dearest flavor. Each figure is the mean of several seeds: of trifling errors in what is told (the traces), of the
jobs (the generator). `makespan_regret` and `cost_regret` are of `unseen` and the worse trace; `deadline_cost_regret` is the mean of the
three loads.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from believed import Known, Predicted, Prior
from published import DEVICES, data_file, throughputs_of

from fabric.job import Shape
from fabric.policy import Policy, PriorityClass
from fabric.scheduler.problem import Objective
from fabric.show import table
from fabric.sim.check import problems
from fabric.sim.cluster import make_cluster
from fabric.sim.engine import Beliefs
from fabric.sim.gavel import read_gavel
from fabric.sim.scenario import Outcome, Scenario, simulate
from fabric.sim.trace import TraceJob
from fabric.types import Forecast
from pools.flavors import load_catalogue
from profiler.tables import gavel_row, gavel_rows
from profiler.transfer import Row, Transfer

sys.path.append(str(Path(__file__).parents[1] / "scheduling"))
from gavel_jobs import FLAVORS, GCP_USD_PER_H, generate

PHYSICAL, SIMULATION = "physical_cluster_throughputs.json", "simulation_throughputs.json"
PROBE_S, RESTART_S = 30.0, 60.0
CAPACITY = {"v100": 8, "p100": 16, "k80": 24}
HELD_OUT = ("unseen", "one_known", *(f"device {device}" for device in DEVICES), "catalogue", "unprobed", "uncorrected")
GOAL = "(goal <= 0.02)"
CLASSES = (PriorityClass("default"), PriorityClass("probe", weight=100.0))
"""A probe goes first and pushes nobody out."""


class Workload(NamedTuple):
    """`lam_s`, `num_jobs`: of generated jobs; 0: the trace of this name. `capacity`: accelerators of each flavor."""

    name: str
    objective: Objective
    capacity: tuple[tuple[str, int], ...] = tuple(CAPACITY.items())
    num_jobs: int = 0
    lam_s: float = 0.0

    @property
    def table(self) -> str:
        """What Gavel itself drew generated jobs with, and ran the traces with."""
        return SIMULATION if self.num_jobs else PHYSICAL


WORKLOADS = (
    *(Workload(trace, objective) for objective in ("makespan", "cost") for trace in ("minimize_makespan", "max_min_fairness")),
    Workload("light", "cost", tuple((flavor, 12) for flavor in FLAVORS), 60, 1800.0),
    Workload("medium", "cost", tuple((flavor, 12) for flavor in FLAVORS), 100, 900.0),
    Workload("heavy", "cost", tuple((flavor, 8) for flavor in FLAVORS), 100, 600.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--held-out", choices=HELD_OUT, help="only this; all take ten minutes and more")
    parser.add_argument("--workload", choices=sorted({load.name for load in WORKLOADS}), help="only this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    loads = [load for load in WORKLOADS if args.workload in (None, load.name)]
    splits = (args.held_out,) if args.held_out else HELD_OUT
    rows = [measure(load, held_out, seeds) for held_out in splits for load in loads]
    result = headline([row for row in rows if row["held_out"] == splits[0]])
    if args.json:
        print(json.dumps({**result, "held_out": splits[0], "runs": rows}))
        return
    keys = ("held_out", "workload", "objective")
    numbers = ("regret", "worst", "predicted", "true", "restarts", "true_restarts", "misses", "true_misses", "rate_error")
    lines = [
        [*(row[key] for key in keys), *(f"{row[key]:+.4f}" if key in ("regret", "worst") else f"{row[key]:,.5g}" for key in numbers)]
        for row in rows
    ]
    print(table([*keys, *numbers], lines, right=tuple(range(3, 12))))
    for name, found in result.items():
        print(f"{name} {found:+.4f} {GOAL}")


def headline(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    spans = [row["regret"] for row in rows if row["objective"] == "makespan"]
    loads = [row["regret"] for row in rows if row["objective"] == "cost" and row["is_generated"]]
    plain = [row["regret"] for row in rows if row["objective"] == "cost" and not row["is_generated"]]
    found = {"makespan_regret": max(spans, default=None), "cost_regret": max(plain, default=None)}
    found["deadline_cost_regret"] = statistics.fmean(loads) if loads else None
    return {name: value for name, value in found.items() if value is not None}


def measure(load: Workload, held_out: str, seeds: Sequence[int]) -> dict[str, Any]:
    """`regret`: of the seeds' sums; `worst`: of one seed. `rate_error`: median error of the rates before anything has run."""
    pairs, errors = [], []
    for seed in seeds:
        is_probing, is_corrected = held_out not in ("unprobed", "uncorrected"), held_out != "uncorrected"
        known = prior(held_out, load.table)
        beliefs = Predicted(load_catalogue(), known, seed, is_corrected=is_corrected, is_probing=is_probing)
        pairs.append((run(load, seed, beliefs), true(load, seed)))
        errors += [abs(error) for error in beliefs.log_errors]
    predicted, truth = ({key: statistics.fmean(one[key] for one in side) for key in pairs[0][0]} for side in zip(*pairs, strict=True))
    return {
        "held_out": held_out,
        "workload": load.name,
        "objective": load.objective,
        "is_generated": load.num_jobs > 0,
        "regret": predicted["figure"] / truth["figure"] - 1.0,
        "worst": max(one["figure"] / other["figure"] - 1.0 for one, other in pairs),
        "predicted": predicted["figure"],
        "true": truth["figure"],
        "restarts": predicted["restarts"],
        "true_restarts": truth["restarts"],
        "misses": predicted["misses"],
        "true_misses": truth["misses"],
        "rate_error": statistics.median(errors),
    }


@cache
def true(load: Workload, seed: int) -> dict[str, float]:
    return run(load, seed, Known(seed))


def run(load: Workload, seed: int, beliefs: Beliefs) -> dict[str, float]:
    """Raises: AssertionError where the leases do not bear the figures out."""
    jobs, capacity = jobs_of(load, seed), dict(load.capacity)
    if isinstance(beliefs, Predicted) and beliefs.is_probing:
        jobs = with_probes(jobs, beliefs)
    cluster = make_cluster(capacity, usd_per_h=GCP_USD_PER_H)
    outcome = simulate(Scenario(jobs, cluster, Policy(objective=load.objective, restart_s=RESTART_S, classes=CLASSES), beliefs=beliefs))
    found = outcome.figures.as_json()
    wrong = problems(jobs, outcome.leases, capacity, restart_s=RESTART_S, figures=found, usd_per_h=GCP_USD_PER_H)
    assert not wrong, wrong[:5]
    figure = found["makespan_s"] if load.objective == "makespan" else charged_usd(jobs, outcome)
    return {"figure": figure, "restarts": found["restarts"], "misses": found["misses"]}


def jobs_of(load: Workload, seed: int) -> list[TraceJob]:
    if not load.num_jobs:
        return list(_trace(load.name))
    drawn = generate(throughputs_of(load.table), num_jobs=load.num_jobs, lam_s=load.lam_s, seed=seed)
    one = Shape("", 1, cpus=0.0, num_bundles=1)
    return [
        TraceJob(line, f"{job.num}", job.job_type, one, job.steps, job.arrival_s, job.rates, job.deadline_s)
        for line, job in enumerate(drawn)
    ]


def with_probes(jobs: Sequence[TraceJob], beliefs: Predicted) -> list[TraceJob]:
    """Before its first job without a deadline a type runs on every flavor where that is worth it, and such jobs wait for that."""
    probes: dict[tuple[str, Shape], list[TraceJob]] = {}
    main = []
    for job in jobs:
        kind = (job.family, job.shape)
        if job.deadline_s is None and kind not in probes:
            wanted = [flavor for flavor in job.rates if _is_worth_it(job, flavor, beliefs)]
            first = len(jobs) + sum(map(len, probes.values()))
            probes[kind] = [_probe(job, flavor, line) for line, flavor in enumerate(wanted, first)]
        before = probes.get(kind, []) if job.deadline_s is None else []
        main.append(replace(job, after=tuple(probe.line for probe in before)))
    return [*(probe for found in probes.values() for probe in found), *main]


def saved_by_probe(prior: Forecast, run_s: float) -> float:
    """Seconds of a run of `run_s` that knowing this forecast's truth is expected to save.

    Of two ways that look alike one is taken blindly; knowing one of them saves the mean of what is positive of a normal of this deviation.
    A probe pays where that is more than its own seconds and the restarts that it takes.
    """
    return run_s * prior.log_sd / math.sqrt(2.0 * math.pi)


def _is_worth_it(job: TraceJob, flavor: str, beliefs: Predicted) -> bool:
    forecast = beliefs.forecast(gavel_row(job.family, flavor, job.rates[flavor], gpus=job.gpus))
    return saved_by_probe(forecast, job.work * math.exp(forecast.mean_log)) > PROBE_S + RESTART_S


def _probe(job: TraceJob, flavor: str, line: int) -> TraceJob:
    rate = job.rates[flavor]
    return replace(job, line=line, name=f"probe {flavor}", priority="probe", work=PROBE_S * rate, rates={flavor: rate})


@cache
def _trace(name: str) -> tuple[TraceJob, ...]:
    path = data_file("gavel", f"{name}.trace")
    return tuple(read_gavel(path, path.read_text(), throughputs_of(PHYSICAL), list(DEVICES)))


def charged_usd(jobs: Sequence[TraceJob], outcome: Outcome) -> float:
    """Accelerator time; of a job that missed its deadline at least its run on the dearest flavor."""
    spent: dict[int, float] = defaultdict(float)
    for lease in outcome.leases:
        spent[lease.job] += GCP_USD_PER_H[lease.flavor] * lease.gpus * (lease.end_s - lease.start_s) / 3600
    total = 0.0
    for job in jobs:
        is_late = job.deadline_s is not None and outcome.end_s[job.line] > job.deadline_s + 1e-6
        dearest = max(job.rates, key=lambda flavor: GCP_USD_PER_H[flavor])
        full = GCP_USD_PER_H[dearest] * job.gpus * job.work / job.rates[dearest] / 3600
        total += max(spent[job.line], full) if is_late else spent[job.line]
    return total


def prior(held_out: str, table_name: str) -> Prior:
    """What is known of each job type before anything has run."""
    if held_out == "catalogue":
        return lambda job_type: ("all", _fit(table_name, "", ""))
    if held_out.startswith("device "):
        return lambda job_type: ("all", _fit(table_name, "", held_out.removeprefix("device ")))
    types = sorted({_type_of(row) for row in _rows(table_name)})
    kept = {name: DEVICES[number % len(DEVICES)] if held_out == "one_known" else "" for number, name in enumerate(types)}
    return lambda job_type: (job_type, _fit(table_name, job_type, kept[job_type]))


@cache
def _fit(table_name: str, job_type: str, device: str) -> Transfer:
    """Without a job type but on `device`; with no job type named, without `device`, and without anything where none is named."""
    rows = _rows(table_name)
    if job_type:
        known = [row for row in rows if _type_of(row) != job_type or row.flavor == device]
    else:
        known = [row for row in rows if device and row.flavor != device]
    return Transfer.fitted(load_catalogue(), known)


def _type_of(row: Row) -> str:
    return row.task.partition(" x")[0]


@cache
def _rows(table_name: str) -> tuple[Row, ...]:
    return tuple(gavel_rows(throughputs_of(table_name)))


if __name__ == "__main__":
    main()
