"""The scheduler actor: one per fabric, named `scheduler`, beside its journal on the head. Brings the job plane up and keeps it.

Started anew, it restores itself from the journal, compares with what is alive, and goes on under a new epoch.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from fabric.api.address import ADDRESS_FILE, TOKEN_FILE
from fabric.api.app import create_app
from fabric.api.serve import ApiServer
from fabric.api.tokens import Tokens, ensure_token_file
from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.job_events import RunFact
from fabric.journal.epochs import next_epoch
from fabric.metering import meter
from fabric.plane.driver import STREAM, WallClock
from fabric.plane.models import RayModels, served_numbers
from fabric.plane.nodes import RayNodes
from fabric.plane.plane import JobPlane
from fabric.plane.reporting import ACTOR, NodeWatch, closed_nodes, report, task_uses, twin_flavors
from fabric.plane.restore import reconcile, restore, restore_families, save_snapshot
from fabric.plane.samples import plane_samples
from fabric.plane.slow_node_watch import SlowNodeWatch
from fabric.plane.what_if import WhatIfs
from fabric.policy import Policy
from fabric.registry.opened import open_registry
from fabric.running.host import HostSettings
from fabric.running.port import RayRunners
from fabric.scheduler.core import Core
from fabric.shipping.keeper import Keeper
from fabric.shipping.opened import open_journal
from fabric.types import Flavor, Lease, Node

SNAPSHOT_S = 60.0
SNAPSHOT_FACTS = 5_000
NODES_WAIT_S, FIRST_LOOK_S = 0.2, 2.0
WARM_AFTER_S = 3.0
"""After a restart the jobs that waited come first: hosts that are to be ready for later ones would share the processors with theirs."""
RESTART_S = 5.0
"""What a start costs where no policy says so: a program that comes from a host with children ready takes less."""
SWITCH_S = 0.0005
"""Of Python's threads. With the 5 ms that Python takes by itself a turn of the core, which must let the API's threads finish what they
are at before it gets the interpreter back, waits many times longer than it works."""
StartConsole = Callable[[FabricConfig, Mapping[str, Flavor]], None]
_log = logging.getLogger(__name__)


class SchedulerShell:
    """Undecorated actor class. `free_stranded` sees to the fabric's other actors that a restart of Ray's head has lost;
    `start_console(config, catalogue)` starts the console's actor."""

    def __init__(
        self,
        config: FabricConfig,
        catalogue: Mapping[str, Flavor],
        free_stranded: Callable[[], Collection[str]],
        start_console: StartConsole,
    ) -> None:
        sys.setswitchinterval(SWITCH_S)
        self._free_stranded = free_stranded
        self._journal = open_journal(config)
        self._closed: Collection[str] = frozenset()
        epoch = next_epoch(self._journal)
        self._keeper = Keeper(config, epoch)
        self._keeper.start()
        restored = restore(self._journal, Core(catalogue, Policy(restart_s=RESTART_S)))
        store = ArtefactStore(config.storage)
        clock = WallClock(restored.last_s)
        self._plane = JobPlane(restored.core, self._journal, store, clock, epoch, asides=restored.asides, task_uses=task_uses)
        restore_families(self._journal, self._plane.families)
        settings = HostSettings(report, config.storage, str(config.state_path / "scratch"), num_spares=1)
        self._watch = NodeWatch(config, restored.core, self._plane.driver.lock, self._plane.driver.tell_and_wait, self._note_nodes)
        self._runners = RayRunners(
            settings,
            catalogue,
            epoch,
            local_report=self._plane.report,
            avoid=lambda: self._closed,
            on_asleep=self._watch.distrust,
        )
        living = self._runners.living()
        self._plane.start(self._runners)
        self._see_nodes()
        threading.Thread(
            target=self._warm_up, args=(0.0 if self._runners.is_new_cluster else WARM_AFTER_S,), name="warm-up", daemon=True
        ).start()
        self._plane.estimate_all()
        reconcile(self._plane, living, takeover_s=self._runners.takeover_s if self._runners.is_new_cluster else 0.0)
        self._watch.start()
        SlowNodeWatch(self._plane).start()
        meter(partial(plane_samples, self._plane), ACTOR)
        threading.Thread(target=self._snapshot_loop, name="snapshot", daemon=True).start()
        tokens = Tokens(self._journal)
        ensure_token_file(config.state_path / TOKEN_FILE, tokens, config.user)
        models = RayModels()
        registry = open_registry(config, partial(served_numbers, models))
        self._what_ifs = WhatIfs(self._plane, config.database_url, now_s=clock.now_s)
        app = create_app(
            self._plane,
            tokens,
            models=models,
            nodes=RayNodes(config.tier_names),
            registry=registry,
            what_ifs=self._what_ifs,
            now_s=clock.now_s,
        )
        self._api = ApiServer(app, host=config.api.host, port=config.api.port, address_file=config.state_path / ADDRESS_FILE)
        self.url = self._api.start()
        if config.console.enabled:
            try:
                start_console(config, catalogue)
            except Exception:  # nothing that is only for looking may keep jobs from running
                _log.exception("the console was not started")

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return ACTOR

    def ping(self) -> str:
        return ACTOR

    def address(self) -> str:
        return self.url

    def leases(self) -> list[Lease]:
        return self._plane.leases()

    def shipping(self) -> Mapping[str, Any] | None:
        """How far the journal is kept in the store, too, see `Keeper.status`."""
        return self._keeper.status()

    def report(self, epoch: int, facts: Sequence[RunFact]) -> None:
        self._plane.report(epoch, facts)

    def _note_nodes(self, nodes: Sequence[Node]) -> None:
        """At every look, before the core decides by it."""
        self._closed = closed_nodes(nodes)
        self._plane.nodes = {node.node_id: node for node in nodes}
        self._plane.shelf.twins = twin_flavors(nodes, self._plane.shelf.twins)

    def _see_nodes(self) -> None:
        """The first look: nothing can be decided before it."""
        pause = threading.Event()
        while True:
            try:
                if freed := self._free_stranded():
                    _log.warning("made anew, as their node is gone: %s", ", ".join(freed))
                self._watch.tell(timeout_s=FIRST_LOOK_S)
                return
            except FabricError as error:  # the pools start beside this actor
                _log.info("waiting for the pools: %s", error.message)
                pause.wait(NODES_WAIT_S)

    def _warm_up(self, after_s: float) -> None:
        threading.Event().wait(after_s)
        try:
            self._runners.warm_up()
        except FabricError as error:  # whatever is launched starts its own, and the next snapshot tries again
            _log.info("warm hosts not started: %s", error.message)

    def _snapshot_loop(self) -> None:
        pause, last_seq = threading.Event(), 0
        while not pause.wait(SNAPSHOT_S):
            try:
                self._runners.warm_up()
                seq = self._journal.last_seq(STREAM)
                if seq - last_seq >= SNAPSHOT_FACTS:
                    save_snapshot(self._journal, self._plane)
                    last_seq = seq
            except FabricError as error:
                _log.warning("snapshot failed: %s", error.message)
