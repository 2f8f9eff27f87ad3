"""Backfill: when the head of the queue can start, and what others may use until then.

EASY backfill (Mu'alem and Feitelson, 2001) on nodes rather than on a sum: running jobs are released in the order of their
predicted ends until the head's gang fits. Invariant: a job that would run beyond that time gets nothing that the head
needs then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fabric.job import JobId
from fabric.scheduler.machines import Machine, Machines, fits

Ending = tuple[float, tuple[str, ...], Mapping[str, float]]
"""(predicted end, nodes, demand of one bundle) of something that runs."""
UNKNOWN_S = float("inf")


@dataclass(slots=True)
class Reservation:
    """The head starts at `at_s` on these nodes; `spare` is what is left of each beside it."""

    job_id: JobId
    flavor: str
    at_s: float
    spare: dict[str, dict[str, float]]

    def allows(self, demand: Mapping[str, float], end_s: float) -> Callable[[Machine], bool] | None:
        """Which machines a job that ends then may use; None: all."""
        if end_s <= self.at_s:
            return None

        def allowed(machine: Machine) -> bool:
            spare = self.spare.get(machine.node_id)
            return spare is None or fits(spare, demand)

        return allowed

    def use(self, nodes: Iterable[str], demand: Mapping[str, float]) -> None:
        """A backfilled job that stays beyond `at_s` took part of what was to spare."""
        for node_id in nodes:
            if (spare := self.spare.get(node_id)) is not None:
                for name, amount in demand.items():
                    spare[name] = spare.get(name, 0.0) - amount


def earliest(
    machines: Machines,
    flavor: str,
    demand: Mapping[str, float],
    num_bundles: int,
    spread: bool,
    endings: Iterable[Ending],
    now_s: float,
) -> tuple[float, tuple[str, ...], dict[str, dict[str, float]]] | None:
    """(time, nodes, free resources there by then) of the first moment at which the gang fits; None where no known end
    makes room. `endings` come soonest first. Leaves the machines as they were."""
    stock = machines.stocks.get(flavor)
    if stock is None:
        return None
    need = stock.units(demand) * num_bundles
    mark = machines.checkpoint()
    try:
        at_s = now_s
        for end_s, nodes, held in itertools.chain([(now_s, (), {})], endings):
            if end_s == UNKNOWN_S:
                return None
            machines.give(nodes, held)
            at_s = max(at_s, end_s)
            if stock.free_units < need - 1e-6:
                continue
            placed = machines.place(flavor, demand, num_bundles, spread=spread)
            if placed is not None:
                return at_s, placed, {node_id: dict(machines.nodes[node_id].free) for node_id in placed}
        return None
    finally:
        machines.rollback(mark)
