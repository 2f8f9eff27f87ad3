"""Measured runs of tasks as metrics: calls by outcome, their times and what they cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from fabric.metrics import declared as m
from fabric.metrics.tally import Tally
from fabric.types import Flavor, Resources, Run

HOUR_S = 3600.0


def count_run(tally: Tally, run: Run, flavor: Flavor | None, resources: Resources | None) -> None:
    """Count one run. `flavor` None: the catalogue lacks it; `resources` None: its variant is not known any more."""
    place = (flavor.tier if flavor is not None else "", run.flavor)
    tally.count(m.TASK_CALLS, *place, run.outcome)
    tally.observe(m.TASK_RUN, run.wall_s, *place)
    if flavor is not None and resources is not None and flavor.usd_per_h is not None:
        usd = cost_usd(run.wall_s, flavor, flavor.usd_per_h, resources.as_demand())
        if usd > 0:
            tally.count(m.TASK_USD, *place, run.queue, by=usd)


def cost_usd(wall_s: float, flavor: Flavor, usd_per_h: float, demand: Mapping[str, float]) -> float:
    """Of what the flavor is paid for: a call that takes none of an accelerator's node but CPUs costs nothing there."""
    return wall_s / HOUR_S * usd_per_h * demand.get(flavor.resource, 0.0) / flavor.units
