"""Flavors, nodes and plans of small fabrics, for the tests of the decision core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.capacity import FlavorCapacity, capacities
from fabric.lanes import Lanes
from fabric.routing import Plan, RoutingPolicy, compile_plan
from fabric.types import Domain, Estimate, Flavor, Node, NodeHealth, PoolSnapshot, Resources, Variant

HOT = Flavor("big", "hot", "gpu", "nvidia-tesla", "GPU", tensor_cores=432, peak_flops={"fp16": 312e12}, usd_per_h=3.6)
WARM = Flavor("small", "warm", "gpu", "nvidia-tesla", "GPU", peak_flops={"fp32": 4e12}, usd_per_h=0.36)
NPU = Flavor("chip", "warm", "npu", "qualcomm", "QAIC", units=2.0, peak_flops={"fp16": 110e12}, usd_per_h=1.8)
COLD = Flavor("cpu", "cold", "cpu", "x86", "CPU", peak_flops={"fp32": 38e9}, usd_per_h=0.036)
FLAVORS = {flavor.name: flavor for flavor in (HOT, WARM, NPU, COLD)}

ONE_CPU = Variant("default", "", Resources())
ONE_GPU = Variant("cuda", "", Resources(num_gpus=1))
ANY_CPU = Variant("cpu", "cpu", Resources())


def node(
    name: str, flavor: Flavor, *, health: NodeHealth = "ready", host: str = "", used: Mapping[str, float] | None = None, **total: Any
) -> Node:
    return Node(name, host or f"host-{name}", flavor.tier, flavor.name, {"CPU": 4.0, **total}, used or {}, health)


BIG = node("big-1", HOT, GPU=1.0)
SMALL = node("small-1", WARM, GPU=1.0)
CHIP = node("chip-1", NPU, QAIC=2.0)
CPUS = node("cpus-1", COLD)


def capacities_of(*nodes: Node, catalogue: Mapping[str, Flavor] = FLAVORS) -> dict[str, FlavorCapacity]:
    tiers = dict.fromkeys(n.tier for n in nodes)
    return capacities([PoolSnapshot(tier, 1, tuple(n for n in nodes if n.tier == tier)) for tier in tiers], catalogue)


def plan_of(
    *nodes: Node,
    variants: tuple[Variant, ...] = (ONE_CPU,),
    run_s: Mapping[str, float] | float = 1.0,
    waiting_usd_per_h: float = 36.0,
    domain: Domain = "other",
    lanes: Lanes | None = None,
    catalogue: Mapping[str, Flavor] = FLAVORS,
) -> Plan:
    """A plan whose estimates are `run_s` by flavor, or by `flavor/variant` where a flavor has several."""

    def estimate_of(flavor: Flavor, variant: Variant) -> Estimate:
        if isinstance(run_s, Mapping):
            return Estimate(run_s.get(f"{flavor.name}/{variant.name}") or run_s[flavor.name], 0.3)
        return Estimate(run_s, 0.3)

    found = capacities_of(*nodes, catalogue=catalogue)
    lanes = lanes or Lanes()
    for capacity in found.values():
        lanes.observe(capacity)
    return compile_plan(variants, found, estimate_of, RoutingPolicy(waiting_usd_per_h), lanes, domain=domain, task="work")
