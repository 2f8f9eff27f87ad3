"""Who held what when: a lease for each node of each attempt, and the marks of what went wrong, as columns of numbers.

Invariants: two leases of a lane of a node never overlap; a lease that goes on has no end; a fact that comes again changes nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from fabric.console.grown import Grown, Words

ENDS = ("running", "ok", "error", "oom", "preempted", "moved", "lost", "cancelled", "timeout", "mixed")
RUNNING, OK, ERROR, OOM, PREEMPTED, MOVED, LOST, CANCELLED, TIMEOUT, MIXED = range(10)
"""How a lease ended, by number. `mixed` is only said of several."""
MARKS = ("preempted", "failed", "moved", "lost")
_OUTCOMES = {"ok": OK, "error": ERROR, "oom": OOM, "lost": LOST, "cancelled": CANCELLED, "timeout": TIMEOUT, "budget": TIMEOUT}
_MARK_OF_END = {ERROR: 1, OOM: 1, TIMEOUT: 1, LOST: 3}
_NEVER, _NOWHEN = float("inf"), float("-inf")


class LeaseBook:
    """`leases` and `marks` name nodes, flavors and jobs by number: of `nodes`, of `flavors`, of the job table."""

    def __init__(self) -> None:
        self.nodes, self.flavors = Words(), Words()
        self.leases = Grown(node="i4", lane="i4", flavor="i4", job="i4", attempt="i4", from_s="f8", to_s="f8", state="i1", units="f4")
        self.marks = Grown(node="i4", job="i4", at_s="f8", kind="i1")
        self.version = 0
        self._open: dict[tuple[int, int], list[int]] = {}
        self._leaving: dict[tuple[int, int], int] = {}
        self._newest: dict[int, int] = {}
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._num_lanes: Counter[int] = Counter()

    def apply(self, kind: str, body: Mapping[str, Any], at_s: float, job: int) -> None:
        """A fact about job number `job`."""
        if kind == "JobDispatched":
            self.begin(job, body["attempt"], body["grant"], at_s)
        elif kind == "JobStarted" and body.get("nodes"):
            self._move(job, body["attempt"], body["nodes"])
        elif kind == "JobPreempted":
            self._leave(job, body["attempt"], PREEMPTED if body.get("for_job") else MOVED, at_s)
        elif kind == "JobVacated":
            key = (job, body["attempt"])
            self._end(key, self._leaving.get(key, PREEMPTED), at_s)
        elif kind == "JobEnded":
            self._end((job, body["attempt"]), _OUTCOMES.get(body["outcome"], ERROR), at_s)
        elif kind == "LeaseRefused":
            self._end((job, body["attempt"]), LOST, at_s)

    def begin(self, job: int, attempt: int, grant: Mapping[str, Any], at_s: float) -> None:
        """A grant as the journal has it is held from now on."""
        if attempt <= self._newest.get(job, 0):
            return
        self._newest[job] = attempt
        _, flavor, num_bundles, units, _ = grant["option"]
        number, each = self.flavors.number(flavor), units / max(1, num_bundles)
        self._open[job, attempt] = [
            self._add(self.nodes.number(node), number, job, attempt, at_s, each * count) for node, count in Counter(grant["nodes"]).items()
        ]
        self.version += 1

    def by_node(self) -> dict[str, list[tuple[int, float]]]:
        """(job number, units) of what is held now, by node."""
        held: dict[str, list[tuple[int, float]]] = {}
        nodes, jobs, units = (self.leases.view(name) for name in ("node", "job", "units"))
        for leases in self._open.values():
            for lease in leases:
                held.setdefault(self.nodes.all[nodes[lease]], []).append((int(jobs[lease]), float(units[lease])))
        return held

    def is_open(self, job: int, attempt: int) -> bool:
        return (job, attempt) in self._open

    def forget(self, before_s: float) -> None:
        """Drop what had ended, and was marked, before this."""
        self.marks.keep(self.marks.view("at_s") >= before_s)
        renumbered = self.leases.keep(self.leases.view("to_s") >= before_s)
        self._open = {key: [int(renumbered[lease]) for lease in leases] for key, leases in self._open.items()}
        self.version += 1

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Every lease and every mark in words and figures, for comparing two books."""
        names = ("node", "lane", "flavor", "job", "attempt", "from_s", "to_s", "state", "units")
        for node, *rest in zip(*(self.leases.view(name).tolist() for name in names), strict=True):
            if rest[names.index("to_s") - 1] != _NOWHEN:
                yield ("lease", self.nodes.all[node], *rest)
        for node, *rest in zip(*(self.marks.view(name).tolist() for name in ("node", "job", "at_s", "kind")), strict=True):
            yield ("mark", self.nodes.all[node], *rest)

    # ---- inside

    def _add(self, node: int, flavor: int, job: int, attempt: int, at_s: float, units: float) -> int:
        values = {"node": node, "lane": self._take_lane(node), "flavor": flavor, "job": job, "attempt": attempt, "units": units}
        return self.leases.add(**values, from_s=at_s, to_s=_NEVER, state=RUNNING)

    def _take_lane(self, node: int) -> int:
        """The lowest lane of the node that nothing holds."""
        if self._free[node]:
            return heapq.heappop(self._free[node])
        self._num_lanes[node] += 1
        return self._num_lanes[node] - 1

    def _give_lane(self, lease: int) -> None:
        heapq.heappush(self._free[self.leases.get(lease, "node")], self.leases.get(lease, "lane"))

    def _move(self, job: int, attempt: int, nodes: list[str]) -> None:
        """Ray put the bundles elsewhere than was decided: they were there from the beginning."""
        held = self._open.get((job, attempt))
        if held is None or {self.nodes.all[self.leases.get(lease, "node")] for lease in held} == set(nodes):
            return
        flavor, from_s = self.leases.get(held[0], "flavor"), self.leases.get(held[0], "from_s")
        each = float(sum(self.leases.get(lease, "units") for lease in held)) / len(nodes)
        for lease in held:
            self._give_lane(lease)
            self.leases.set(lease, from_s=from_s, to_s=_NOWHEN)  # of no window; the next forgetting drops it
        self._open[job, attempt] = [
            self._add(self.nodes.number(node), flavor, job, attempt, from_s, each * count) for node, count in Counter(nodes).items()
        ]
        self.version += 1

    def _leave(self, job: int, attempt: int, end: int, at_s: float) -> None:
        key = (job, attempt)
        if key in self._open and key not in self._leaving:
            self._leaving[key] = end
            self._mark(key, MARKS.index(ENDS[end]), at_s)

    def _end(self, key: tuple[int, int], end: int, at_s: float) -> None:
        if key not in self._open:
            return
        if (kind := _MARK_OF_END.get(end)) is not None:
            self._mark(key, kind, at_s)
        for lease in self._open.pop(key):
            self._give_lane(lease)
            self.leases.set(lease, to_s=at_s, state=end)
        self._leaving.pop(key, None)
        self.version += 1

    def _mark(self, key: tuple[int, int], kind: int, at_s: float) -> None:
        for lease in self._open[key]:
            self.marks.add(node=self.leases.get(lease, "node"), job=key[0], at_s=at_s, kind=kind)
        self.version += 1
