"""What a call asks for: its variant's request, with what is sized by measurement, under the nodes that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fabric.capacity import FlavorCapacity
from fabric.types import Variant
from profiler.estimate import TaskProfile
from profiler.needs import Needs
from profiler.shares import cpus, gpus
from profiler.sizing import Sizing

Capacities = Mapping[str, FlavorCapacity]


class RequestSizes:
    """Fits are kept until a task's profile or the nodes have changed."""

    def __init__(self) -> None:
        self._sizings: dict[tuple[str, str], tuple[tuple[int, int], Sizing]] = {}

    def sized(
        self, profile: TaskProfile, variant: Variant, input_bytes: int, capacities: Capacities, version: tuple[int, int]
    ) -> tuple[Variant, str]:
        """The variant with what a call of this size asks for, and how that came about if it was sized. `version`: of nodes and profile."""
        needs = profile.needs.get(variant.name) or Needs()
        told = []
        memory_bytes = needs.floor_bytes(input_bytes, _node_bytes(capacities)[1])
        least, most = _node_bytes(capacities, variant.flavor)
        if "memory" in variant.auto and most:
            key = profile.task, variant.name
            if (known := self._sizings.get(key)) is None or known[0] != version:
                known = self._sizings[key] = (version, Sizing(needs, probe_bytes=least // 2, most_bytes=most))
            request = known[1].request(input_bytes)
            memory_bytes = request.memory_bytes
            told.append(request.sum)
        resources = replace(variant.resources, memory_bytes=max(memory_bytes, variant.resources.memory_bytes))
        if "num_cpus" in variant.auto and (share := cpus(needs)) is not None:
            resources = replace(resources, num_cpus=share.amount)
            told.append(share.sum)
        if "num_gpus" in variant.auto and (share := gpus(needs, _card_bytes(capacities, variant.flavor))) is not None:
            resources = replace(resources, num_gpus=share.amount)
            told.append(share.sum)
        return replace(variant, resources=resources), "; ".join(told)


def _card_bytes(capacities: Capacities, flavor: str) -> int | None:
    """Memory of the smallest card that a variant for this flavor may use."""
    flavors = [c.flavor for c in capacities.values() if c.flavor.resource == "GPU" and (not flavor or c.flavor.answers_to(flavor))]
    return min((each.memory_bytes for each in flavors if each.memory_bytes), default=None)


def _node_bytes(capacities: Capacities, flavor: str = "") -> tuple[int, int]:
    """Memory of the smallest and the largest ready node that a variant for this flavor may use."""
    # Work for "any CPU" may run on the host CPUs of any node.
    wanted = [c for c in capacities.values() if flavor in ("", "cpu") or c.flavor.answers_to(flavor)]
    each = [int(shape.get("memory", 0.0)) for capacity in wanted for shape, _ in capacity.shapes]
    return min(each, default=0), max(each, default=0)
