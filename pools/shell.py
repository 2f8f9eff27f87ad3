"""The pool actor: one per tier, named `pool-<tier>`. Carries facts to its ledger and the ledger's commands to Ray.

It rebuilds its cordons, drains and leases from the journal when it is started anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from fabric import codec, ray_io
from fabric.capacity import FlavorCapacity, capacities
from fabric.config import FabricConfig
from fabric.errors import FabricError, RejectedError, RuntimeFault
from fabric.events import (
    JOURNALLED,
    DrainNode,
    LeaseGranted,
    LeaseReleased,
    NodeCordoned,
    NodeDrainRefused,
    NodeDrainRequested,
    NodesObserved,
    NodeUncordoned,
    PoolCommand,
    PoolFact,
    RestNode,
    StartNodeAgent,
    UsageReported,
)
from fabric.metering import meter
from fabric.shipping.opened import open_journal
from fabric.types import Flavor, Lease, Node, NodeUsage, PoolSnapshot
from pools.asleep import NodeTypesFile, asleep
from pools.ledger import Ledger
from pools.samples import pool_samples

OBSERVE_S = 1.0
AGENT_SILENT_S = 10.0
FREE_STEP_S = 0.3
"""Pools come back together: one after another looks for what is lost, so that the next finds it mended."""
_log = logging.getLogger(__name__)


class PoolShell:
    """Undecorated actor class. `agent_factory(host, node_id, tier)` starts the node agent of a machine; `free_stranded` sees to actors of
    the fabric that a restart of Ray's head has lost."""

    def __init__(
        self,
        tier: str,
        config: FabricConfig,
        catalogue: Mapping[str, Flavor],
        agent_factory: Any,
        free_stranded: Callable[[], Any],
    ) -> None:
        self._free_stranded = free_stranded
        self._free_after_s = FREE_STEP_S * config.tier_names.index(tier)
        share = next(t.task_share for t in config.tiers if t.name == tier)
        self._stream = f"pool-{tier}"
        self._tier = tier
        self._catalogue = catalogue
        self._start_agent = agent_factory
        self._journal = open_journal(config)
        self._ledger = Ledger(tier, share)
        self._node_types = NodeTypesFile(config.autoscaling_config)
        self._lock = threading.RLock()
        self._heard_s: dict[str, float] = {}
        for kind, body in self._journal.replay(self._stream):
            self._ledger.handle(_fact(kind, body))
        self._observe()
        threading.Thread(target=self._loop, name="observe", daemon=True).start()
        meter(lambda: pool_samples(self.snapshot(), self._catalogue), self._stream)

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return self._stream

    def ping(self) -> str:
        return self._stream

    def snapshot(self) -> PoolSnapshot:
        with self._lock:
            return self._ledger.snapshot()

    def capacities(self) -> dict[str, FlavorCapacity]:
        """What clients route by: a summary per flavor, small however many nodes there are."""
        return capacities([self.snapshot()], self._catalogue)

    def report_usage(self, host: str, usage: NodeUsage) -> None:
        self._heard_s[host] = time.monotonic()
        self._take(UsageReported(host, usage))

    def cordon(self, name: str, by: str) -> Node:
        return self._decide(name, lambda node: NodeCordoned(node.node_id, by))

    def uncordon(self, name: str, by: str) -> Node:
        return self._decide(name, lambda node: NodeUncordoned(node.node_id, by))

    def drain(self, name: str, by: str, deadline_s: float) -> Node:
        """Raises: RejectedError for the head."""
        with self._lock:
            node_id = self._ledger.find(name).node_id
        if node_id == ray_io.worker_place().node_id:  # pools live on the head
            hint = "`fabric node cordon` keeps new work off it; `fabric down` ends a twin"
            raise RejectedError(f"node {node_id[:8]} is the head: the fabric itself lives there", code="head_node", hint=hint)
        return self._decide(node_id, lambda node: NodeDrainRequested(node.node_id, by, deadline_s))

    def lease(self, lease: Lease, by: str) -> None:
        """Book resources that Ray has confirmed. Raises: RejectedError."""
        with self._lock:
            self._ledger.check_lease(lease)
            self._take(LeaseGranted(lease, by))

    def release(self, lease_id: str, by: str) -> None:
        self._take(LeaseReleased(lease_id, by))

    def _decide(self, name: str, fact_of: Callable[[Node], PoolFact]) -> Node:
        """The node as the fact leaves it: a drained one may be gone before Ray has answered."""
        with self._lock:
            node = self._ledger.find(name)
            commands = self._apply(fact_of(node))
            node = self._ledger.find(node.node_id)
        self._perform_all(commands)
        return node

    def _take(self, fact: PoolFact) -> None:
        """Apply the fact, then do what the ledger asks for."""
        self._perform_all(self._apply(fact))

    def _apply(self, fact: PoolFact) -> list[PoolCommand]:
        """Journal the fact if it is to survive, then give it to the ledger."""
        with self._lock:
            if type(fact).__name__ in JOURNALLED:
                self._journal.append(self._stream, fact)
            return self._ledger.handle(fact)

    def _perform_all(self, commands: list[PoolCommand]) -> None:
        """Outside the lock: Ray takes seconds to drain a node, and clients ask for capacities meanwhile."""
        for command in commands:
            self._perform(command)

    def _perform(self, command: PoolCommand) -> None:
        match command:
            case StartNodeAgent():
                self._heard_s[command.host] = time.monotonic()
                self._start_agent(command.host, command.node_id, self._tier)
            case RestNode():
                ray_io.end_actor(f"agent-{command.host}")
                self._end_unused(ray_io.WARM_PREFIX + command.node_id)
            case DrainNode():
                self._drain(command)

    @staticmethod
    def _end_unused(name: str) -> None:
        """End a warm host, unless something runs there that claims nothing of Ray's (the driver of a Ray program)."""
        try:
            if ray_io.ask(ray_io.actor(name).is_idle.remote(), timeout_s=5.0):
                ray_io.end_actor(name)
        except FabricError as error:
            _log.info("rest host=%s: %s", name, error.message)

    def _drain(self, command: DrainNode) -> None:
        # A node waits for the actors on it: its machine's agent ends first, and starts anew where the machine has
        # another node.
        host = next((node.host for node in self.snapshot().nodes if node.node_id == command.node_id), None)
        if host is not None:
            ray_io.end_actor(f"agent-{host}")
        try:
            ray_io.drain(command.node_id, command.deadline_s)
        except RuntimeFault:
            self._take(NodeDrainRefused(command.node_id))
            raise

    def _observe(self) -> None:
        living = ray_io.living_nodes()
        self._take(NodesObserved(tuple(living), asleep(self._node_types.read(), living)))

    def _restart_silent_agents(self) -> None:
        hosts = {node.host: node.node_id for node in self.snapshot().nodes if node.health != "draining" and not node.is_resting}
        for host, node_id in hosts.items():
            if time.monotonic() - self._heard_s.get(host, 0.0) > AGENT_SILENT_S:
                self._perform(StartNodeAgent(host, node_id))

    def _loop(self) -> None:
        pause, is_new = threading.Event(), True
        while True:
            pause.wait(self._free_after_s if is_new else OBSERVE_S)
            try:
                if is_new:
                    is_new = False
                    self._free_stranded()
                self._observe()
                self._restart_silent_agents()
            except Exception as error:  # Ray's head may be away: the last view stays, the next round tries again
                _log.warning("observe tier=%s failed: %s", self._tier, ray_io.describe_exception(error))


def _fact(kind: str, body: dict[str, Any]) -> PoolFact:
    fact: PoolFact = codec.fact_of(JOURNALLED, kind, body)
    return fact
