"""The ranks that run in this process, by attempt and number."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from fabric.running.lease_watch import LeaseWatch
from fabric.running.order import Ending, Order
from fabric.running.progress_file import Progress
from fabric.running.rank import LocalRank
from fabric.running.stores import RunStore
from fabric.running.warm import WarmPool

if TYPE_CHECKING:
    from fabric.running.ray_program import DriverRank

_POLL_S = 0.05


class LocalRanks:
    """`end` of an attempt kills what runs of it here."""

    def __init__(self, store: RunStore, warm: WarmPool, node_id: str) -> None:
        self._store = store
        self._warm = warm
        self._node_id = node_id
        self._ranks: dict[tuple[str, int], LocalRank | DriverRank] = {}

    def begin(self, order: Order, woken: threading.Event, watch: LeaseWatch) -> str:
        """Blocks until the process runs; its node."""
        local: LocalRank | DriverRank
        if order.form == "ray-program":
            from fabric.running.ray_program import DriverRank  # Ray's client of its Jobs API: a second that no other form should wait for

            local = DriverRank(order, self._store, self._node_id, woken)
        else:
            local = LocalRank(order, self._store, self._warm.run, self._node_id, woken)
            watch.add(order.attempt_name, order.leader)  # a driver holds no lease of Ray's: it ends with Ray's own job
        self._ranks[order.attempt_name, order.rank] = local
        return local.begin()

    def is_any(self) -> bool:
        return bool(self._ranks)

    def wait(self, name: str, rank: int, timeout_s: float) -> Ending | None:
        deadline_s = time.monotonic() + timeout_s
        while (ending := self.poll(name, rank)) is None and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        return ending

    def poll(self, name: str, rank: int) -> Ending | None:
        local = self._ranks.get((name, rank))
        return local.poll() if local is not None else Ending("lost", "its host does not know it")

    def stop(self, name: str, rank: int, grace_s: float) -> None:
        if (local := self._ranks.get((name, rank))) is not None:
            local.stop(grace_s)

    def progress(self, name: str, rank: int) -> Progress | None:
        local = self._ranks.get((name, rank))
        return local.progress() if local is not None else None

    def keep(self, name: str, rank: int) -> bool:
        local = self._ranks.get((name, rank))
        return local.keep() if local is not None else False

    def close(self, name: str, rank: int) -> None:
        if (local := self._ranks.pop((name, rank), None)) is not None:
            local.close()

    def end(self, name: str) -> None:
        for of, rank in list(self._ranks):
            if of == name:
                self.stop(name, rank, 0.0)


class OwnRank:
    """The `Rank` that runs in its leader's own process."""

    def __init__(self, ranks: LocalRanks, order: Order, woken: threading.Event, watch: LeaseWatch) -> None:
        self._ranks = ranks
        self._order = order
        self._woken = woken
        self._watch = watch
        self._key = (order.attempt_name, order.rank)

    def begin(self) -> str:
        return self._ranks.begin(self._order, self._woken, self._watch)

    def poll(self) -> Ending | None:
        return self._ranks.poll(*self._key)

    def stop(self, grace_s: float) -> None:
        self._ranks.stop(*self._key, grace_s)

    def progress(self) -> Progress | None:
        return self._ranks.progress(*self._key)

    def keep(self) -> bool:
        return self._ranks.keep(*self._key)

    def close(self) -> None:
        self._ranks.close(*self._key)
