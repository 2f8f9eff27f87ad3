"""Wakes models that sleep: a parked process of this machine adopts the model at once; Serve is asked for a replica where traffic goes on.

Lives on the gateway's event loop, but for `follow` and the beats, which have a thread each.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable

from fabric.errors import FabricError, RejectedError
from serve_apps.directory.core import BEAT_S
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.table import ReplicaAt, ServingTable
from serve_apps.gateway.routes import Address
from serve_apps.ingress.access import Access
from serve_apps.ingress.adoptions import Adoptions
from serve_apps.parking.lot import PREFIX, ParkingLot
from serve_apps.parking.rules import ModelVersion
from serve_apps.replica_settings import DirectoryPort

log = logging.getLogger(__name__)

SERVE_WAKE_S = 60.0


class IngressWaker:
    """`lot` None: no process is parked, and only Serve wakes. `wake_serve(record, timeout_s)` blocks until Serve has a replica."""

    def __init__(
        self,
        adoptions: Adoptions,
        access: Access,
        directory: DirectoryPort,
        wake_serve: Callable[[DeployRecord, float], None],
        make_lot: Callable[..., ParkingLot] | None,
    ) -> None:
        self._adoptions = adoptions
        self._access = access
        self._directory = directory
        self._wake_serve = wake_serve
        self._make_lot = make_lot
        self._lot: ParkingLot | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_new = threading.Event()

    async def start(self) -> None:
        """On the gateway's loop, once."""
        self._loop = asyncio.get_running_loop()
        if self._make_lot is not None:
            self._lot = self._make_lot(
                self._adoptions.find, on_live=self._on_live, on_gone=self._on_gone, on_replica_wanted=self._on_replica_wanted
            )
            self._lot.start()
        threading.Thread(target=self._beat, name="bridge-beats", daemon=True).start()

    async def wake(self, model: str, version: str) -> Address | None:
        """See `Waker`."""
        asked = ModelVersion(model, version)
        if self._lot is not None and self._adoptions.can_adopt(asked):
            try:
                replica = await self._lot.wake(model, version)
                return Address(replica.host, replica.port)
            except RejectedError as error:
                log.info("no parked process for model=%s version=%s: %s", model, version, error.message)
        await asyncio.to_thread(self._wake_serve, self._adoptions.record(asked), SERVE_WAKE_S)
        return None

    def follow(self, table: ServingTable) -> None:
        """From the thread that follows the table."""
        gone = self._adoptions.follow(table)
        lot, loop = self._lot, self._loop
        if lot is None or loop is None:
            return
        for model in gone:
            loop.call_soon_threadsafe(lot.drop, *model)
        for entry in table.models.values():
            for deployment, version in entry.versions.items():
                is_there = any(not replica.id.startswith(PREFIX) for replica in version.replicas)
                loop.call_soon_threadsafe(functools.partial(lot.note_replica, entry.name, deployment, is_there=is_there))

    def replace_tokens(self) -> None:
        """The tokens have changed: what was adopted hears of it."""
        if self._lot is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._lot.replace_tokens, *self._access.told)

    # -- what the lot tells ------------------------------------------------------------------------------------------------

    def _on_live(self, _model: ModelVersion, _replica: ReplicaAt) -> None:
        self._is_new.set()

    def _on_gone(self, _model: ModelVersion, replica: ReplicaAt, _reason: str) -> None:
        threading.Thread(target=self._leave, args=(replica,), daemon=True).start()

    def _on_replica_wanted(self, model: ModelVersion, reason: str) -> None:
        threading.Thread(target=self._ask_serve, args=(model, reason), daemon=True).start()

    def _leave(self, replica: ReplicaAt) -> None:
        with contextlib.suppress(FabricError):  # it falls silent anyway
            self._directory.leave(replica.id)

    def _ask_serve(self, model: ModelVersion, reason: str) -> None:
        try:
            self._wake_serve(self._adoptions.record(model), SERVE_WAKE_S)
        except FabricError as error:
            log.warning("serve does not wake model=%s version=%s reason=%s: %s", *model, reason, error)

    def _beat(self) -> None:
        while True:
            for report in self._lot.reports if self._lot is not None else ():
                with contextlib.suppress(FabricError):
                    self._directory.beat(report, self._access.mark)
            self._is_new.wait(BEAT_S)
            self._is_new.clear()
