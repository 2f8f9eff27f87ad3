"""Which nodes have room: the free resources of every node, by flavor, with exploration that can be taken back.

A bundle never spans two nodes. Best fit: the fullest node that still holds it, so that large gaps stay whole. Invariant:
what `take` books, `give` returns; after `rollback(checkpoint())` everything is as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fabric.types import Flavor, Node

EPSILON = 1e-6
ASLEEP_LEVEL = 1 << 20
"""Above all units that a node can have: machines that are there are filled first."""
Allowed = Callable[["Machine"], bool]


@dataclass(slots=True)
class Machine:
    """One node. `free` may be negative where Ray shows more in use than was granted. `wake_s`: it is asleep, and comes so long after
    something is sent there; 0: it is there."""

    node_id: str
    flavor: str
    total: Mapping[str, float]
    free: dict[str, float]
    is_open: bool = True
    level: int = 0
    wake_s: float = 0.0


def fits(free: Mapping[str, float], demand: Mapping[str, float]) -> bool:
    return all(free.get(name, 0.0) >= amount - EPSILON for name, amount in demand.items())


class Stock:
    """The machines of one flavor, in levels of free units of its main resource."""

    def __init__(self, flavor: Flavor) -> None:
        self.flavor = flavor
        self.resource = flavor.resource or "CPU"
        self.units_per = 1.0 / flavor.units
        self.levels: dict[int, dict[str, Machine]] = {}
        self.free_units = 0.0
        self.total_units = 0.0
        self.num_open = 0
        self.wake_s = 0.0

    def add(self, machine: Machine) -> None:
        machine.level = self._level(machine)
        self.levels.setdefault(machine.level, {})[machine.node_id] = machine
        if machine.is_open:
            self.free_units += self.units(machine.free)
            self.total_units += self.units(machine.total)
            self.num_open += 1
            self.wake_s = max(self.wake_s, machine.wake_s)

    def units(self, amounts: Mapping[str, float]) -> float:
        return amounts.get(self.resource, 0.0) * self.units_per

    def change(self, machine: Machine, demand: Mapping[str, float], sign: float) -> None:
        free = machine.free
        for name, amount in demand.items():
            free[name] = free.get(name, 0.0) + sign * amount
        if machine.is_open:
            self.free_units += sign * self.units(demand)
        level = self._level(machine)
        if level != machine.level:
            del self.levels[machine.level][machine.node_id]
            machine.level = level
            self.levels.setdefault(level, {})[machine.node_id] = machine

    def best_fit(self, demand: Mapping[str, float], allowed: Allowed | None, taken: set[str] | None) -> Machine | None:
        """The fullest open machine that holds the demand, one that is asleep last; `taken` are nodes not to be used again."""
        need = demand.get(self.resource, 0.0) * self.units_per
        for level in sorted(self.levels):
            if level + 1 <= need + EPSILON:
                continue
            for machine in self.levels[level].values():
                if not machine.is_open or not fits(machine.free, demand):
                    continue
                if (taken is None or machine.node_id not in taken) and (allowed is None or allowed(machine)):
                    return machine
        return None

    def can_ever(self, demand: Mapping[str, float], num_bundles: int, spread: bool) -> bool:
        """Whether the empty machines could hold the gang."""
        left = num_bundles
        for level in self.levels.values():
            for machine in level.values():
                if machine.is_open:
                    left -= _times(machine.total, demand, 1 if spread else left)
                    if left <= 0:
                        return True
        return left <= 0

    def _level(self, machine: Machine) -> int:
        return int(max(0.0, self.units(machine.free)) + EPSILON) + (ASLEEP_LEVEL if machine.wake_s else 0)


def _times(total: Mapping[str, float], demand: Mapping[str, float], most: int) -> int:
    return min([most, *(int(total.get(name, 0.0) / amount + EPSILON) for name, amount in demand.items())])


def _awake(allowed: Allowed | None) -> Allowed:
    return lambda machine: not machine.wake_s and (allowed is None or allowed(machine))


class Machines:
    """All nodes that jobs may use. `catalogue`: flavor name -> flavor."""

    def __init__(self, catalogue: Mapping[str, Flavor]) -> None:
        self.catalogue = catalogue
        self.nodes: dict[str, Machine] = {}
        self.stocks: dict[str, Stock] = {}
        self._undo: list[tuple[Machine, Mapping[str, float], float]] | None = None

    def observe(self, nodes: Iterable[Node], held: Iterable[tuple[str, Mapping[str, float]]]) -> None:
        """Replace all nodes; `held` is what jobs hold: (node id, demand) per bundle. `Node.used` is what others use."""
        self.nodes, self.stocks = {}, {}
        for node in nodes:
            if node.flavor not in self.catalogue:
                continue
            free = {name: amount - node.used.get(name, 0.0) for name, amount in node.total.items()}
            is_open = node.health in ("ready", "asleep")
            self.nodes[node.node_id] = Machine(node.node_id, node.flavor, node.total, free, is_open, wake_s=node.wake_s)
        for node_id, demand in held:
            if (machine := self.nodes.get(node_id)) is not None:
                for name, amount in demand.items():
                    machine.free[name] = machine.free.get(name, 0.0) - amount
        for machine in self.nodes.values():
            stock = self.stocks.get(machine.flavor)
            if stock is None:
                stock = self.stocks[machine.flavor] = Stock(self.catalogue[machine.flavor])
            stock.add(machine)

    def free_units(self, flavor: str) -> float:
        stock = self.stocks.get(flavor)
        return stock.free_units if stock else 0.0

    def wake_s(self, flavor: str) -> float:
        """How long it takes until a node comes that is asleep; 0: none is."""
        stock = self.stocks.get(flavor)
        return stock.wake_s if stock else 0.0

    def place(
        self,
        flavor: str,
        demand: Mapping[str, float],
        num_bundles: int,
        *,
        spread: bool = False,
        allowed: Allowed | None = None,
        may_wake: bool = True,
    ) -> tuple[str, ...] | None:
        """Take room for a gang: the node of each bundle, or None and nothing taken. Nodes that are asleep are for what does not fit
        those that are there."""
        stock = self.stocks.get(flavor)
        if stock is None or stock.free_units < stock.units(demand) * num_bundles - EPSILON:
            return None
        if not stock.wake_s:
            return self._place(stock, demand, num_bundles, spread, allowed)
        there = self._place(stock, demand, num_bundles, spread, _awake(allowed))
        return there if there is not None or not may_wake else self._place(stock, demand, num_bundles, spread, allowed)

    def _place(
        self, stock: Stock, demand: Mapping[str, float], num_bundles: int, spread: bool, allowed: Allowed | None
    ) -> tuple[str, ...] | None:
        if num_bundles > 1 and not spread:
            whole = {name: amount * num_bundles for name, amount in demand.items()}
            if (machine := stock.best_fit(whole, allowed, None)) is not None:
                self._change(machine, whole, -1.0)
                return (machine.node_id,) * num_bundles
        return self._place_each(stock, demand, num_bundles, spread, allowed)

    def _place_each(
        self, stock: Stock, demand: Mapping[str, float], num_bundles: int, spread: bool, allowed: Allowed | None
    ) -> tuple[str, ...] | None:
        nodes: list[str] = []
        taken: set[str] | None = set() if spread else None
        for _ in range(num_bundles):
            machine = stock.best_fit(demand, allowed, taken)
            if machine is None:
                for node_id in nodes:
                    self._change(self.nodes[node_id], demand, 1.0)
                return None
            self._change(machine, demand, -1.0)
            nodes.append(machine.node_id)
            if taken is not None:
                taken.add(machine.node_id)
        return tuple(nodes)

    def give(self, nodes: Iterable[str], demand: Mapping[str, float]) -> None:
        for node_id in nodes:
            if (machine := self.nodes.get(node_id)) is not None:
                self._change(machine, demand, 1.0)

    def take(self, nodes: Iterable[str], demand: Mapping[str, float]) -> None:
        """Book what is held anyway (replay, or where Ray really put it)."""
        for node_id in nodes:
            if (machine := self.nodes.get(node_id)) is not None:
                self._change(machine, demand, -1.0)

    def checkpoint(self) -> int:
        """Begin or deepen an exploration."""
        if self._undo is None:
            self._undo = []
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Take back every change since the mark; mark 0 ends the exploration."""
        undo = self._undo or []
        while len(undo) > mark:
            machine, demand, sign = undo.pop()
            self.stocks[machine.flavor].change(machine, demand, -sign)
        if mark == 0:
            self._undo = None

    def _change(self, machine: Machine, demand: Mapping[str, float], sign: float) -> None:
        self.stocks[machine.flavor].change(machine, demand, sign)
        if self._undo is not None:
            self._undo.append((machine, demand, sign))
