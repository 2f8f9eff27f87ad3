"""How runners on any node reach the scheduler, and how the scheduler sees the nodes: over Ray, by actor name."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from fabric import ray_io
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.job_events import NodesSeen, RunFact
from fabric.plane.views import leases_of
from fabric.scheduler.core import Core
from fabric.types import Lease, Node
from profiler.efficiency import TaskUse

ACTOR = "scheduler"
WATCH_S = 1.0
DISTRUST_S = 600.0
"""How long a type of nodes does not count as room after one of them did not come when it was asked for."""
REPORT_TIMEOUT_S = 20.0
_log = logging.getLogger(__name__)


def report(epoch: int, facts: Sequence[RunFact]) -> None:
    """See `fabric.ports.Report`. Raises: FabricError where the scheduler is away or refuses."""
    ray_io.ask(ray_io.actor(ACTOR).report.remote(epoch, list(facts)), REPORT_TIMEOUT_S)


def task_uses() -> list[TaskUse]:
    """What tasks asked for and used, of the runs that the profiler remembers. Raises: FabricError where it is away."""
    uses: list[TaskUse] = ray_io.ask(ray_io.actor("profiler").task_uses.remote(), REPORT_TIMEOUT_S)
    return uses


class NodeWatch:
    """Tells the core every second what nodes there are and what others than jobs use of them.

    A tier's `task_share` counts as used by others, and so does what a pool has booked for served models. Ray shows what jobs hold
    as used, a little late on both ends: what was granted in the last moments is never counted twice.
    """

    def __init__(
        self,
        config: FabricConfig,
        core: Core,
        lock: threading.RLock,
        tell: Callable[[NodesSeen], None],
        on_look: Callable[[Sequence[Node]], None],
    ) -> None:
        self._tiers = config.tiers
        self._core = core
        self._lock = lock
        self._tell = tell
        self._on_look = on_look
        self._last: tuple[Node, ...] = ()
        self._distrusted: dict[str, float] = {}
        self.closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="nodes", daemon=True).start()

    def distrust(self, node_types: Collection[str]) -> None:
        """These were asked for, and did not come."""
        self._distrusted |= dict.fromkeys(node_types, time.monotonic() + DISTRUST_S)

    def _may_wake(self, asleep: Iterable[Node]) -> Iterable[Node]:
        now_s = time.monotonic()
        return (node for node in asleep if self._distrusted.get(node.node_type, 0.0) < now_s)

    def look(self, timeout_s: float = ray_io.CALL_TIMEOUT_S) -> tuple[Node, ...]:
        """All nodes as the pools see them, their use by others, health included. Raises: FabricError."""
        nodes: list[Node] = []
        for tier in self._tiers:
            snapshot = ray_io.ask(ray_io.actor(f"pool-{tier.name}").snapshot.remote(), timeout_s)
            for node in (*snapshot.nodes, *self._may_wake(snapshot.asleep)):
                used = with_claims(node, _shared(node, tier.task_share), snapshot.leases)
                nodes.append(dataclasses.replace(node, usage=None, used=used))
        return tuple(nodes)

    def tell(self, timeout_s: float = ray_io.CALL_TIMEOUT_S) -> None:
        nodes = self.look(timeout_s)
        self._on_look(nodes)
        with self._lock:
            held = _held_by_node(self._core)
        seen = tuple(dataclasses.replace(node, used=_by_others(node, held.get(node.node_id, {}))) for node in nodes)
        if seen != self._last:
            self._last = seen
            self._tell(NodesSeen(seen))

    def _loop(self) -> None:
        while not self.closed.wait(WATCH_S):
            try:
                self.tell()
            except FabricError as error:  # the last view stays; the next round looks again
                _log.warning("nodes not seen: %s", error.message)


def twin_flavors(nodes: Sequence[Node], before: Collection[str] = ()) -> frozenset[str]:
    """The flavors whose nodes are all twins; of a flavor without nodes, what was so `before`."""
    real = {node.flavor for node in nodes if not node.is_twin}
    seen = {node.flavor for node in nodes}
    return frozenset((seen - real) | (set(before) - seen))


def closed_nodes(nodes: Sequence[Node]) -> frozenset[str]:
    """The ids of those that take no new work."""
    return frozenset(node.node_id for node in nodes if node.health not in ("ready", "asleep"))


def with_claims(node: Node, used: Mapping[str, float], leases: Iterable[Lease]) -> Mapping[str, float]:
    """A node's use with what is booked there on top, up to all that it has."""
    mine = [lease for lease in leases if lease.node_id == node.node_id]
    if not mine:
        return used
    asked = {name: sum(lease.demand.get(name, 0.0) for lease in mine) for name in used}
    return {name: min(node.total.get(name, 0.0), amount + asked[name]) for name, amount in used.items()}


def _shared(node: Node, share: float) -> Mapping[str, float]:
    kept = {name: amount * share for name, amount in node.total.items()} if share else {}
    return {name: max(node.used.get(name, 0.0), kept.get(name, 0.0)) for name in node.total}


def _held_by_node(core: Core) -> dict[str, dict[str, float]]:
    held: dict[str, dict[str, float]] = {}
    for lease in leases_of(core):
        mine = held.setdefault(lease.node_id, {})
        for name, amount in lease.demand.items():
            mine[name] = mine.get(name, 0.0) + amount
    return held


def _by_others(node: Node, held: Mapping[str, float]) -> Mapping[str, float]:
    return {name: round(max(0.0, used - held.get(name, 0.0)), 3) for name, used in node.used.items()}
