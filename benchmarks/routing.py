"""How long deciding takes: one routing decision in the client, one full ranking over 20 flavors in the profiler. No Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

from measure import median, options, report

from fabric import lanes
from fabric.capacity import FlavorCapacity, capacities
from fabric.lanes import Lanes
from fabric.routing import Plan, RoutingPolicy, compile_plan
from fabric.sizes import bucket_of
from fabric.types import Fingerprint, Node, PoolSnapshot, Resources, Run, Variant
from pools.flavors import load_catalogue
from profiler.estimate import Estimator

NUM_FLAVORS = 20
VARIANTS = [
    Variant("default", "", Resources()),
    Variant("gpu", "gpu", Resources(num_gpus=1)),
    Variant("npu", "npu", Resources()),
]


def main() -> None:
    args = options(__doc__ or "", rounds=2000)
    catalogue = load_catalogue()
    estimator = Estimator(catalogue)
    estimator.describe("task", Fingerprint("cv", "inference"), VARIANTS)
    table = fabric_of(list(catalogue)[:NUM_FLAVORS])
    for flavor in table:
        for index in range(20):
            estimator.record(Run("c", "task", 3, "default", flavor, "n", 0.01 + index * 1e-4, 0.01, 10**8))

    def compiled(capacity: dict[str, FlavorCapacity], lanes: Lanes) -> Plan:
        estimate_of = estimator.predictor("task", 3).estimate
        return compile_plan(VARIANTS, capacity, estimate_of, RoutingPolicy(), lanes, domain="cv", task="task")

    small = fabric_of(["a100-80g", "cloud-ai-100", "cpu"])
    idle, busy, wide = compiled(small, Lanes()), compiled(small, Lanes()), compiled(table, Lanes())
    for _ in range(500):
        for plan in (busy, wide):
            chosen = plan.choose()
            lanes.start(chosen.claims, chosen.run_s)
    client_lanes = Lanes()
    payload = (b"x" * 5000,)
    report(
        {
            "route_us_p50": us(lambda: (bucket_of(payload, {}), idle.choose(), idle.load()), args.rounds),
            "route_us_p50_saturated": us(lambda: (bucket_of(payload, {}), busy.choose(), busy.load()), args.rounds),
            "route_us_p50_saturated_20_flavors": us(lambda: (bucket_of(payload, {}), wide.choose(), wide.load()), args.rounds),
            "decide_us_p50": us(lambda: compiled(table, client_lanes).route(), max(200, args.rounds // 10)),
            "flavors": len(table),
        },
        {"route_us_p50": "<= 5", "decide_us_p50": "<= 200"},
        as_json=args.json,
    )


def fabric_of(names: list[str]) -> dict[str, FlavorCapacity]:
    """Eight nodes of each flavor, half in use."""
    loaded = load_catalogue()
    nodes = []
    for name in names:
        flavor = loaded[name]
        total = {"CPU": 32.0, "memory": 2.0**37} | ({} if flavor.is_cpu else {flavor.resource: 8.0 * flavor.units})
        nodes += [Node(f"{name}-{i}", f"host-{i}", flavor.tier, name, total, {"CPU": 16.0}) for i in range(8)]
    tiers = {node.tier for node in nodes}
    snapshots = [PoolSnapshot(tier, 0, tuple(n for n in nodes if n.tier == tier)) for tier in sorted(tiers)]
    return capacities(snapshots, loaded)


def us(call: Callable[[], object], rounds: int) -> float:
    """Median microseconds of one call, measured over batches of ten."""
    times = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        for _ in range(10):
            call()
        times.append((time.perf_counter() - started_s) / 10)
    return 1e6 * median(times)


if __name__ == "__main__":
    main()
