"""Starts, finds and clears the hosts of attempts: in the bundles of a lease, or the warm ones, one per node.

Invariant: what is cleared is ended everywhere before its lease is given back, so what is granted next is free.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from fabric import ray_io
from fabric.errors import FabricError
from fabric.job import JobId
from fabric.running import placement
from fabric.running.host import Host, HostSettings
from fabric.running.launching import Attempt, Surroundings, orders, title_of
from fabric.running.order import JOB_PREFIX, Order, lease_name, runner_name
from fabric.types import Flavor

HOST_THREADS, WARM_THREADS = 8, 128
NUM_SPARES = 2
FIND_TIMEOUT_S = 30.0
_log = logging.getLogger(__name__)


class Placed(NamedTuple):
    """The node, host and order of each rank."""

    nodes: tuple[str, ...]
    hosts: Sequence[Any]
    orders: Sequence[Order]


class Hosts:
    """`avoid()` names nodes that take no new work."""

    def __init__(self, settings: HostSettings, avoid: Callable[[], Collection[str]]) -> None:
        self._settings = dataclasses.replace(settings, num_spares=0)
        self._warm_settings = dataclasses.replace(settings, num_spares=settings.num_spares or NUM_SPARES)
        self._around = Surroundings(ray_io.address(), settings.store_url, settings.scratch)
        self._avoid = avoid

    def place(self, attempt: Attempt, flavor: Flavor, is_wanted: Callable[[], bool]) -> Placed:
        """Reserve what the attempt was granted and start, or find, its hosts; waits for nodes that were asleep, as long as they are
        wanted. Raises: placement.Refused."""
        if attempt.spec.form == "ray-program":
            nodes = attempt.grant.nodes[:1]
            return Placed(nodes, [self.warm(node) for node in nodes], orders(attempt, flavor, nodes, self._around))
        lease, bundle = lease_name(attempt.spec.job_id, attempt.attempt), attempt.bundle(flavor)
        group, nodes = placement.reserve(
            lease,
            bundle,
            attempt.num_bundles,
            flavor.name,
            spread=attempt.is_spread,
            avoid=self._avoid(),
            timeout_s=placement.WAKE_TIMEOUT_S if attempt.wakes else placement.RESERVE_TIMEOUT_S,
            is_wanted=is_wanted,
        )
        told = orders(attempt, flavor, nodes, self._around)
        if attempt.spec.form == "callable" and not attempt.how.runtime_env:
            if attempt.needs_accelerator:
                told = [dataclasses.replace(o, env={**o.env, **placement.visible_devices(group, o.rank, bundle)}) for o in told]
            return Placed(nodes, [self.warm(node) for node in nodes], _led_by(ray_io.WARM_PREFIX + nodes[0], told))
        options: dict[str, Any] = {"max_concurrency": HOST_THREADS}
        if attempt.how.runtime_env:
            options["runtime_env"] = dict(attempt.how.runtime_env)
        names = [runner_name(attempt.spec.name, attempt.spec.job_id, attempt.attempt, rank) for rank in range(len(nodes))]
        titles = [title_of(attempt, flavor, rank) for rank in range(len(nodes))]
        hosts = [
            placement.start_in_bundle(Host, name, group, rank, bundle, self._settings, title, **options)
            for rank, (name, title) in enumerate(zip(names, titles, strict=True))
        ]
        return Placed(nodes, hosts, _led_by(names[0], told))

    def warm(self, node_id: str) -> Any:
        """The warm host of a node; it starts in the background where there is none."""
        return placement.start_on_node(Host, ray_io.WARM_PREFIX + node_id, node_id, self._warm_settings, max_concurrency=WARM_THREADS)

    def clear_the_way(self, job_id: JobId, attempt: int) -> None:
        """No trace of this attempt or the one before may be alive beside it."""
        for number in range(max(1, attempt - 1), attempt + 1):
            if placement.lease_exists(lease_name(job_id, number)):
                self.sweep(job_id, number)

    def sweep(self, job_id: JobId, attempt: int, nodes: Collection[str] | None = None) -> None:
        """End whatever may run of an attempt on those nodes (None: anywhere), and give its lease back."""
        where = None if nodes is None else {ray_io.WARM_PREFIX + node for node in nodes}
        for name in placement.actor_names():
            if name.startswith(ray_io.WARM_PREFIX) and (where is None or name in where):
                try:
                    ray_io.ask(ray_io.actor(name).end.remote(job_id, attempt))
                except FabricError as error:
                    _log.info("sweep host=%s failed: %s", name, error.message)
        placement.release(lease_name(job_id, attempt))

    def leaders(self) -> dict[str, Any]:
        """Attempt name -> the handle of the host that leads it. A host that does not answer in time leads nothing."""
        asked: dict[str, tuple[Any, Any]] = {}
        for name in placement.actor_names():
            if name.startswith(ray_io.WARM_PREFIX) or (name.startswith(JOB_PREFIX) and name.endswith("/0")):
                with contextlib.suppress(FabricError):  # it ended meanwhile
                    host = ray_io.actor(name)
                    asked[name] = (host, host.led.remote())
        deadline_s = time.monotonic() + FIND_TIMEOUT_S
        found: dict[str, Any] = {}
        for name, (host, answer) in asked.items():
            try:
                found.update(dict.fromkeys(ray_io.ask(answer, max(0.0, deadline_s - time.monotonic())), host))
            except FabricError as error:
                _log.warning("host=%s does not answer: %s", name, error.message)
        return found


def _led_by(leader: str, told: Sequence[Order]) -> list[Order]:
    return [dataclasses.replace(order, leader=leader) if order.rank else order for order in told]
