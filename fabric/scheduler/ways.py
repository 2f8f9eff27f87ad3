"""The ways in which a job may run: its shapes resolved against the catalogue, with rates, what its class prefers first.

A CPU job stays off accelerators while the fabric has a CPU flavor. Elastic sizes gain sub-linearly: a job of n times the
bundles runs n ** 0.9 times as fast until it has been measured (own estimate, as AdaptDL's speed-up curves begin).
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.job import SCALING, JobEstimate, JobSpec, Option, Shape
from fabric.policy import PriorityClass
from fabric.selectors import flavors_of
from fabric.types import Flavor

MEMORY = "memory"


def speed_up(shape: Shape, num_bundles: int) -> float:
    """How much faster an elastic job runs with so many bundles than with its least number."""
    return float((num_bundles / shape.num_bundles) ** SCALING)


class Ways:
    """Resolves shapes; remembers what selectors and shapes mean for one catalogue."""

    def __init__(self, catalogue: Mapping[str, Flavor]) -> None:
        self.catalogue = catalogue
        self._flavors: dict[tuple[str, bool], tuple[str, ...]] = {}
        self._demands: dict[tuple[Shape, str, float], dict[str, float]] = {}
        self._preferred: dict[tuple[PriorityClass, str], bool] = {}

    def flavors(self, shape: Shape) -> tuple[str, ...]:
        """The flavors that a shape may use. Raises: UnknownNameError."""
        key = (shape.selector, shape.accelerators > 0)
        found = self._flavors.get(key)
        if found is None:
            named = flavors_of(shape.selector, self.catalogue)
            cpus = tuple(name for name in named if self.catalogue[name].is_cpu)
            accelerated = tuple(name for name in named if not self.catalogue[name].is_cpu)
            without = cpus if cpus and shape.selector in ("", "any") else named
            found = self._flavors[key] = (accelerated or cpus) if shape.accelerators else without
        return found

    def demand(self, shape: Shape, flavor: str, memory_factor: float = 1.0) -> dict[str, float]:
        """What one bundle asks of a node of the flavor."""
        key = (shape, flavor, memory_factor)
        found = self._demands.get(key)
        if found is None:
            found = shape.demand(self.catalogue[flavor])
            if memory_factor != 1.0 and MEMORY in found:
                found[MEMORY] *= memory_factor
            self._demands[key] = found
        return found

    def units(self, shape: Shape, flavor: str) -> float:
        """What one bundle holds of the flavor's capacity: accelerators, or vCPUs on a CPU flavor."""
        if self.catalogue[flavor].is_cpu:
            return self.demand(shape, flavor).get("CPU", 0.0)
        return float(shape.accelerators)

    def resolve(self, spec: JobSpec, estimate: JobEstimate | None, excluded: tuple[str, ...] = ()) -> tuple[Option, ...]:
        """Every option of a job; without an estimate the rates are 0, which means unknown."""
        found: list[Option] = []
        for number, shape in enumerate(spec.shapes):
            for flavor in self.flavors(shape):
                rate = estimate.rates.get((number, flavor), 0.0) if estimate else 0.0
                if (estimate and rate <= 0) or flavor in excluded:
                    continue
                units = self.units(shape, flavor)
                found += [Option(number, flavor, size, units * size, rate * speed_up(shape, size)) for size in shape.sizes()]
        return tuple(found)

    def prefers(self, cls: PriorityClass, flavor: str) -> bool:
        """Whether the class names this flavor's nodes as its preferred ones."""
        key = (cls, flavor)
        if key not in self._preferred:
            self._preferred[key] = all(flavor in flavors_of(selector, self.catalogue) for selector in cls.selectors)
        return self._preferred[key]
