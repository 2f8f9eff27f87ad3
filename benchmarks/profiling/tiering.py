"""What the tier rule is worth: mixed CV and NLP, training and inference, on hot + warm + cold, against everything on hot and against the
first free node.

The same work in the same window in every arm; nothing is shed. `fabric.tiering.plan_tiers` decides where services run and what is left for
jobs, from rates, tables, prices and pool sizes alone; the scheduler's own core and its planner for cost place the jobs. The figures are
MLPerf's and Gavel's (`tiering_world.py` says how they are read).

Load is a part of hot's capacity, of each phase by itself: models are asked for so often that all on hot would take that part of its
largest throughput (each model the same); jobs come such that they offer that part of hot's training accelerators. Hot serves on A100s
and trains on V100s, since nothing else is measured: so neither delays the other, which favours "everything on hot".

What everything on hot is given: all its units; of all ways to share them among the models the best; per station the best largest batch
and timer, by search, on the very requests that it is judged by; no job ever in a request's way. The first free node: hot before warm
before cold, the best batch by search; jobs on the fastest accelerator that is free. The tier rule is given no search on the requests.

`inference_p95_saving` is 1 - the geometric mean over models of p95 (queueing included) over the baseline's: each model counts alike.
`training_cost_saving` is 1 - price x time held by training jobs, restarts included, over the baseline's. Idle nodes are nobody's there.
Two other accountings are printed: `*_peak` (the most units held at once, paid for the whole window) and `*_provisioned` (every node of
the training pools, used or not, paid for the whole window: then more pools always cost more). What inference costs in each arm is
printed as well, and the p95 against as many more A100s as the tiers' stations cost (`inference_p95_saving_equal_money`): what to buy
is another question than how to use what there is. `training_cost_saving_bound` is what no schedule can exceed: every job on the flavor
where its steps cost least. `training_cost_saving_against_a100` is a what-if and no measurement: training on A100s in place of V100s, at
the ratio of the catalogue's FP16 peaks and bandwidths (geometric mean), at list prices.

Options: `--pools`, `--prices`, `--seeds 0,1,2`, `--load 0.7`, `--json`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import tiering_inference as inference
import tiering_training as training
from request_queues import poisson
from tiering_world import World, data_dir, draw_jobs, read_world

from fabric.show import table
from fabric.tiering import TierPlan, plan_tiers
from fabric.types import Domain

LOADS = (0.3, 0.5, 0.7, 0.9)
GOAL_LOAD = 0.7
GOALS = {"training_cost_saving": ">= 0.50", "inference_p95_saving": ">= 0.40"}
CV_NLP: tuple[Domain, ...] = ("cv", "nlp")
ALL: tuple[Domain, ...] = ("cv", "nlp", "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--pools", type=Path, default=Path(__file__).with_name("tiering_pools.json"))
    parser.add_argument("--prices", type=Path, default=data_dir() / "prices.csv")
    parser.add_argument("--seeds", default="", help="as in 0,1,2; those of the pools file where left out")
    parser.add_argument("--load", type=float, action="append", help="part of hot's capacity; may be given several times")
    args = parser.parse_args()
    began_s = time.perf_counter()
    world = read_world(args.pools, args.prices)
    seeds = tuple(int(seed) for seed in args.seeds.split(",")) if args.seeds else world.seeds
    loads = tuple(args.load or LOADS)
    curves = {f"{load:g}": median([measure(world, load, seed) for seed in seeds]) for load in loads}
    figures: dict[str, Any] = {"seeds": seeds, "units": world.units()}
    goal = curves.get(f"{GOAL_LOAD:g}") or next(iter(curves.values()))
    figures.update({name: value for name, value in goal.items() if not isinstance(value, dict)})
    figures.update(all_types(world, loads[0] if GOAL_LOAD not in loads else GOAL_LOAD, seeds))
    figures.update(against_a100(world, figures["training_cost_saving"]))
    figures.update({"curves": curves, "server_check": server_check(world), "wall_s": time.perf_counter() - began_s})
    if args.json:
        print(json.dumps(figures))
    else:
        show(figures)


def measure(world: World, load: float, seed: int) -> dict[str, Any]:
    """All arms at one load, on one seed."""
    services = inference.services_of(world, load)
    jobs = draw_jobs(world.num_jobs, seed, trainers(world), load, CV_NLP)
    plan = plan_tiers(services, training.loads_of(jobs, world.rates), world.supply)
    assert not plan.overloaded, "the pools can serve what hot alone can"
    return {**measure_inference(world, load, seed, plan), **measure_training(world, seed, load, plan)}


def measure_inference(world: World, load: float, seed: int, plan: TierPlan) -> dict[str, Any]:
    requests = inference.Requests(inference.services_of(world, load), seed)
    ours = inference.as_planned(plan.stations, requests, world)
    hot_units = {name: units for name, units in world.units(hot_only=True).items() if any(name in times for times in world.times.values())}
    hot = inference.on_hot(requests, world, hot_units)
    first = inference.first_free(requests, world)
    figures: dict[str, Any] = {
        "inference_p95_saving": 1 - inference.geometric_ratio(ours.p95_s, hot.p95_s),
        "inference_p95_saving_first_free": 1 - inference.geometric_ratio(ours.p95_s, first.p95_s),
        "inference_p95_saving_worst_model": 1 - max(ours.p95_s[name] / hot.p95_s[name] for name in ours.p95_s),
        "finished_frac": min(ours.finished_frac, hot.finished_frac),
        "p95_ms": {name: 1e3 * value for name, value in sorted(ours.p95_s.items())},
        "hot_p95_ms": {name: 1e3 * value for name, value in sorted(hot.p95_s.items())},
        "first_free_p95_ms": {name: 1e3 * value for name, value in sorted(first.p95_s.items())},
    }
    if ours.usd_per_h is not None and hot.usd_per_h is not None:
        figures["inference_usd_per_h"], figures["hot_inference_usd_per_h"] = ours.usd_per_h, hot.usd_per_h
        more = {name: round(units * ours.usd_per_h / hot.usd_per_h) for name, units in hot_units.items()}
        equal = inference.on_hot(requests, world, more)
        figures["inference_p95_saving_equal_money"] = 1 - inference.geometric_ratio(ours.p95_s, equal.p95_s)
    return figures


def measure_training(world: World, seed: int, load: float, plan: TierPlan, domains: tuple[Domain, ...] = CV_NLP) -> dict[str, Any]:
    jobs = draw_jobs(world.num_jobs, seed, trainers(world), load, domains)
    hot = training.on_hot(jobs, world)
    first = training.first_free(jobs, world)
    ours = training.on_tiers(jobs, world, plan.for_jobs, hot.end_s)
    return {
        "training_cost_saving": 1 - ours.usd / hot.usd,
        "training_cost_saving_first_free": 1 - ours.usd / first.usd,
        "training_cost_saving_bound": 1 - training.cheapest_usd(jobs, world) / hot.usd,
        "training_cost_saving_peak": 1 - ours.peak_usd / hot.peak_usd,
        "training_cost_saving_provisioned": 1 - ours.provisioned_usd / hot.provisioned_usd,
        "training_window_ratio": ours.end_s / hot.end_s,
        "training_jct_h": ours.jct_h,
        "hot_training_jct_h": hot.jct_h,
        "first_free_training_jct_h": first.jct_h,
        "training_usd": ours.usd,
        "hot_training_usd": hot.usd,
        "first_free_training_usd": first.usd,
        "training_saving_by_domain": {domain: 1 - usd / hot.by_domain[domain] for domain, usd in sorted(ours.by_domain.items())},
    }


def all_types(world: World, load: float, seeds: tuple[int, ...]) -> dict[str, float]:
    """The same with all of Gavel's job types: recommendation and A3C too, which are neither CV nor NLP."""
    plan = plan_tiers(inference.services_of(world, load), [], world.supply)
    rows = [measure_training(world, seed, load, plan, ALL) for seed in seeds]
    keys = ("training_cost_saving", "training_cost_saving_first_free", "training_cost_saving_bound")
    return {f"{key}_all_types": statistics.median(row[key] for row in rows) for key in keys}


def against_a100(world: World, saving: float) -> dict[str, float]:
    """The saving if hot trained on A100s; see the module."""
    flavors = {one.flavor.name: one for one in world.supply}
    a100, v100 = flavors.get("a100-80g"), flavors.get("v100")
    if a100 is None or v100 is None or a100.usd_per_h is None or v100.usd_per_h is None:
        return {}
    bandwidths = [one.flavor.bandwidth_bytes_per_s or 1.0 for one in (a100, v100)]
    faster = math.sqrt(a100.flavor.peak_flops["fp16"] / v100.flavor.peak_flops["fp16"] * bandwidths[0] / bandwidths[1])
    return {"training_cost_saving_against_a100": 1 - (1 - saving) * v100.usd_per_h * faster / a100.usd_per_h}


def trainers(world: World) -> int:
    """Units of hot that Gavel has throughputs of; the load of training is a part of them. Ends the process where there is none."""
    found = sum(units for name, units in world.units(hot_only=True).items() if name in training.TRAINERS)
    return found or sys.exit("no hot flavor of the pools trains in Gavel's tables: add v100")


def median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure over the seeds; within dicts too."""
    first = rows[0]
    return {
        key: median([row[key] for row in rows if key in row])
        if isinstance(first[key], dict)
        else statistics.median(row[key] for row in rows)
        for key in first
    }


def server_check(world: World) -> dict[str, float]:
    """Per accelerator, how the simulated p99 at MLPerf's Server rate compares with the p99 that was measured there (median over models);
    only where a request alone was measured and the rate is below what was measured Offline."""
    import numpy as np

    ratios: dict[str, list[float]] = {}
    for flavor, model, rate, p99_s in world.server_checks:
        time_s = world.times[model][flavor]
        if rate * time_s.per_item_s >= 1.0:
            continue
        arrivals = poisson(np.random.default_rng(0), rate, 40_000 / rate)
        latency = inference.alone(arrivals, time_s)
        ratios.setdefault(flavor, []).append(float(np.quantile(latency, 0.99)) / p99_s)
    return {flavor: statistics.median(found) for flavor, found in ratios.items()}


def show(figures: dict[str, Any]) -> None:
    curves = figures["curves"]
    keys = [key for key, value in next(iter(curves.values())).items() if not isinstance(value, dict)]
    print(
        table(
            ["figure", *(f"load {load}" for load in curves), f"goal at {GOAL_LOAD:g}"],
            [[key, *(f"{row.get(key, float('nan')):.4g}" for row in curves.values()), GOALS.get(key, "")] for key in keys],
            right=tuple(range(1, len(curves) + 2)),
        )
    )
    models = list(next(iter(curves.values()))["p95_ms"])
    rows = [
        [load, name, *(f"{row[key][name]:.3g}" for key in ("p95_ms", "hot_p95_ms", "first_free_p95_ms"))]
        for load, row in curves.items()
        for name in models
    ]
    print(table(["load", "model", "p95 ms", "on hot", "first free"], rows, right=(2, 3, 4)))
    rest = [[key, f"{value:.4g}"] for key, value in figures.items() if key.endswith(("_all_types", "_against_a100")) or key == "wall_s"]
    print(table(["figure", "measured"], rest, right=(1,)))
    print(
        "simulated over measured p99 at MLPerf's Server rates:", {name: round(ratio, 2) for name, ratio in figures["server_check"].items()}
    )


if __name__ == "__main__":
    main()
