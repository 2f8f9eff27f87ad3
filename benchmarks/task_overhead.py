"""What a fabric call costs over a raw Ray call with the same options: throughput of 10,000, latency one at a time.

Both run on the cold tier of the same twin in alternating rounds; ratios are medians over the rounds' pairs.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from measure import median, options, report

import fabric

CALLS = 10_000
CHUNK = 1_000
LATENCY_CALLS = 400


@fabric.task(name="nothing", flavor="cold")
def nothing(x: int) -> int:
    return x


def main() -> None:
    args = options(__doc__ or "", rounds=7)
    client = fabric.connect()
    import ray

    from fabric.client import selector

    capacity = next(c for c in client.table.capacities.values() if c.flavor.is_cpu)

    @ray.remote
    def raw(x: int) -> int:
        return x

    plain = raw.options(name="nothing", num_cpus=1, num_gpus=0, label_selector=selector(capacity))
    for warm in (plain, nothing):
        ray.get([warm.remote(i) for i in range(2000)])
    throughput_pairs, latency_pairs = [], []
    per_round = max(1, CALLS // CHUNK // args.rounds) * CHUNK
    for index in range(args.rounds):
        order = (plain, nothing) if index % 2 else (nothing, plain)
        speed = {id(task): throughput(ray, task, per_round) for task in order}
        throughput_pairs.append((speed[id(nothing)], speed[id(plain)]))
        delay = latencies(ray, order)
        latency_pairs.append((delay[id(nothing)], delay[id(plain)]))
    report(
        {
            "throughput_ratio": median([ours / theirs for ours, theirs in throughput_pairs]),
            "latency_ratio_p50": median([ours / theirs for ours, theirs in latency_pairs]),
            "fabric_calls_per_s": median([ours for ours, _ in throughput_pairs]),
            "ray_calls_per_s": median([theirs for _, theirs in throughput_pairs]),
            "fabric_latency_ms_p50": 1e3 * median([ours for ours, _ in latency_pairs]),
            "ray_latency_ms_p50": 1e3 * median([theirs for _, theirs in latency_pairs]),
            "calls": per_round * args.rounds,
            "twin": capacity.is_twin,
        },
        {"throughput_ratio": ">= 0.95", "latency_ratio_p50": "<= 1.05"},
        as_json=args.json,
    )
    fabric.disconnect()


def throughput(ray: Any, task: Any, num_calls: int) -> float:
    """Calls per second, all submitted at once and then awaited."""
    gc.collect()
    started_s = time.perf_counter()
    ray.get([task.remote(i) for i in range(num_calls)])
    return num_calls / (time.perf_counter() - started_s)


def latencies(ray: Any, tasks: tuple[Any, ...]) -> dict[int, float]:
    """Median seconds of one call at a time, the tasks in turn so that noise hits both."""
    times: dict[int, list[float]] = {id(task): [] for task in tasks}
    for index in range(LATENCY_CALLS):
        for task in tasks:
            started_s = time.perf_counter()
            ray.get(task.remote(index))
            times[id(task)].append(time.perf_counter() - started_s)
    return {key: median(values) for key, values in times.items()}


if __name__ == "__main__":
    main()
