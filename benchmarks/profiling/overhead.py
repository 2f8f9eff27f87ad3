"""What being measured and kept within caps adds to a task: the same function on one real Ray worker, bare and measured, in turns.

The function does a fixed amount of work, of about 1 ms and 10 ms; it runs bare and under `fabric.worker.measured` alternately, so that a
busy machine hits both, with its reporter sending to the profiler meanwhile. A figure is the median over the pairs of one round, then the
median over the rounds. The worker has asked for memory and a time limit, so the page that its node agent watches is written as well.
What the caller's routing takes is not in it (see `task_overhead.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import median, options, report

import fabric

PAIRS = {1: 800, 10: 150}
"""Milliseconds of work -> pairs of one round."""


def main() -> None:
    args = options(__doc__ or "", rounds=7)
    client = fabric.connect()
    import ray

    from fabric.client import selector

    capacity = next(c for c in client.table.capacities.values() if c.flavor.is_cpu)
    on_worker = ray.remote(round_of).options(num_cpus=1, memory=2**30, label_selector=selector(capacity))
    ray.get(on_worker.remote(1, 50))
    found: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for work_ms, num_pairs in PAIRS.items():
            for name, value in ray.get(on_worker.remote(work_ms, num_pairs)).items():
                found.setdefault(f"{name}_{work_ms}ms", []).append(value)
    figures: dict[str, Any] = {name: median(values) for name, values in sorted(found.items())}
    figures.update(rounds=args.rounds, twin=capacity.is_twin)
    report(figures, {"overhead_10ms": "<= 0.01", "overhead_1ms": "<= 0.03"}, as_json=args.json)
    fabric.disconnect()


def round_of(work_ms: int, num_pairs: int) -> dict[str, float]:
    """One round, on a worker: the part that measuring adds of the bare function's time, in wall and in CPU time; that in µs of wall
    time; and what the function takes bare, in ms."""
    import statistics
    import time

    from fabric.worker import measured

    def work(num_steps: int) -> int:
        total = 0
        for step in range(num_steps):
            total += step
        return total

    def timed(fn: Any) -> tuple[float, float]:
        started_s, cpu_s = time.perf_counter(), time.process_time()
        fn(num_steps)
        return time.perf_counter() - started_s, time.process_time() - cpu_s

    num_steps = 10_000
    bare_s = min(timed(work)[0] for _ in range(20))
    num_steps = round(num_steps * work_ms / 1e3 / bare_s)
    wrapped = measured(work, task="overhead@0", variant="default", user="benchmark", queue="default", timeout_s=600.0)
    wrapped(num_steps)
    pairs = []
    for index in range(num_pairs):
        first, second = (work, wrapped) if index % 2 else (wrapped, work)
        one, other = timed(first), timed(second)
        pairs.append((one, other) if first is wrapped else (other, one))
    bare_s = statistics.median(bare[0] for _, bare in pairs)
    return {
        "overhead": statistics.median(ours[0] / bare[0] for ours, bare in pairs) - 1.0,
        "cpu_overhead": sum(ours[1] for ours, _ in pairs) / sum(bare[1] for _, bare in pairs) - 1.0,
        "added_us": 1e6 * statistics.median(ours[0] - bare[0] for ours, bare in pairs),
        "bare": 1e3 * bare_s,
    }


if __name__ == "__main__":
    main()
