"""How well the autoscaler holds `cpu_utilization` at 70, with 2 to 10 replicas of 0.1 CPU.

`within_10_points_frac`, `replica_seconds_ratio`: on a real Ray Serve, with a load that is really burnt (`autoscale_burner.py`) for three
and a half minutes; `autoscale_score.py` says what is counted. `virtual_*`: the same policy and meter in a world on virtual time, over many
seeds and loads (`autoscale_loads.py`, `autoscale_world.py`); `virtual_worst_within_frac` is the worst kind of load.

Options: `--json`, `--seeds 8`, `--trace FILE` (one figure per line; a load of your own, burnt in place of `shapes`), `--virtual-only`.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoscale_burner import NUM_CPUS, Burner, Driver
from autoscale_loads import VIRTUAL, read_trace, shapes
from autoscale_score import LEAST, MOST, TARGET, Second, score
from autoscale_world import Conditions, run
from measure import report

from serve_apps.autoscaling.rule import parse_autoscale
from serve_apps.autoscaling.serve_policy import ServePolicy, serve_options

GOALS = {"within_10_points_frac": ">= 0.85", "replica_seconds_ratio": "<= 1.15"}
_APP = "autoscale-benchmark"
_READY_S = 60.0
_FIRST_SEED = 100
"""The policy's constants were set on seeds below this one."""
_SLOW = Conditions(start_s=6.0, burst_s=2.0, leaked=0.3, idle=12.0, noise=0.02)
"""As a real Ray Serve on two busy cores: what is burnt, without the burning."""
_NUM_CPUS = 12
"""Logical: Ray keeps so many worker processes ready, which a new replica starts in."""


def burnt(load: list[float]) -> tuple[list[Second], float]:
    """One real run, and what an idle replica uses, in percent."""
    import ray
    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    rule = parse_autoscale({"metric": "cpu_utilization", "target": TARGET, "min": LEAST, "max": MOST})
    options = serve_options(rule)
    kwargs = options.pop("policy_kwargs")
    driver = Driver()
    ray.init(num_cpus=_NUM_CPUS, include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            config = AutoscalingConfig(
                initial_replicas=LEAST, policy=AutoscalingPolicy(policy_function=ServePolicy, policy_kwargs=kwargs), **options
            )
        deployment = serve.deployment(
            ray_actor_options={"num_cpus": NUM_CPUS},
            autoscaling_config=config,
            graceful_shutdown_timeout_s=1.0,
            graceful_shutdown_wait_loop_s=0.1,
        )
        serve.run(deployment(Burner).bind(driver.port), name=_APP, route_prefix=None)
        deadline_s = time.monotonic() + _READY_S
        while driver.num_alive() < LEAST and time.monotonic() < deadline_s:
            time.sleep(0.1)
        driver.play([0.0] * 4)  # the first replicas' own start is no part of it
        idle = driver.idle_use(6)
        load = _less_idle(load, idle)
        driver.play(load[:1] * 8)
        return driver.seconds(load, driver.play(load)), idle
    finally:
        serve.shutdown()
        ray.shutdown()
        driver.close()


def _less_idle(load: list[float], idle: float) -> list[float]:
    """What is left of the target for the load: the same counts meet it as if replicas used nothing by themselves."""
    return [value * (TARGET - idle) / TARGET for value in load]


def virtual(num_seeds: int) -> dict[str, float]:
    """Means over seeds and conditions; the worst kind of load."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    rows: dict[str, list[dict[str, float]]] = {}
    for name, make in VIRTUAL.items():
        for seed in range(_FIRST_SEED, _FIRST_SEED + num_seeds):
            conditions = Conditions(start_s=(1.5, 2.5, 4.0)[seed % 3], noise=(0.02, 0.04)[seed % 2])
            rows.setdefault(name, []).append(score(run(make(seed), seed, conditions)))
    every = [row for found in rows.values() for row in found]
    load = _less_idle(shapes(), _SLOW.idle)
    slow = [score(run(load, seed, _SLOW), _SLOW.idle) for seed in range(_FIRST_SEED, _FIRST_SEED + num_seeds)]
    means = {name: statistics.mean(row["within_10_points_frac"] for row in found) for name, found in rows.items()}
    return {
        "virtual_within_frac": statistics.mean(means.values()),
        "virtual_worst_within_frac": min(means.values()),
        "virtual_replica_seconds_ratio": statistics.mean(row["replica_seconds_ratio"] for row in every),
        "virtual_turns_per_min": statistics.mean(row["turns"] for row in every) / (len(next(iter(VIRTUAL.values()))(_FIRST_SEED)) / 60),
        **{f"virtual_{name}_within_frac": mean for name, mean in means.items()},
        "virtual_slow_within_frac": statistics.mean(row["within_10_points_frac"] for row in slow),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--virtual-only", action="store_true")
    parser.add_argument("--seconds", type=Path, help="write what every second of the real run measured, as CSV")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    if not given.virtual_only:
        seconds, idle = burnt(read_trace(given.trace) if given.trace else shapes())
        figures.update(score(seconds, idle), idle_use=idle)
        if given.seconds:
            rows = [f"{one.load:.3f},{one.num_running:.2f},{one.used:.1f}" for one in seconds]
            given.seconds.write_text("\n".join(["load,replicas,used", *rows]) + "\n", encoding="utf-8")
    figures.update(virtual(given.seeds))
    report(figures, GOALS, as_json=given.json)


if __name__ == "__main__":
    main()
