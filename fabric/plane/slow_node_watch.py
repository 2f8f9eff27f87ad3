"""Carries out what the policy says of nodes that are slower than their like: asks the profiler, tells the pools."""

from __future__ import annotations

import logging
import threading
import time

from fabric import ray_io
from fabric.errors import FabricError, RejectedError
from fabric.job_events import FABRIC
from fabric.plane.plane import JobPlane
from fabric.plane.slow_nodes import SlowNodes, Treatment

LOOK_S = 10.0
TIMEOUT_S = 90.0
"""Ray takes its time to drain a node."""
DEADLINE_S = 300.0
_log = logging.getLogger(__name__)


class SlowNodeWatch:
    """`start` begins to look, every 10 s."""

    def __init__(self, plane: JobPlane) -> None:
        self._plane = plane
        self._slow_nodes = SlowNodes()
        self.closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="slow-nodes", daemon=True).start()

    def look(self) -> None:
        """Raises: FabricError where profiler or pool is away, or refuses."""
        with self._plane.driver.lock:
            policy = self._plane.core.book.policy
        named = ray_io.ask(ray_io.actor("profiler").stragglers.remote(policy.slower_than))
        for treatment in self._slow_nodes.decide(policy, named, self._plane.nodes, time.time()):
            _log.info("%s node=%s flavor=%s reason=%s", treatment.kind, treatment.node.node_id[:8], treatment.node.flavor, treatment.why)
            self._treat(treatment)

    def _treat(self, treatment: Treatment) -> None:
        node = treatment.node
        if treatment.kind == "forget":
            ray_io.ask(ray_io.actor("profiler").forget_node.remote(node.node_id))
            return
        pool = ray_io.actor(f"pool-{node.tier}")
        if treatment.kind == "drain":
            try:
                ray_io.ask(pool.drain.remote(node.node_id, FABRIC, DEADLINE_S), TIMEOUT_S)
                return
            except RejectedError as error:
                if error.code != "head_node":
                    raise
        ray_io.ask(pool.cordon.remote(node.node_id, FABRIC), TIMEOUT_S)

    def _loop(self) -> None:
        while not self.closed.wait(LOOK_S):
            try:
                self.look()
            except FabricError as error:  # the next look tries again
                _log.warning("slow nodes not treated: %s", error.message)
