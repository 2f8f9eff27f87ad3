"""Pure: what each tier can do and what it costs, as one JSON form; the printed table shows nothing else.

    {tiers: [{tier, rank, flavors: [flavor]}]}
    flavor: {flavor, kind, family, twin, slowdown, nodes, closed_nodes, asleep_nodes, units, slots, usd_per_h, memory_bytes,
             bandwidth_bytes_per_s, tensor_cores, compute_capability, peak_flops: {dtype: per second}, sources}

Prices and peaks are of one unit (one accelerator, one vCPU). `slots`: calls of one unit and one CPU that fit at once on
the ready nodes. `nodes` to `slots` are null where no fabric was asked; `sources` are there with `is_all` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.capacity import FlavorCapacity
from fabric.config import FabricConfig
from fabric.show import amount, gib, table
from fabric.status_form import twin_mark
from fabric.types import Flavor
from pools.flavors import load_catalogue

_SHOWN_PEAKS = ("fp32", "fp16", "int8")


def catalogue_tiers(config: FabricConfig) -> dict[str, Any]:
    """The whole catalogue, without asking a fabric."""
    return tiers_json(config, load_catalogue(config.flavors, tiers=config.tier_names), None, is_all=True)


def tiers_json(
    config: FabricConfig, catalogue: Mapping[str, Flavor], present: Mapping[str, FlavorCapacity] | None, *, is_all: bool
) -> dict[str, Any]:
    """Pure: the form. `present` is None where no fabric was asked."""
    shown = catalogue.values() if is_all else [flavor for flavor in catalogue.values() if present and flavor.name in present]
    tiers = [
        {
            "tier": tier,
            "rank": rank,
            "flavors": [_flavor_json(flavor, present, is_all) for flavor in shown if flavor.tier == tier],
        }
        for rank, tier in enumerate(config.tier_names)
    ]
    return {"tiers": tiers}


def _flavor_json(flavor: Flavor, present: Mapping[str, FlavorCapacity] | None, is_all: bool) -> dict[str, Any]:
    form = {
        "flavor": flavor.name,
        "kind": flavor.kind,
        "family": flavor.family,
        **_capacity_json(flavor, present),
        "usd_per_h": flavor.usd_per_h,
        "memory_bytes": flavor.memory_bytes,
        "bandwidth_bytes_per_s": flavor.bandwidth_bytes_per_s,
        "tensor_cores": flavor.tensor_cores,
        "compute_capability": flavor.compute_capability,
        "peak_flops": dict(flavor.peak_flops),
    }
    return {**form, "sources": dict(flavor.sources)} if is_all else form


def _capacity_json(flavor: Flavor, present: Mapping[str, FlavorCapacity] | None) -> dict[str, Any]:
    if present is None:
        return dict.fromkeys(("twin", "slowdown", "nodes", "closed_nodes", "asleep_nodes", "units", "slots"))
    capacity = present.get(flavor.name)
    if capacity is None:
        return {"twin": False, "slowdown": None, "nodes": 0, "closed_nodes": 0, "asleep_nodes": 0, "units": 0.0, "slots": 0}
    return {
        "twin": capacity.is_twin,
        "slowdown": capacity.slowdown,
        "nodes": capacity.num_nodes,
        "closed_nodes": len(capacity.closed),
        "asleep_nodes": capacity.num_asleep,
        "units": 0.0 if capacity.is_asleep else capacity.total.get(flavor.resource, 0.0) / flavor.units,
        "slots": 0 if capacity.is_asleep else capacity.slots({"CPU": 1.0, flavor.resource: flavor.units}),
    }


def format_tiers(document: Mapping[str, Any]) -> str:
    """The form for people."""
    columns = ["tier", "flavor", "nodes", "units", "slots", "$/h", "fp32", "fp16", "int8", "memory", "tensor cores"]
    rows = [_row(tier["tier"], flavor) for tier in document["tiers"] for flavor in tier["flavors"]]
    empty = [tier["tier"] for tier in document["tiers"] if not tier["flavors"]]
    text = table(columns, rows, right=range(2, len(columns))) if rows else "no node has joined a tier"
    if empty:
        text += f"\n\nwithout a node: {', '.join(empty)} (`fabric tiers --all` lists what could be there)"
    return text


def _row(tier: str, flavor: Mapping[str, Any]) -> list[str]:
    closed = f" (+{flavor['closed_nodes']} closed)" if flavor["closed_nodes"] else ""
    closed += f" (+{flavor['asleep_nodes']} asleep)" if flavor["asleep_nodes"] else ""
    tensor_cores = flavor["tensor_cores"]
    return [
        tier,
        flavor["flavor"] + twin_mark(flavor["slowdown"]),
        _count(flavor["nodes"]) + closed,
        _count(flavor["units"]),
        _count(flavor["slots"]),
        "-" if flavor["usd_per_h"] is None else f"${flavor['usd_per_h']:.3g}",
        *(_tera(flavor["peak_flops"].get(dtype)) for dtype in _SHOWN_PEAKS),
        gib(flavor["memory_bytes"]),
        "-" if tensor_cores is None else str(tensor_cores),
    ]


def _count(value: float | None) -> str:
    return "-" if value is None else amount(value)


def _tera(per_second: float | None) -> str:
    """Tera-operations per second, `-` where the hardware has no rate of its own."""
    return "-" if per_second is None else f"{per_second / 1e12:.4g} T"
