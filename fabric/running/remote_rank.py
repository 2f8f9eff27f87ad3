"""A rank that another host runs, as its leader sees it."""

from __future__ import annotations

import logging
from typing import Any

from fabric import ray_io
from fabric.errors import FabricError, OutOfMemory
from fabric.running.order import Ending, Order
from fabric.running.progress_file import Progress

CALL_WAIT_S = 60.0
_log = logging.getLogger(__name__)


class RemoteRank:
    """A `Rank` over the handle of its host. `node_id` is empty until it has begun."""

    def __init__(self, host: Any, order: Order) -> None:
        self._host = host
        self._order = order
        self._key = (order.attempt_name, order.rank)
        self._waiting: Any = None
        self._grace_s: float | None = None
        self.node_id = ""

    def begin(self) -> str:
        self.node_id = ray_io.ask(self._host.begin.remote(self._order), timeout_s=None)
        return self.node_id

    def poll(self) -> Ending | None:
        if self._waiting is None:
            self._waiting = self._host.wait_rank.remote(*self._key, CALL_WAIT_S)
        if self._waiting not in ray_io.done([self._waiting]):
            return None
        ref, self._waiting = self._waiting, None
        try:
            ending: Ending | None = ray_io.ask(ref)
        except OutOfMemory as error:
            return Ending("oom", error.message)
        except FabricError as error:
            return Ending("lost", f"rank {self._order.rank} is gone: {error.message}")
        return ending

    def stop(self, grace_s: float) -> None:
        if self._grace_s is None or grace_s < self._grace_s:
            self._grace_s = grace_s
            self._host.stop.remote(*self._key, grace_s)

    def progress(self) -> Progress | None:
        return None

    def keep(self) -> bool:
        return bool(ray_io.ask(self._host.keep.remote(*self._key), timeout_s=None))

    def close(self) -> None:
        try:
            ray_io.ask(self._host.close.remote(*self._key), timeout_s=CALL_WAIT_S)
        except FabricError as error:
            _log.info("close rank=%s failed: %s", self._key, error.message)
