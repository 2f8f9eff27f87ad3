"""Launches a cluster on machines that one owns. All machines at once; one that fails is named, the others come up; doing it again is safe.

every machine   looked at -> sent and installed what is missing
the head        its autoscaler's file and record written -> started -> the fabric's actors
the others      started as soon as the head can be joined
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.cluster.file import ClusterFile
from fabric.cluster.look import MOST_AT_ONCE, look_at
from fabric.cluster.progress import Progress
from fabric.errors import FabricError, RejectedError, RuntimeFault
from fabric.machines import bring_up, expand, local
from fabric.machines.checks import is_running
from fabric.machines.command import BOOTSTRAP_CONFIG
from fabric.machines.plan import HEAD_KEY, Cluster, read_cluster
from fabric.machines.ship import Shipment
from fabric.machines.ssh import Remote
from fabric.types import Flavor

HEAD_TIMEOUT_S = 1900.0
ACTORS_TIMEOUT_S = 180.0
WORKERS_FIRST_S = 10.0
"""How long the fabric's actors wait for the other machines: they begin with whole tiers, and a slow machine does not keep them."""
_TAG_KIND, _TAG_TYPE, _TAG_STATUS, _TAG_NAME = "ray-node-type", "ray-user-node-type", "ray-node-status", "ray-node-name"
"""As Ray names them; its module of them imports Ray. A test compares."""


@dataclass(slots=True)
class Launched:
    """What came of a launch. `failed`: machine -> why; `new`: machines that were not running before."""

    cluster: Cluster
    up: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    failed: dict[str, FabricError] = field(default_factory=dict)


def launch(
    file: ClusterFile, catalogue: Mapping[str, Flavor], write: Callable[[str], None], *, restart: bool = False, actors: bool = True
) -> Launched:
    """Bring the cluster up and say what came of each machine. `restart`: a node that runs with other settings is started anew.

    Raises: RejectedError (`launch_running`); ConfigError; RuntimeFault where the head itself fails.
    """
    assert file.cluster is not None
    with local.launching(file.name):
        config = expand.complete(file.config, catalogue)
        cluster = read_cluster(config)
        shipment = local.pack(cluster)
        return _Launch(cluster, config, shipment, catalogue, Progress(cluster.first_machines(), write), restart, actors).run()


class _Launch:
    def __init__(
        self,
        cluster: Cluster,
        config: Mapping[str, Any],
        shipment: Shipment,
        catalogue: Mapping[str, Flavor],
        progress: Progress,
        restart: bool,
        actors: bool,
    ) -> None:
        self._cluster, self._config, self._shipment, self._catalogue = cluster, config, shipment, catalogue
        self._progress, self._mode, self._with_actors = progress, "restart" if restart else "keep", actors
        self._result = Launched(cluster)
        self._head_open = threading.Event()
        self._head_failed = threading.Event()
        self._others_done = threading.Event()
        self._pending = {host for host in cluster.first_machines() if host != cluster.head}
        if not self._pending:
            self._others_done.set()
        self._instances: dict[str, str] = {}

    def run(self) -> Launched:
        hosts = self._cluster.first_machines()
        with ThreadPoolExecutor(max_workers=min(len(hosts), MOST_AT_ONCE), thread_name_prefix="launch") as pool:
            list(pool.map(self._machine, hosts))
        if not self._head_failed.is_set():
            self._settle()
        if (error := self._result.failed.get(self._cluster.head)) is not None:
            raise error
        return self._result

    def _machine(self, host: str) -> None:
        remote = Remote(host, self._cluster.access)
        is_head = host == self._cluster.head
        try:
            self._prepare(host, remote)
            started = self._start_head(remote) if is_head else self._start_worker(host, remote)
        except FabricError as error:
            self._result.failed[host] = error
            self._progress.failed(host, error)
            if is_head and not self._head_open.is_set():
                self._head_failed.set()
                self._head_open.set()
            self._count(host)
            return
        self._count(host)
        self._result.up.append(host)
        if started["is_new"]:
            self._result.new.append(host)

    def _count(self, host: str) -> None:
        self._pending.discard(host)
        if not self._pending:
            self._others_done.set()

    def _prepare(self, host: str, remote: Remote) -> None:
        seen = look_at(self._cluster, host, self._shipment.release, self._catalogue)
        if (problem := seen.failing) is not None:
            raise RuntimeFault(f"{problem.name}: {problem.detail}", code="machine_unfit", hint=problem.cure, check=problem.name)
        assert seen.facts is not None
        self._progress.done(host, "looked at")
        for check in seen.checks:
            if check.state == "warn":
                self._progress.line(host, f"warning  {check.name}: {check.detail}; cure: {check.cure}")
        if not is_running(seen.facts, self._cluster.name) or self._mode == "restart":
            provider = self._cluster.provider
            bring_up.make_ready(
                remote, seen.facts, self._shipment, provider.environment, provider.python, lambda what: self._progress.done(host, what)
            )

    def _start_head(self, remote: Remote) -> dict[str, Any]:
        host = self._cluster.head
        self._write_head_files(remote)
        workers = {name: kind for name, kind in self._cluster.first_machines().items() if name != host}
        wanted = {name: [kind, worker_tags(self._cluster.name, kind)] for name, kind in workers.items()}
        self._instances = bring_up.ask(remote, self._cluster.environment, ["claim"], stdin=json.dumps(wanted))["instances"]
        spec = self._cluster.spec(host, self._cluster.head_instance(), self._shipment.release)
        started = bring_up.start(remote, spec, mode=self._mode, until="gcs")
        self._head_open.set()
        bring_up.start(remote, spec, until="up")
        self._progress.done(host, "head started" if started["is_new"] else "head runs already")
        if self._with_actors:
            self._others_done.wait(WORKERS_FIRST_S)
            self._start_actors(remote, spec.head)
        return started

    def _start_worker(self, host: str, remote: Remote) -> dict[str, Any]:
        if not self._head_open.wait(HEAD_TIMEOUT_S) or self._head_failed.is_set():
            raise RejectedError("not started, since the head failed", code="head_failed", hint="mend the head, and run the same again")
        spec = self._cluster.spec(host, self._instances[host], self._shipment.release)
        started = bring_up.start(remote, spec, mode=self._mode)
        self._progress.done(host, "joined" if started["is_new"] else "runs already")
        return started

    def _write_head_files(self, remote: Remote) -> None:
        """What `ray up` would put there too: the file for the autoscaler, and the key to the machines."""
        files = {BOOTSTRAP_CONFIG: expand.dumps(expand.for_head(self._config)).encode()}
        if self._cluster.access.private_key:
            files[HEAD_KEY] = Path(self._cluster.access.private_key).expanduser().read_bytes()
        for there, content in files.items():
            done = remote.run(f"umask 077; mkdir -p $(dirname {there}); cat > {there}.new && mv {there}.new {there}", stdin=content)
            if done.status:
                raise RuntimeFault(f"{there} cannot be written there", code="ship_failed", hint="is its disk full?", log=done.last_lines())

    def _start_actors(self, remote: Remote, head: str) -> None:
        done = remote.run(f"~/.tierfabric/run fabric up --address {head}:{self._cluster.ports().gcs}", timeout_s=ACTORS_TIMEOUT_S)
        if done.status:
            raise RuntimeFault("the fabric's actors do not start", code="actors_failed", hint="`fabric doctor FILE`", log=done.last_lines())
        self._progress.done(self._cluster.head, "fabric started")

    def _settle(self) -> None:
        """Tell the head's record what came of each start, so that its autoscaler tries another machine for one that failed."""
        outcomes = {host: ["running", ""] for host in self._result.up if host != self._cluster.head}
        outcomes |= {host: ["failed", error.message] for host, error in self._result.failed.items()}
        if outcomes:
            head = Remote(self._cluster.head, self._cluster.access)
            bring_up.ask(head, self._cluster.environment, ["settle"], stdin=json.dumps(outcomes))


def worker_tags(cluster_name: str, node_type: str) -> dict[str, str]:
    """The tags of a worker that is started apart from the autoscaler, which then counts it as its own."""
    return {_TAG_KIND: "worker", _TAG_TYPE: node_type, _TAG_STATUS: "up-to-date", _TAG_NAME: f"ray-{cluster_name}-worker"}
