"""What being measured and kept within caps adds to a task: the same function on one real Ray worker, bare and measured, in turns.

The function does a fixed amount of work, of about 1 ms and 10 ms. What is added is the time between the start of the call and the start of
the work, and between both ends, over that of the bare call (median), and the CPU time that the worker's other threads take meanwhile and
to send what was measured, over what they take beside bare calls: it may come out of the task's own, so all of it counts. `paired` is
the plain ratio of the two medians: the same question, asked in a way that a busy machine answers with its own noise. The worker has
asked for memory and a time limit, so the page that its node agent watches is written as well. What the caller's routing takes is not in
it (see `task_overhead.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import median, options, report

import fabric

CALLS = {1: 600, 10: 120}
"""Milliseconds of work -> calls of one round, each way."""
CHUNKS = 2
SETTLE_S = 1.2


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
        for work_ms, num_calls in CALLS.items():
            for name, value in ray.get(on_worker.remote(work_ms, num_calls)).items():
                found.setdefault(f"{name}_{work_ms}ms", []).append(value)
    figures: dict[str, Any] = {name: median(values) for name, values in sorted(found.items())}
    figures.update(rounds=args.rounds, twin=capacity.is_twin)
    report(figures, {"overhead_10ms": "<= 0.01", "overhead_1ms": "<= 0.03"}, as_json=args.json)
    fabric.disconnect()


def round_of(work_ms: int, num_calls: int) -> dict[str, float]:
    """One round, on a worker; see the module. `added_us` is around a call alone, `reported_us` in other threads, per call; `bare` in ms."""
    import statistics
    import threading
    import time

    from fabric.worker import measured

    def work(num_steps: int) -> tuple[float, float]:
        started_s, total = time.perf_counter(), 0
        for step in range(num_steps):
            total += step
        return started_s, time.perf_counter()

    def timed(fn: Any) -> tuple[float, float]:
        """Seconds of the whole call, and those before and after the work."""
        started_s = time.perf_counter()
        inner_started_s, inner_ended_s = fn(num_steps)
        whole_s = time.perf_counter() - started_s
        return whole_s, whole_s - (inner_ended_s - inner_started_s)

    def others_s() -> float:
        """CPU time of all threads but this one."""
        return time.process_time() - time.thread_time()

    num_steps = 10_000
    num_steps = round(num_steps * work_ms / 1e3 / min(timed(work)[0] for _ in range(20)))
    wrapped = measured(work, task="overhead@0", variant="default", user="benchmark", queue="default", timeout_s=600.0)
    wrapped(num_steps)
    whole: dict[Any, list[float]] = {work: [], wrapped: []}
    around: dict[Any, list[float]] = {work: [], wrapped: []}
    others = {work: 0.0, wrapped: 0.0}
    for turn in range(CHUNKS):
        for fn in (work, wrapped) if turn % 2 else (wrapped, work):
            before_s = others_s()
            for _ in range(num_calls // CHUNKS):
                whole_s, around_s = timed(fn)
                whole[fn].append(whole_s)
                around[fn].append(around_s)
            threading.Event().wait(SETTLE_S)  # what was measured is sent by then
            others[fn] += others_s() - before_s
    bare_s, added_s = statistics.median(whole[work]), statistics.median(around[wrapped]) - statistics.median(around[work])
    reported_s = max(others[wrapped] - others[work], 0.0) / len(whole[work])
    return {
        "overhead": (added_s + reported_s) / bare_s,
        "paired": statistics.median(whole[wrapped]) / bare_s - 1.0,
        "added_us": 1e6 * added_s,
        "reported_us": 1e6 * reported_s,
        "bare": 1e3 * bare_s,
    }


if __name__ == "__main__":
    main()
