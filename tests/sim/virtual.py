"""A fabric on virtual time: the product's own ledgers, lanes, estimator and router over nodes that only sleep.

One client decides, as the real one does, from its last table, its last estimates and its own calls in flight. Nodes of a
flavor take calls first come, first served, as their resources allow. Nothing here knows wall-clock time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fabric.capacity import capacities
from fabric.events import NodesObserved
from fabric.lanes import Lanes, finish, start
from fabric.probing import Probing
from fabric.routing import Candidate, Plan, RoutingPolicy, compile_plan
from fabric.types import Domain, Fingerprint, Flavor, Node, Run, Variant
from pools.ledger import Ledger
from profiler.estimate import Estimator

REFRESH_S, NOISE_LOG_SD = 0.5, 0.1


@dataclass(slots=True)
class Call:
    """`true_s`: its real median run time per flavor, which the router does not know."""

    number: int
    task: str
    arrival_s: float
    true_s: Mapping[str, float]
    node_id: str = ""
    attempt: int = 0
    num_done: int = 0
    done_s: float = 0.0


Choice = Callable[["VirtualFabric", Plan, Call], Candidate]


class VirtualFabric:
    """`tasks`: name -> its variants; `choice` picks a candidate of the plan (the product's: `plan.choose()`)."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        catalogue: Mapping[str, Flavor],
        tasks: Mapping[str, tuple[Variant, ...]],
        choice: Choice,
        *,
        domain: Domain = "other",
        waiting_usd_per_h: float = 1000.0,
        seed: int = 0,
    ) -> None:
        self.nodes, self.catalogue, self.tasks, self.choice, self.domain = dict(nodes), catalogue, tasks, choice, domain
        self.policy, self.luck = RoutingPolicy(waiting_usd_per_h), random.Random(seed)
        self.lanes, self.estimator, self.probing = Lanes(), Estimator(catalogue), Probing()
        for task, variants in tasks.items():
            self.estimator.describe(task, Fingerprint(domain), variants)
        self.ledgers = [Ledger(tier) for tier in {flavor.tier: 0 for flavor in catalogue.values()}]
        self.free = {name: dict(node.total) for name, node in nodes.items()}
        self.queues: dict[str, deque[Call]] = {name: deque() for name in catalogue}
        self.routes: dict[int, Candidate] = {}
        self.plans: dict[str, Plan] = {}
        self.now_s, self.num_left = 0.0, 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time_s: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), happens))

    def run(self, calls: list[Call]) -> None:
        self.num_left = len(calls)
        self._refresh()
        for call in calls:
            self.at(call.arrival_s, lambda call=call: self._submit(call))  # type: ignore[misc]
        while self.num_left:
            self.now_s, _, happens = heapq.heappop(self._events)
            happens()

    def lose(self, node_id: str, calls: list[Call]) -> None:
        """The node dies: what ran there, and what waits for a flavor without any node, is routed anew."""
        flavor = self.nodes.pop(node_id).flavor
        del self.free[node_id]
        lost = [call for call in calls if call.node_id == node_id and not call.num_done]
        if all(node.flavor != flavor for node in self.nodes.values()):
            lost += self.queues[flavor]
            self.queues[flavor].clear()
        self._learn()
        for call in lost:
            call.attempt += 1
            finish(self.routes[call.number].claims, self.routes[call.number].run_s)
            self._submit(call)

    def _refresh(self) -> None:
        self._learn()
        self.at(self.now_s + REFRESH_S, self._refresh)

    def _learn(self) -> None:
        """What pools and profiler tell the client: snapshots of all nodes, and plans from the estimates of now."""
        nodes = self.nodes.values()
        seen = NodesObserved(tuple(replace(n, used={k: v - self.free[n.node_id][k] for k, v in n.total.items()}) for n in nodes))
        for ledger in self.ledgers:
            ledger.handle(seen)
        table = capacities([ledger.snapshot() for ledger in self.ledgers], self.catalogue)
        for capacity in table.values():
            self.lanes.observe(capacity)
        for task, variants in self.tasks.items():
            estimate_of = self.estimator.predictor(task, 0).estimate
            plan = compile_plan(variants, table, estimate_of, self.policy, self.lanes, domain=self.domain, task=task)
            plan.untried = self.probing.find(plan.candidates, self.estimator.profile(task).num_runs(), task, 0)
            self.plans[task] = plan

    def _submit(self, call: Call) -> None:
        candidate = self.routes[call.number] = self.choice(self, self.plans[call.task], call)
        call.node_id = ""
        start(candidate.claims, candidate.run_s)
        self.queues[candidate.flavor].append(call)
        self._serve(candidate.flavor)

    def _serve(self, flavor: str) -> None:
        queue = self.queues[flavor]
        while queue and (node_id := self.node_for(self.routes[queue[0].number])) is not None:
            call = queue.popleft()
            self._take(node_id, self.routes[call.number], 1.0)
            call.node_id, attempt = node_id, call.attempt
            run_s = call.true_s[flavor] * math.exp(self.luck.gauss(0.0, NOISE_LOG_SD))
            self.at(self.now_s + run_s, lambda call=call, attempt=attempt, run_s=run_s: self._finish(call, attempt, run_s))  # type: ignore[misc]

    def _finish(self, call: Call, attempt: int, run_s: float) -> None:
        if attempt != call.attempt:
            return  # its node was lost meanwhile
        chosen = self.routes[call.number]
        self._take(call.node_id, chosen, -1.0)
        finish(chosen.claims, chosen.run_s)
        self.estimator.record(Run(str(call.number), call.task, 0, chosen.variant.name, chosen.flavor, call.node_id, run_s, run_s, 0))
        call.num_done, call.done_s, self.num_left = call.num_done + 1, self.now_s, self.num_left - 1
        self._serve(chosen.flavor)

    def _take(self, node_id: str, candidate: Candidate, times: float) -> None:
        for name, amount in candidate.resources.as_demand().items():
            self.free[node_id][name] -= times * amount

    def node_for(self, candidate: Candidate) -> str | None:
        demand = candidate.resources.as_demand()
        names = (name for name, node in self.nodes.items() if node.flavor == candidate.flavor)
        return next((n for n in names if all(self.free[n].get(k, 0.0) >= v - 1e-9 for k, v in demand.items())), None)
