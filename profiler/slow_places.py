"""Nodes, and single cards of nodes, that are slower than their like. Pure.

A card is judged as a node is, against all other cards of its flavor, by the runs that had it alone. Invariant: of a node that is named as
a whole, no card is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fabric.types import Node, Run
from profiler.stragglers import Straggler, Stragglers


class SlowPlaces:
    """See `Stragglers` for the order of calls."""

    def __init__(self) -> None:
        self._nodes, self._cards = Stragglers(), Stragglers()
        self._places: dict[str, tuple[str, int]] = {}
        """Name of a card -> its node and its index there."""

    @property
    def slower_than(self) -> float:
        return self._nodes.slower_than

    @slower_than.setter
    def slower_than(self, factor: float) -> None:
        self._nodes.slower_than = self._cards.slower_than = factor

    def observe(self, run: Run, now_s: float) -> None:
        """Take one run, in the order of time."""
        self._nodes.observe(run, now_s)
        if run.card is not None:
            place = f"{run.node_id}/{run.card}"
            self._places[place] = (run.node_id, run.card)
            self._cards.observe(replace(run, node_id=place), now_s)

    def look(self, nodes: Mapping[str, Node], now_s: float) -> list[Straggler]:
        """Judge all anew; `nodes` are those that live, by id. The slowest first."""
        self._places = {place: known for place, known in self._places.items() if known[0] in nodes}
        self._nodes.look(nodes, now_s)
        self._cards.look({place: nodes[node_id] for place, (node_id, _) in self._places.items()}, now_s)
        return self.named()

    def named(self) -> list[Straggler]:
        """The slowest first."""
        cards = [(one, *self._places[one.node_id]) for one in self._cards.named.values() if one.node_id in self._places]
        single = [replace(one, node_id=node_id, card=card) for one, node_id, card in cards if node_id not in self._nodes.named]
        return sorted([*self._nodes.named.values(), *single], key=lambda one: (-one.factor, one.node_id, one.card or 0))

    def forget(self, node_id: str) -> None:
        """Somebody mended the node, or vouches for it: only what it does from now on counts."""
        self._nodes.forget(node_id)
        for place, (owner, _) in self._places.items():
            if owner == node_id:
                self._cards.forget(place)
