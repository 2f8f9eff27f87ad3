"""Pure: what each flavor of the fabric can hold, summed up from the pools' snapshots.

Invariant: only `ready` nodes count as capacity; cordoned and draining ones are listed as `closed`, so that a label
selector can keep new work off them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabric.types import Flavor, Node, PoolSnapshot


def dominant_share(demand: Mapping[str, float], shape: Mapping[str, float]) -> float:
    """The largest part (0..1) that the demand takes of any one resource of a node."""
    return max((amount / shape[name] for name, amount in demand.items()), default=0.0)


@dataclass(frozen=True, slots=True)
class FlavorCapacity:
    """All nodes of one flavor. `shapes`: distinct totals of one ready node -> how many nodes have them, commonest first."""

    flavor: Flavor
    shapes: tuple[tuple[Mapping[str, float], int], ...]
    total: Mapping[str, float]
    used: Mapping[str, float]
    closed: tuple[str, ...] = ()
    slowdown: float | None = None

    @property
    def is_twin(self) -> bool:
        return self.slowdown is not None

    @property
    def num_nodes(self) -> int:
        return sum(count for _, count in self.shapes)

    def slots(self, demand: Mapping[str, float]) -> int:
        """How many calls with this demand the flavor's nodes can run at once when nothing else runs."""
        return sum(count * _fits_in(shape, demand) for shape, count in self.shapes)

    def largest(self, resource: str) -> float:
        """The most of a resource that any single ready node has."""
        return max((shape.get(resource, 0.0) for shape, _ in self.shapes), default=0.0)

    def node_for(self, demand: Mapping[str, float]) -> Mapping[str, float] | None:
        """The commonest node shape that can hold the demand; None where none can."""
        return next((shape for shape, _ in self.shapes if _fits_in(shape, demand)), None)

    def usd_per_h(self, shape: Mapping[str, float]) -> float | None:
        """What a node of this shape costs; None where the price is unknown."""
        if self.flavor.usd_per_h is None:
            return None
        return shape.get(self.flavor.resource, 0.0) / self.flavor.units * self.flavor.usd_per_h


def _fits_in(shape: Mapping[str, float], demand: Mapping[str, float]) -> int:
    return min((int(shape.get(name, 0.0) / amount + 1e-9) for name, amount in demand.items()), default=1)


def capacities(snapshots: Iterable[PoolSnapshot], catalogue: Mapping[str, Flavor]) -> dict[str, FlavorCapacity]:
    """Flavor name -> capacity. Nodes of a flavor that the catalogue lacks are left out (doctor names them)."""
    by_flavor: dict[str, list[Node]] = {}
    for snapshot in snapshots:
        for node in snapshot.nodes:
            if node.flavor in catalogue:
                by_flavor.setdefault(node.flavor, []).append(node)
    return {name: _sum_up(catalogue[name], nodes) for name, nodes in by_flavor.items()}


def _sum_up(flavor: Flavor, nodes: list[Node]) -> FlavorCapacity:
    ready = [node for node in nodes if node.health == "ready"]
    shapes = Counter(tuple(sorted(node.total.items())) for node in ready)
    total: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for node in ready:
        total.update(node.total)
        used.update(node.used)
    return FlavorCapacity(
        flavor=flavor,
        shapes=tuple((dict(shape), count) for shape, count in shapes.most_common()),
        total=dict(total),
        used=dict(used),
        closed=tuple(sorted(node.node_id for node in nodes if node.health in ("cordoned", "draining"))),
        slowdown=max((node.slowdown for node in nodes if node.slowdown is not None), default=None),
    )
