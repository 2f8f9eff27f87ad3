"""The cluster that a trace runs on: how many accelerators of which flavors, on nodes of which size, at which prices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fabric.errors import ConfigError, UserError
from fabric.sim.trace import TraceJob
from fabric.types import Flavor, Node
from pools.flavors import load_catalogue

T = TypeVar("T")
DEFAULT_CLUSTER = "v100=8,p100=16,k80=24"


@dataclass(frozen=True, slots=True)
class Cluster:
    """`capacity`: flavor -> accelerators (vCPUs of a CPU flavor). `catalogue` has at least these flavors. `sizes`: of the nodes of each
    flavor, where they are not all of `gpus_per_node`."""

    capacity: Mapping[str, int]
    gpus_per_node: int
    catalogue: Mapping[str, Flavor]
    sizes: Mapping[str, Sequence[int]] | None = None

    @property
    def usd_per_h(self) -> dict[str, float | None]:
        """Price of one unit, by flavor; None where it is not known."""
        return {name: self.catalogue[name].usd_per_h for name in self.capacity}

    @property
    def prices(self) -> dict[str, float] | None:
        """The same, where every price is known."""
        known = {name: price for name, price in self.usd_per_h.items() if price is not None}
        return known if len(known) == len(self.capacity) else None

    def node_sizes(self, flavor: str) -> list[int]:
        """Accelerators of each node; the last may have fewer."""
        if self.sizes is not None:
            return list(self.sizes[flavor])
        whole, rest = divmod(self.capacity[flavor], self.gpus_per_node)
        return [self.gpus_per_node] * whole + ([rest] if rest else [])

    def nodes(self) -> list[Node]:
        found = []
        for name in self.capacity:
            flavor = self.catalogue[name]
            resource = flavor.resource or "CPU"
            for number, size in enumerate(self.node_sizes(name)):
                found.append(Node(f"{name}-{number}", f"{name}-{number}", flavor.tier, name, {resource: size * flavor.units}))
        return found

    def check_fits(self, job: TraceJob) -> None:
        """Raises: UserError `gang_too_large` where the job can never run here."""
        shape = job.shape
        for flavor in job.rates:
            sizes = self.node_sizes(flavor)
            room = sum(min(1, size // shape.accelerators) if shape.spread else size // shape.accelerators for size in sizes)
            if room >= shape.num_bundles:
                return
        wanted = f"{shape.num_bundles} x {shape.accelerators}" if shape.accelerators > 1 else f"{shape.num_bundles}"
        have = ", ".join(f"{name}={self.capacity[name]}" for name in job.rates)
        hint = f"the flavors that run it have {have} on nodes of {self.gpus_per_node}; see --cluster and --gpus-per-node"
        raise UserError(f"job {job.name} (line {job.line}) asks for {wanted} accelerators", code="gang_too_large", hint=hint, line=job.line)


def make_cluster(capacity: Mapping[str, int], *, gpus_per_node: int = 1, usd_per_h: Mapping[str, float] | None = None) -> Cluster:
    """Flavors that the catalogue does not have are made up as GPUs of the hot tier without a price."""
    catalogue = load_catalogue()
    for name in capacity:
        catalogue.setdefault(name, Flavor(name, "hot", "gpu", name, "GPU"))
    for name, price in (usd_per_h or {}).items():
        if name in catalogue:
            catalogue[name] = replace(catalogue[name], usd_per_h=price)
    return Cluster(capacity, gpus_per_node, catalogue)


def parse_capacity(text: str) -> dict[str, int]:
    """`v100=8,p100=16` -> flavor -> count. Raises: ConfigError `bad_cluster`."""
    return _pairs(text, "bad_cluster", "cluster", DEFAULT_CLUSTER, _count)


def parse_prices(text: str) -> dict[str, float]:
    """`v100=0.74,p100=0.43` -> flavor -> USD per hour of one unit. Raises: ConfigError `bad_prices`."""
    return _pairs(text, "bad_prices", "prices", "v100=0.74,p100=0.43", _price)


def _pairs(text: str, code: str, noun: str, example: str, value_of: Callable[[str], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for part in text.split(","):
        name, sep, value = part.partition("=")
        name = name.strip()
        try:
            if not name or not sep or name in found:
                raise ValueError
            found[name] = value_of(value.strip())
        except ValueError:
            raise ConfigError(
                f"{part.strip()!r} in --{noun} is not flavor=number, each flavor once", code=code, hint=f"like {example}"
            ) from None
    return found


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _price(text: str) -> float:
    if not (math.isfinite(value := float(text)) and value >= 0):
        raise ValueError
    return value
