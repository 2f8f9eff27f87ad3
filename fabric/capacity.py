"""Pure: what each flavor of the fabric can hold, summed up from the pools' snapshots.

Invariant: only `ready` nodes count as capacity, or where a flavor has none of them, those that are asleep and would be started;
cordoned and draining ones are listed as `closed`, so that a label selector can keep new work off them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabric.types import Flavor, Node, PoolSnapshot, Resources


def dominant_share(demand: Mapping[str, float], shape: Mapping[str, float]) -> float:
    """The largest part (0..1) that the demand takes of any one resource of a node."""
    return max((amount / shape[name] for name, amount in demand.items()), default=0.0)


def node_usd_per_h(node: Node, flavor: Flavor) -> float | None:
    """What a node costs; None where the price is unknown."""
    if flavor.usd_per_h is None:
        return None
    return flavor.usd_per_h * node.total.get(flavor.resource, 0.0) / flavor.units


def idle_share(node: Node, flavor: Flavor) -> float:
    """How much of what is paid for, the flavor's own resource, nothing has claimed."""
    total = node.total.get(flavor.resource, 0.0)
    return 1.0 - min(node.used.get(flavor.resource, 0.0) / total, 1.0) if total else 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How one kind of call fits a flavor. `slots`: so many run at once on empty nodes; `shares`: resource -> its part of
    all that the flavor has; `usd_per_h`: the price of the node share it occupies, where the price is known."""

    slots: int
    shares: tuple[tuple[str, float], ...] = ()
    node_share: float = 0.0
    usd_per_h: float | None = None
    is_cpu_only: bool = True


@dataclass(frozen=True, slots=True)
class FlavorCapacity:
    """All nodes of one flavor. `shapes`: distinct totals of one ready node -> how many nodes have them, commonest first. `num_asleep`
    more would be started for work; where none is ready, the shapes are theirs, and work there waits `wake_s` first."""

    flavor: Flavor
    shapes: tuple[tuple[Mapping[str, float], int], ...]
    total: Mapping[str, float]
    used: Mapping[str, float]
    closed: tuple[str, ...] = ()
    slowdown: float | None = None
    num_asleep: int = 0
    wake_s: float = 0.0
    _fits: dict[Resources, Fit] = field(default_factory=dict, repr=False, compare=False)

    def fit(self, resources: Resources) -> Fit:
        """How a call with this request fits; worked out once per capacity."""
        known = self._fits.get(resources)
        if known is None:
            known = self._fits[resources] = self._work_out(resources)
        return known

    def _work_out(self, resources: Resources) -> Fit:
        demand = resources.as_demand()
        slots, shape = self.slots(demand), self.node_for(demand)
        if shape is None:
            return Fit(slots=0)
        shares = {name: amount / self.total[name] for name, amount in demand.items() if self.total.get(name)}
        dominant = max(shares, key=lambda name: shares[name], default="")
        # The slots decide, so that node borders are respected: three calls of 3 CPUs do not fit two nodes of 4.
        rounded = tuple((name, max(share, 1.0 / slots) if name == dominant else share) for name, share in shares.items())
        node_share, usd_per_h = dominant_share(demand, shape), self.usd_per_h(shape)
        known_usd_per_h = None if usd_per_h is None else node_share * usd_per_h
        return Fit(slots, rounded, node_share, known_usd_per_h, not resources.uses_accelerator)

    @property
    def is_twin(self) -> bool:
        return self.slowdown is not None

    @property
    def is_asleep(self) -> bool:
        """Whether no node is ready, and one would be started for work."""
        return self.wake_s > 0

    @property
    def num_nodes(self) -> int:
        """That are ready."""
        return 0 if self.is_asleep else sum(count for _, count in self.shapes)

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
        for node in (*snapshot.nodes, *snapshot.asleep):
            if node.flavor in catalogue:
                by_flavor.setdefault(node.flavor, []).append(node)
    return {name: _sum_up(catalogue[name], nodes) for name, nodes in by_flavor.items()}


def _sum_up(flavor: Flavor, nodes: list[Node]) -> FlavorCapacity:
    asleep = [node for node in nodes if node.health == "asleep"]
    ready = [node for node in nodes if node.health == "ready"] or asleep
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
        num_asleep=len(asleep),
        wake_s=max((node.wake_s for node in ready), default=0.0),
    )
