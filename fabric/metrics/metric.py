"""What a metric is, and one value of it. Pure: `fabric.metering` carries them to Ray, which exports them.

Invariant: labels are names of tiers, flavors, queues, users, models and codes; never an id of a job, a call or a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One declaration. `name` carries its unit; `bounds`: upper ends of a histogram's buckets, in that unit. `is_summed`: several
    processes tell their own part of it; else one owner tells the whole."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    is_summed: bool = False

    def __hash__(self) -> int:
        # Names are unique among the declared, and a tally looks a metric up for everything that it counts.
        return hash(self.name)

    @property
    def exported(self) -> str:
        """Its name in Prometheus: Ray puts `ray_` before every name and `_total` behind a counter's."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


class Sample(NamedTuple):
    """One value of a metric, its labels' values in their declared order.

    Of a gauge what it is now; of a counter all since its owner began; of a histogram a value seen so many `times` since the last look.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float
    times: int = 1
