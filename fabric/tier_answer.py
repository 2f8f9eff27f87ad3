"""Pure: a tier plan as one JSON form; the printed tables show nothing else.

    {services: [{service, domain, flavor, tier, units, share, p95_ms, max_batch, max_wait_ms, shared_with, usd_per_h}],
     training: [{load, domain, flavor, tier, busy_units, usd_per_h}], for_jobs: {flavor: units}, overloaded: [service],
     short: {load: fraction}, by_prior: [name]}

`p95_ms` is predicted, queueing included; null where nothing is measured. `usd_per_h` is of all units of the line, null where the price
is not known; a station that services share stands once for each of them, with the price of the whole station.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fabric.batching import Offered, p95_s
from fabric.show import table, usd
from fabric.stations import Service, Station
from fabric.tiering import Supply, TierPlan, TrainingLoad


def tier_plan_json(plan: TierPlan, services: Sequence[Service], loads: Sequence[TrainingLoad], supply: Sequence[Supply]) -> dict[str, Any]:
    flavors = {one.flavor.name: one for one in supply}
    known = {one.name: one for one in services}
    domains = {load.name: load.domain for load in loads}
    return {
        "services": [row for station in plan.stations for row in _station_json(station, known, flavors)],
        "training": [
            {
                "load": name,
                "domain": domains[name],
                "flavor": flavor,
                "tier": flavors[flavor].flavor.tier,
                "busy_units": busy,
                "usd_per_h": _usd(flavors[flavor], busy),
            }
            for name, ways in plan.training.items()
            for flavor, busy in ways.items()
        ],
        "for_jobs": dict(plan.for_jobs),
        "overloaded": list(plan.overloaded),
        "short": dict(plan.short),
        "by_prior": list(plan.by_prior),
    }


def _station_json(station: Station, known: Mapping[str, Service], flavors: Mapping[str, Supply]) -> list[dict[str, Any]]:
    supply = flavors[station.flavor]
    p95 = _p95_s([known[name] for name in station.services], station)
    return [
        {
            "service": name,
            "domain": known[name].domain,
            "flavor": station.flavor,
            "tier": supply.flavor.tier,
            "units": station.units,
            "share": station.share,
            "p95_ms": None if p95 is None or not np.isfinite(p95[at]) else 1e3 * p95[at],
            "max_batch": station.max_batch[name],
            "max_wait_ms": 1e3 * station.max_wait_s,
            "shared_with": [other for other in station.services if other != name],
            "usd_per_h": _usd(supply, station.units),
        }
        for at, name in enumerate(station.services)
    ]


def _p95_s(services: Sequence[Service], station: Station) -> list[float] | None:
    if any(station.flavor not in one.times for one in services):
        return None
    offered = [Offered(one.rate_per_s, one.times[station.flavor], 1.0) for one in services]
    return [float(value) for value in p95_s(offered, station.units, np.array([station.share]))[:, 0]]


def _usd(supply: Supply, units: float) -> float | None:
    return None if supply.usd_per_h is None else supply.usd_per_h * units


def format_tier_plan(document: Mapping[str, Any]) -> str:
    """The tables, and a line for whatever there is no room or no figure for."""
    parts = []
    if document["services"]:
        rows = [
            [
                row["service"],
                row["domain"],
                f"{row['units']} x {row['flavor']} ({row['tier']})",
                f"{100 * row['share']:.0f} %",
                "-" if row["p95_ms"] is None else f"{row['p95_ms']:.3g} ms",
                str(row["max_batch"]),
                f"{row['max_wait_ms']:.2g} ms" if row["max_wait_ms"] else "-",
                usd(row["usd_per_h"]),
                ", ".join(row["shared_with"]),
            ]
            for row in document["services"]
        ]
        columns = ["service", "domain", "units", "share", "p95", "largest batch", "timer", "per hour", "with"]
        parts.append(table(columns, rows, right=(3, 4, 5, 6, 7)))
    if document["training"]:
        rows = [
            [row["load"], row["domain"], f"{row['busy_units']:.3g} x {row['flavor']} ({row['tier']})", usd(row["usd_per_h"])]
            for row in document["training"]
        ]
        parts.append(table(["training", "domain", "units", "per hour"], rows, right=(3,)))
    free = ", ".join(f"{units} x {flavor}" for flavor, units in document["for_jobs"].items() if units)
    parts.append(f"free for jobs: {free or 'nothing'}")
    parts += [f"{name}: its units cannot keep up; add some, or ask it less" for name in document["overloaded"]]
    parts += [f"{name}: {100 * part:.0f} % of its work has no room" for name, part in document["short"].items()]
    parts += [f"{name}: nothing is measured; placed by its domain" for name in document["by_prior"]]
    return "\n".join(parts)
