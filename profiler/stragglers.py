"""Which nodes are slower than their like. Pure: runs in, names out; the time is given.

Invariants: only runs of the same task, size, variant and flavor are compared, recent ones of each node; what a twin declares of its
slowness is taken off first; a node is named when two lots of runs, none of them in both, say the same; a named one keeps its name until
new runs take it away, so that a node without work does not lose it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fabric.types import Node, Run, name_of
from profiler.node_effects import Comparison, Effect, Reference, Sample, effect_of, reference_of
from profiler.run_window import RunWindow

SLOWER_THAN = 1.5
RECENT_S = 1800.0
MANY_NODES = 6
"""From here on one median for all will do: each is a small part of it."""
LEAST_WALL_S = 0.001
"""Of shorter calls the fabric's own work is a part."""
SURELY_STRETCHED_S = 0.001
"""A twin lets a call sleep for what it is to be stretched by, unless that is shorter than its clock can sleep."""

Cell = tuple[str, int, str]
"""task, bucket, variant"""
References = Mapping[str, Reference | None]


@dataclass(frozen=True, slots=True)
class Straggler:
    """A node that takes `factor` times as long as other nodes of its flavor, or only its `card`; `since_s` is when it was named."""

    node_id: str
    flavor: str
    factor: float
    num_runs: int
    num_tasks: int
    since_s: float
    card: int | None = None


class Stragglers:
    """`slower_than` (above 1) is how much slower a node must be to be named; it loses its name below halfway to that."""

    def __init__(self, slower_than: float = SLOWER_THAN) -> None:
        self.slower_than = slower_than
        self.named: dict[str, Straggler] = {}
        self._slowdowns: dict[str, float] = {}
        self._runs: dict[str, dict[Cell, dict[str, RunWindow]]] = defaultdict(dict)
        self._suspected_s: dict[str, float] = {}
        self._fresh_from_s: dict[str, float] = {}
        self._has_news = False

    def observe(self, run: Run, now_s: float) -> None:
        """Take one run, in the order of time. Of nodes that no look has seen, nothing is taken."""
        slowdown = self._slowdowns.get(run.node_id)
        if run.outcome != "ok" or slowdown is None or run.wall_s < LEAST_WALL_S:
            return
        own_s = run.wall_s / slowdown
        if slowdown > 1.0 and own_s * (slowdown - 1.0) < SURELY_STRETCHED_S:
            return
        by_node = self._runs[run.flavor].setdefault((run.task, run.bucket, run.variant), {})
        window = by_node.get(run.node_id)
        if window is None:
            window = by_node[run.node_id] = RunWindow()
        window.add(now_s, math.log(own_s))
        self._has_news = True

    def look(self, nodes: Mapping[str, Node], now_s: float) -> list[Straggler]:
        """Judge all nodes anew; `nodes` are those that live, by id. The slowest first."""
        self._slowdowns = {node_id: node.slowdown or 1.0 for node_id, node in nodes.items()}
        self._let_go(now_s)
        has_news, self._has_news = self._has_news, False
        for flavor, cells in self._runs.items() if has_news else ():
            references = {cell: self._references(by_node) for cell, by_node in cells.items()}
            for node_id in sorted({node_id for by_node in cells.values() for node_id in by_node}):
                self._judge(node_id, flavor, references, now_s)
        return sorted(self.named.values(), key=lambda one: (-one.factor, one.node_id))

    def forget(self, node_id: str) -> None:
        """Somebody mended it, or vouches for it: only what it does from now on counts."""
        for cells in self._runs.values():
            for by_node in cells.values():
                by_node.pop(node_id, None)
        self.named.pop(node_id, None)
        self._suspected_s.pop(node_id, None)

    def _judge(self, node_id: str, flavor: str, references: Mapping[Cell, References], now_s: float) -> None:
        named, suspected_s = self.named.get(node_id), self._suspected_s.get(node_id)
        from_s = named.since_s if named is not None else suspected_s if suspected_s is not None else self._fresh_from_s.get(node_id, 0.0)
        windows = {cell: by_node[node_id] for cell, by_node in self._runs[flavor].items() if node_id in by_node}
        effect = _effect(windows, from_s, lambda cell: references[cell].get(node_id) or references[cell].get(""))
        if effect is None:
            return
        if effect.shift < math.log(1.0 + (self.slower_than - 1.0) / 2.0):
            if self.named.pop(node_id, None) or self._suspected_s.pop(node_id, None):
                self._fresh_from_s[node_id] = now_s
        elif named is not None:
            self.named[node_id] = replace(named, factor=math.exp(effect.shift), num_runs=effect.num_runs, num_tasks=effect.num_tasks)
        elif self._is_slow(effect):
            # Whether all have become slower meanwhile shows only beside what the others did at the same time.
            same_time = {cell: window.begins_s(from_s) for cell, window in windows.items()}
            effect = _effect(windows, from_s, lambda cell: reference_of(self._peers_since(flavor, cell, node_id, same_time[cell])))
            if effect is not None and self._is_slow(effect):
                self._suspect(node_id, flavor, effect, now_s)

    def _is_slow(self, effect: Effect) -> bool:
        return effect.shift >= math.log(self.slower_than) and effect.bound > 0.0

    def _suspect(self, node_id: str, flavor: str, effect: Effect, now_s: float) -> None:
        """The first time; the second time, by other runs, it is named."""
        if self._suspected_s.pop(node_id, None) is None:
            self._suspected_s[node_id] = now_s
        else:
            self.named[node_id] = Straggler(node_id, flavor, math.exp(effect.shift), effect.num_runs, effect.num_tasks, now_s)

    def _references(self, by_node: Mapping[str, RunWindow]) -> References:
        """For each node the others' median; where there are many, one for all (key ""), of which each is a small part."""
        judged = {node_id: window.sample() for node_id, window in by_node.items() if node_id not in self.named}
        like = {node_id: sample for node_id, sample in judged.items() if sample is not None}
        if len(like) >= MANY_NODES:
            return {"": reference_of(list(like.values()))}
        return {node_id: reference_of([sample for peer, sample in like.items() if peer != node_id]) for node_id in by_node}

    def _peers_since(self, flavor: str, cell: Cell, node_id: str, from_s: float) -> list[Sample]:
        others = [window for peer, window in self._runs[flavor][cell].items() if peer != node_id and peer not in self.named]
        return [sample for window in others if (sample := window.sample(from_s)) is not None]

    def _let_go(self, now_s: float) -> None:
        """Of what is old, and of nodes that are gone."""
        for cells in self._runs.values():
            for cell, by_node in list(cells.items()):
                for node_id, window in list(by_node.items()):
                    if not window.drop_before(now_s - RECENT_S) or node_id not in self._slowdowns:
                        del by_node[node_id]
                if not by_node:
                    del cells[cell]
        for known in (self.named, self._suspected_s, self._fresh_from_s):
            for node_id in [node_id for node_id in known if node_id not in self._slowdowns]:
                del known[node_id]


def _effect(windows: Mapping[Cell, RunWindow], from_s: float, like: Callable[[Cell], Reference | None]) -> Effect | None:
    """Of a node's runs since then, by cell, against what the same takes on its like."""
    found = []
    for cell, window in windows.items():
        own = window.sample(from_s)
        if own is not None and (reference := like(cell)) is not None:
            found.append(Comparison(name_of(cell[0]), own, reference))
    return effect_of(found)
