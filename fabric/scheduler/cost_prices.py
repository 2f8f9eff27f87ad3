"""What options cost: shared by the cost planner and its bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fabric.job import Option
from fabric.scheduler.problem import PlanJob


def usd_per_s(usd_per_h: Mapping[str, float], flavors: Iterable[str]) -> dict[str, float]:
    """Price of a unit-second of each flavor. A flavor without a price counts as the dearest that has one (1 $/h where none has)."""
    dearest = max((price for price in usd_per_h.values() if price > 0), default=1.0)
    return {flavor: usd_per_h.get(flavor, dearest) / 3600 for flavor in flavors}


def usable(job: PlanJob, capacity: Mapping[str, float]) -> list[Option]:
    """The job's options that the pool could ever hold."""
    return [option for option in job.options if option.rate > 0 and 0 < option.units <= capacity.get(option.flavor, 0.0) + 1e-9]


def missed_usd(work: float, options: Iterable[Option], prices: Mapping[str, float]) -> float:
    """What a job that misses its deadline is charged: its fastest completion on the dearest flavor that can run it."""
    option = max(options, key=lambda one: (prices[one.flavor], one.rate))
    return prices[option.flavor] * option.units * work / option.rate
