"""Ray's autoscaler on machines that one owns: `provider: {type: external, module: pools.node_provider.MachinesProvider}`.

Ray's own `local` provider knows one type of node, and with its autoscaler v2 starts one machine too few. This one has a node type
for each tier, with labels, resources and priorities; starts from none when work asks for a tier by its label; lets Ray drain before a
node goes; and starts a machine by the same steps as `fabric up`. Ray only carries it: what is decided is in `fabric/machines`.

On the launching machine (`ray up`, `ray down`) it knows the head alone, and reaches all machines when the cluster ends.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from fabric.errors import FabricError
from fabric.machines import bring_up, expand, facts, local, ship
from fabric.machines.book import Book, Entry
from fabric.machines.plan import Cluster
from fabric.machines.ssh import Remote
from pools.flavors import load_catalogue

log = logging.getLogger(__name__)

TEND_S = 10.0
ABANDONED_S = 200.0
"""A launch that has not said what came of a start for so long has died: the provider sees to the machine itself."""
UNREACHABLE_S = 300.0
"""How long a machine is tried that does not answer: it may be booting."""
RETRY_S = 5.0


class MachinesProvider(NodeProvider):  # type: ignore[misc]  # Ray has no types
    """Thread-safe: the book locks itself, and each machine is worked on by one thread."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._cluster = expand.provider_cluster(provider_config, cluster_name)
        self._is_on_head = self._cluster.provider.on_head
        self._book = Book() if self._is_on_head else Book(local.folder(cluster_name) / "machines.json")
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="machines")
        self._working: set[str] = set()
        self._lock = threading.Lock()
        if self._is_on_head:
            threading.Thread(target=self._tend, name="machines-tend", daemon=True).start()

    # What there is

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        return [name for name, tags in self._instances().items() if all(tags.get(key) == value for key, value in tag_filters.items())]

    def nodes_for_teardown(self, tag_filters: dict[str, str]) -> list[str]:
        """From the launching machine: every machine of the file, since only the head knows which of them run."""
        if self._is_on_head:
            return self.non_terminated_nodes(tag_filters)
        gone = {entry.host for entry in self._book.entries().values() if entry.state == "failed"}
        kinds = {host: NODE_KIND_HEAD if host == self._cluster.head else NODE_KIND_WORKER for host in self._cluster.all_machines()}
        wanted = tag_filters.get(TAG_RAY_NODE_KIND)
        return [self._name_of(host) for host, kind in kinds.items() if host not in gone and wanted in (None, kind)]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._instances()

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._instances().get(node_id, {})

    def internal_ip(self, node_id: str) -> str:
        return self._cluster.spec(self._host_of(node_id), node_id, "").address

    def external_ip(self, node_id: str) -> str:
        return self._host_of(node_id)

    # What is changed

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self._book.tag(self._host_of(node_id), tags)

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        self.create_node_with_resources_and_labels(node_config, tags, count, {}, {})

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        """Take machines and start them; returns at once. Raises: NodeLaunchException where none is free."""
        if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            self._book.clear()
            self._book.take(self._cluster.head_type, [self._cluster.head], 1, tags)
            return
        kind = self._cluster.node_types[tags[TAG_RAY_USER_NODE_TYPE]]
        taken = self._book.take(kind.name, kind.machines, count, tags)
        for entry in taken:
            self._work_on(entry.host, functools.partial(self._start, entry))
        if len(taken) < count:
            resting = [f"{entry.host}: {entry.reason}" for entry in self._book.entries().values() if entry.reason and not entry.is_in_use]
            raise NodeLaunchException("MachinesTaken", f"{len(taken)} of {count} {kind.name} are free; {'; '.join(resting)}", None)

    def terminate_node(self, node_id: str) -> None:
        host = self._host_of(node_id)
        if not self._is_on_head:
            self._end_for_good(host)
            return
        entry = self._book.entries().get(host)
        if entry is not None and entry.instance_id == node_id:
            self._book.settle(host, "stopping")
            self._work_on(host, lambda: self._stop(entry))

    def terminate_nodes(self, node_ids: list[str]) -> None:
        list(self._pool.map(self.terminate_node, node_ids))

    # How Ray learns the rest of a cluster

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """`ray up` of a file as it stands: everything that it leaves out is filled in, the token made, the shipment packed."""
        return local.bootstrap(cluster_config, load_catalogue({}))

    def prepare_for_head_node(self, cluster_config: dict[str, Any]) -> dict[str, Any]:
        return expand.for_head(cluster_config)

    # The work

    def _start(self, entry: Entry) -> None:
        """Bring a machine up, however long it takes to answer; failing, it rests and another is taken."""
        remote = Remote(entry.host, self._cluster.access)
        deadline_s = time.monotonic() + UNREACHABLE_S
        while True:
            try:
                self._bring_up(remote, entry)
            except FabricError as error:
                if error.code in ("unreachable", "no_ssh", "ssh_closed", "ssh_lost") and time.monotonic() < deadline_s:
                    time.sleep(RETRY_S)
                    continue
                log.warning("machine %s does not start: %s [%s] %s", entry.host, error.message, error.code, error.context.get("log", ""))
                self._book.settle(entry.host, "failed", error.message)
                return
            log.info("machine %s runs as %s", entry.host, entry.instance_id)
            self._book.settle(entry.host, "running")
            return

    def _bring_up(self, remote: Remote, entry: Entry) -> None:
        cluster, shipment = self._cluster, ship.opened(Path(ship.THERE).expanduser())
        seen = facts.look(remote, cluster.python, {})
        bring_up.make_ready(remote, seen, shipment, cluster.provider.environment, cluster.provider.python, lambda _: None)
        bring_up.start(remote, cluster.spec(entry.host, entry.instance_id, shipment.release), mode="fresh")

    def _stop(self, entry: Entry) -> None:
        try:
            bring_up.stop(Remote(entry.host, self._cluster.access), self._cluster.environment, self.cluster_name)
        except FabricError as error:
            log.warning("machine %s cannot be told to stop: %s", entry.host, error.message)  # its next start ends what runs there
        self._book.forget(entry.host)

    def _end_for_good(self, host: str) -> None:
        try:
            bring_up.stop(Remote(host, self._cluster.access), self._cluster.environment, self.cluster_name, is_final=True)
        except FabricError as error:
            log.warning("machine %s cannot be told to stop: %s", host, error.message)
        self._book.forget(host)
        self._book.take(self._cluster.all_machines()[host], [host], 1, {})
        self._book.settle(host, "failed", "torn down")

    def _tend(self) -> None:
        """Take over starts that nobody finishes: the launch that had begun them is gone."""
        while True:
            time.sleep(TEND_S)
            for entry in self._book.entries().values():
                if entry.state == "starting" and entry.host != self._cluster.head and time.time() - entry.since_s > ABANDONED_S:
                    self._work_on(entry.host, functools.partial(self._start, entry))

    def _work_on(self, host: str, work: Callable[[], None]) -> None:
        """One thread for each machine at a time."""
        with self._lock:
            if host in self._working:
                return
            self._working.add(host)

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._working.discard(host)

        self._pool.submit(run)

    def _instances(self) -> dict[str, dict[str, str]]:
        """Instance -> tags, the head among them. On the head, its own entry stands without a book: it runs, or nobody would ask."""
        found = {entry.instance_id: dict(entry.tags) for entry in self._book.entries().values() if entry.is_in_use and entry.tags}
        if self._is_on_head:
            found[self._cluster.head_instance()] = head_tags(self._cluster)
        else:
            found = {self._cluster.head_instance(): tags for name, tags in found.items() if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD}
        return found

    def _name_of(self, host: str) -> str:
        return self._cluster.head_instance() if host == self._cluster.head else f"{host}-0"

    def _host_of(self, node_id: str) -> str:
        host, _, _ = node_id.rpartition("-")
        return host


def head_tags(cluster: Cluster) -> dict[str, str]:
    """As Ray's launcher gives them."""
    return {
        TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
        TAG_RAY_USER_NODE_TYPE: cluster.head_type,
        TAG_RAY_NODE_NAME: f"ray-{cluster.name}-head",
        TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
    }


__all__ = ["MachinesProvider"]
