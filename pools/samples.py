"""A pool's snapshot as samples of metrics: nodes, what they have, what of it is used and booked, what it costs idle. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fabric.capacity import idle_share, node_usd_per_h
from fabric.metrics import declared as m
from fabric.metrics.metric import Metric, Sample
from fabric.types import Flavor, Lease, Node, NodeHealth, PoolSnapshot

HEALTHS: tuple[NodeHealth, ...] = ("ready", "cordoned", "draining", "lost")


def pool_samples(pool: PoolSnapshot, catalogue: Mapping[str, Flavor]) -> Iterator[Sample]:
    """Nodes of flavors that the catalogue lacks are counted as nodes only."""
    by_flavor: dict[str, list[Node]] = defaultdict(list)
    for node in pool.nodes:
        by_flavor[node.flavor].append(node)
    for name, nodes in by_flavor.items():
        place = (pool.tier, name)
        healths = Counter(node.health for node in nodes)
        yield from (Sample(m.POOL_NODES, (*place, health), healths[health]) for health in HEALTHS)
        living = [node for node in nodes if node.health != "lost"]
        if name in catalogue:
            yield from _capacity(place, living, catalogue[name], pool.leases)
            yield from _money(place, living, catalogue[name])
        yield from _busy(place, living)


def _capacity(place: tuple[str, str], nodes: Sequence[Node], flavor: Flavor, leases: Sequence[Lease]) -> Iterator[Sample]:
    mine = {node.node_id for node in nodes}
    booked = [lease.demand for lease in leases if lease.node_id in mine]
    told = [("CPU", 1.0, (m.POOL_CPUS, m.POOL_CPUS_USED, m.POOL_CPUS_BOOKED))]
    if not flavor.is_cpu:
        accelerators = (m.POOL_ACCELERATORS, m.POOL_ACCELERATORS_USED, m.POOL_ACCELERATORS_BOOKED)
        told.append((flavor.resource, flavor.units, accelerators))
    for resource, per_unit, metrics in told:
        amounts = [node.total for node in nodes], [node.used for node in nodes], booked
        for metric, found in zip(metrics, amounts, strict=True):
            yield Sample(metric, place, sum(amount.get(resource, 0.0) for amount in found) / per_unit)


def _money(place: tuple[str, str], nodes: Sequence[Node], flavor: Flavor) -> Iterator[Sample]:
    prices = [(node, usd) for node in nodes if (usd := node_usd_per_h(node, flavor)) is not None]
    if prices:
        yield Sample(m.POOL_USD, place, sum(usd for _, usd in prices))
        yield Sample(m.POOL_IDLE_USD, place, sum(usd * idle_share(node, flavor) for node, usd in prices))


def _busy(place: tuple[str, str], nodes: Sequence[Node]) -> Iterator[Sample]:
    usages = [node.usage for node in nodes if node.usage is not None]
    yield from _mean(m.POOL_CPU_BUSY, place, [usage.cpu_frac for usage in usages])
    yield from _mean(m.POOL_GPU_BUSY, place, [usage.gpu_frac for usage in usages if usage.gpu_frac is not None])


def _mean(metric: Metric, labels: tuple[str, ...], values: Iterable[float]) -> Iterator[Sample]:
    if found := list(values):
        yield Sample(metric, labels, sum(found) / len(found))
