"""Decides what a machine says of itself to Ray: its tier, its flavor, and the resources that Ray does not see by itself.

Invariants: one node has one tier and one flavor; an accelerator speaks before the CPU, and a better tier before a worse one;
no label begins with `ray.io/`; no resource is given that Ray detects itself (it would be counted twice, or refused).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fabric.errors import ConfigError
from fabric.types import DEFAULT_TIERS, FLAVOR_LABEL, TIER_LABEL, Device, Flavor
from pools.discovery import Discovery
from pools.flavors import flavor_of_cpu, lookup

# Source: the accelerator managers of Ray 2.60, and the names that `ray start --resources` refuses.
RAY_DETECTS = frozenset(
    {"CPU", "GPU", "TPU", "HPU", "NPU", "neuron_cores", "RBLN", "FURIOSA", "MBLT", "TTNPU", "memory", "object_store_memory"}
)


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """`labels` and `resources` are what `ray start` is given; `hints` are what the machine's owner may want to mend."""

    tier: str
    flavor: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    reason: str
    hints: tuple[str, ...] = field(default=())


def describe_node(
    discovery: Discovery,
    catalogue: Mapping[str, Flavor],
    *,
    flavor: str | None = None,
    tiers: Sequence[str] = DEFAULT_TIERS,
) -> NodeDescription:
    """The description of the machine that `discovery` looked at; `flavor` overrides the choice, `tiers` are best first.

    Raises: UnknownNameError for an unknown `flavor`; ConfigError where nothing was found and no CPU flavor is known.
    """
    if flavor is not None:
        chosen, reason = lookup(catalogue, flavor), f"{flavor} was asked for"
    else:
        chosen, reason = _choice(discovery.devices, catalogue, tiers)
    return NodeDescription(
        tier=chosen.tier,
        flavor=chosen.name,
        labels={TIER_LABEL: chosen.tier, FLAVOR_LABEL: chosen.name},
        resources=_resources(discovery.devices, catalogue),
        reason=reason,
        hints=tuple(_hints(discovery.devices, chosen if flavor is not None else None)),
    )


def format_labels(labels: Mapping[str, str]) -> str:
    """For `ray start --labels`: `tier=hot,flavor=a100-80g`."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def format_resources(resources: Mapping[str, float]) -> str:
    """For `ray start --resources`: `{"FPGA": 1}`, whole amounts without a point."""
    return json.dumps({name: int(amount) if amount == int(amount) else amount for name, amount in sorted(resources.items())})


def _choice(devices: Sequence[Device], catalogue: Mapping[str, Flavor], tiers: Sequence[str]) -> tuple[Flavor, str]:
    known = [(device, catalogue[device.flavor]) for device in devices if device.flavor is not None and device.flavor in catalogue]
    if not known:
        fallback = lookup(catalogue, flavor_of_cpu(catalogue, ()))
        return fallback, f"nothing of a known flavor was found: counted as {fallback.name} ({fallback.tier})"
    order = list(catalogue)
    known.sort(key=lambda pair: (pair[1].is_cpu, _rank(pair[1].tier, tiers), -pair[0].count, order.index(pair[1].name)))
    device, chosen = known[0]
    reason = f"{device.count} x {device.name} is {chosen.name} ({chosen.tier})"
    others = [(other, flavor) for other, flavor in known[1:] if not flavor.is_cpu]
    if others:
        why = "the larger part" if all(flavor.tier == chosen.tier for _, flavor in others) else "the better tier"
        listed = ", ".join(f"{other.count} x {flavor.name} ({flavor.tier})" for other, flavor in others)
        reason += f"; {why} speaks for the node, which also has {listed}"
    return chosen, reason


def _rank(tier: str, tiers: Sequence[str]) -> int:
    if tier not in tiers:
        raise ConfigError(f"tier {tier!r} has no rank", hint=f"tiers, best first: {', '.join(tiers)}")
    return list(tiers).index(tier)


def _resources(devices: Sequence[Device], catalogue: Mapping[str, Flavor]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for device in devices:
        flavor = catalogue.get(device.flavor or "")
        name = flavor.resource if flavor else device.resource or device.kind.upper()
        if name not in RAY_DETECTS:
            amounts[name] = amounts.get(name, 0.0) + device.count * (flavor.units if flavor else 1.0)
    return amounts


def _hints(devices: Sequence[Device], asked: Flavor | None) -> list[str]:
    hints = [
        f"{device.count} x {device.name} ({device.kind}) is of no known flavor: add one under flavors: in fabric.yaml "
        f"with match: [{json.dumps(device.name)}]"
        for device in devices
        if device.flavor is None and device.kind != "cpu"
    ]
    if asked is not None and not asked.is_cpu and all(device.flavor != asked.name for device in devices):
        hints.append(f"no {asked.name} was found on this machine: declare its cards under devices: in fabric.yaml")
    return hints
