"""Pure: nodes and tiers as the page shows them, of the pools' snapshots and of what jobs hold.

Of each node's accelerators (vCPUs where it has none): `leased` is held by jobs, `used` by tasks and models beside that, `idle` by nobody;
`broken` is what nobody holds on a node that takes no new work. The four add up to `units`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric.capacity import idle_share, node_usd_per_h
from fabric.errors import FabricError
from fabric.types import Flavor, Node, PoolSnapshot

Held = Mapping[str, Sequence[tuple[int, float]]]
"""Node id -> (number of a job, units)."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    node: Node
    units: float
    used: float
    leased: float
    idle: float
    broken: float
    usd_per_h: float | None
    idle_usd_per_h: float | None
    jobs: tuple[int, ...]
    slow_factor: float | None = None

    def as_json(self, flavor: Flavor | None, job_names: Sequence[str]) -> dict[str, Any]:
        usage = self.node.usage
        return {
            "node_id": self.node.node_id,
            "host": self.node.host,
            "tier": self.node.tier,
            "flavor": self.node.flavor,
            "twin": self.node.is_twin,
            "health": self.node.health,
            "accelerator": flavor.resource if flavor is not None and not flavor.is_cpu else None,
            "units": self.units,
            "used": self.used,
            "leased": self.leased,
            "idle": self.idle,
            "cpu_frac": usage.cpu_frac if usage else None,
            "gpu_frac": usage.gpu_frac if usage else None,
            "memory_used_bytes": usage.memory_used_bytes if usage else None,
            "memory_total_bytes": usage.memory_total_bytes if usage else None,
            "usd_per_h": self.usd_per_h,
            "idle_usd_per_h": self.idle_usd_per_h,
            "slow_factor": self.slow_factor,
            "jobs": list(job_names),
        }


class FabricView:
    """Every node with its figures at one look, best tier first. `problems`: tier -> why its pool does not answer; its nodes are then
    those that were seen last. `asleep`: tier -> the flavors of the nodes that work would start, and how many."""

    def __init__(
        self,
        tiers: Sequence[str],
        nodes: Iterable[NodeFigures] = (),
        problems: Mapping[str, str] | None = None,
        asleep: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.asleep = asleep or {}
        self.tiers = tuple(tiers)
        self.nodes = tuple(nodes)
        self.problems = problems or {}
        self.by_id = {each.node.node_id: each for each in self.nodes}
        real = {each.node.flavor for each in self.nodes if not each.node.is_twin}
        self.twins = frozenset(each.node.flavor for each in self.nodes if each.node.flavor not in real)


def looked_at(
    answers: Mapping[str, PoolSnapshot | FabricError],
    slow: Mapping[str, float],
    held: Held,
    catalogue: Mapping[str, Flavor],
    before: FabricView,
) -> FabricView:
    """`slow`: node id -> how many times slower than its like."""
    nodes: list[NodeFigures] = []
    problems: dict[str, str] = {}
    asleep: dict[str, Mapping[str, int]] = {}
    for tier, answer in answers.items():
        if isinstance(answer, FabricError):
            problems[tier] = answer.message
            nodes += [each for each in before.nodes if each.node.tier == tier]
            asleep[tier] = before.asleep.get(tier, {})
        else:
            asleep[tier] = Counter(node.flavor for node in answer.asleep)
            for node in answer.nodes:
                figures = _figures(node, catalogue.get(node.flavor), held.get(node.node_id, ()))
                factor = slow.get(node.node_id)
                nodes.append(figures if factor is None else dataclasses.replace(figures, slow_factor=factor))
    return FabricView(tuple(answers), nodes, problems, asleep)


def _figures(node: Node, flavor: Flavor | None, held: Sequence[tuple[int, float]]) -> NodeFigures:
    resource, per_unit = (flavor.resource, flavor.units) if flavor is not None else ("CPU", 1.0)
    units = node.total.get(resource, 0.0) / per_unit
    leased = min(units, sum(amount for _, amount in held))
    used = min(units - leased, max(0.0, node.used.get(resource, 0.0) / per_unit - leased))
    free = round(max(0.0, units - leased - used), 6)
    is_ready = node.health == "ready"
    usd_per_h = None if flavor is None else node_usd_per_h(node, flavor)
    idle_usd = None if usd_per_h is None or flavor is None else usd_per_h * min(idle_share(node, flavor), free / units if units else 1.0)
    jobs = tuple(dict.fromkeys(job for job, _ in held))
    return NodeFigures(node, units, round(used, 6), leased, free if is_ready else 0.0, 0.0 if is_ready else free, usd_per_h, idle_usd, jobs)


def tiers_json(view: FabricView, catalogue: Mapping[str, Flavor]) -> list[dict[str, Any]]:
    """The tiers of the overview, with a row for each flavor that has nodes, or would have some if there were work for them."""
    rows = []
    for tier in view.tiers:
        mine = [each for each in view.nodes if each.node.tier == tier]
        asleep = view.asleep.get(tier, {})
        flavors = list(dict.fromkeys([*(each.node.flavor for each in mine), *asleep]))
        rows.append(
            {
                "tier": tier,
                "problem": view.problems.get(tier),
                "nodes": len(mine),
                "usd_per_h": known_sum(each.usd_per_h for each in mine),
                "idle_usd_per_h": known_sum(each.idle_usd_per_h for each in mine),
                "flavors": [
                    _flavor_json(name, catalogue.get(name), [each for each in mine if each.node.flavor == name], asleep.get(name, 0))
                    for name in flavors
                ],
            }
        )
    return rows


def _flavor_json(name: str, flavor: Flavor | None, nodes: Sequence[NodeFigures], num_asleep: int) -> dict[str, Any]:
    return {
        "flavor": name,
        "twin": bool(nodes) and all(each.node.is_twin for each in nodes),
        "nodes": len(nodes),
        "ready": sum(each.node.health == "ready" for each in nodes),
        "asleep": num_asleep,
        "units": sum(each.units for each in nodes),
        "used": round(sum(each.used for each in nodes), 6),
        "leased": round(sum(each.leased for each in nodes), 6),
        "idle": round(sum(each.idle for each in nodes), 6),
        "broken": round(sum(each.broken for each in nodes), 6),
        "usd_per_h": known_sum(each.usd_per_h for each in nodes),
        "idle_usd_per_h": known_sum(each.idle_usd_per_h for each in nodes),
        "peak_flops": dict(flavor.peak_flops) if flavor is not None and flavor.peak_flops else None,
        "bandwidth_bytes_per_s": flavor.bandwidth_bytes_per_s if flavor is not None else None,
    }


def known_sum(amounts: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
