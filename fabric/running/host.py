"""The actor that runs ranks on a node: in a lease's bundle (one rank of a program), or warm beside all leases (calls).

The host of rank 0 leads its attempt: it starts the other ranks, waits for all, reports. Invariants: an attempt whose
lease Ray no longer knows, or has not confirmed for `lease_s`, is ended here, so it cannot live beside a later one;
facts are kept until the scheduler has taken them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric import ray_io
from fabric.errors import FabricError, OutOfMemory, RejectedError
from fabric.job import Outcome
from fabric.ports import Report
from fabric.running import checkpoints, placement
from fabric.running.gang import Gang, Rank
from fabric.running.order import Ending, Order, attempt_name, lease_name
from fabric.running.outbox import Outbox
from fabric.running.progress_file import Progress
from fabric.running.rank import LocalRank
from fabric.running.stores import RunStore
from fabric.running.warm import WarmPool

if TYPE_CHECKING:
    from fabric.running.ray_program import DriverRank

RENEW_S = 5.0
FORGET_S = 10.0
"""How long an attempt that is over stays known, for a scheduler that was away when it ended."""
CALL_WAIT_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`report` reaches the scheduler from any node. `lease_s`: how long an attempt goes on while Ray's head is away;
    less than the 60 s after which Ray's own workers give up. `scratch` is a directory of every node."""

    report: Report
    store_url: str
    scratch: str
    lease_s: float = 45.0
    num_spares: int = 0


class Host:
    """Undecorated actor class; threaded, so that it answers while it leads."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._store = RunStore(settings.store_url, Path(settings.scratch))
        self._warm = WarmPool(settings.num_spares)
        self._node_id, self._ip = placement.this_node()
        self._outbox = Outbox(settings.report, 0, self._on_refused)
        self._lock = threading.Lock()
        self._gangs: dict[str, Gang] = {}
        self._ranks: dict[tuple[str, int], LocalRank | DriverRank] = {}
        self._renewed_s: dict[str, float] = {}
        self._over: dict[str, threading.Event] = {}
        self._early: dict[str, Outcome | None] = {}
        for target in (self._renew, self._guard):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def ping(self) -> str:
        return self._node_id

    # ---- leading an attempt

    def lead(self, order: Order, peers: Sequence[tuple[Any, Order]]) -> bool:
        """Run an attempt to its end, this host's rank 0 and the peers' others; True when the scheduler knows how it ended
        (or does not want to). Idempotent: led once."""
        name = order.attempt_name
        with self._lock:
            self._see_epoch(order.epoch)
            if name in self._over:
                is_led = False
            else:
                is_led, self._over[name] = True, threading.Event()
        if not is_led:
            return self._await(name, None)
        try:
            self._lead(order, peers)
        finally:
            self._over[name].set()
            with self._lock:
                self._gangs.pop(name, None)
            threading.Timer(FORGET_S, self._forget, (name,)).start()
        return True

    def await_led(self, epoch: int, job_id: str, attempt: int) -> bool:
        """For a scheduler that started anew: True when the attempt is over and reported, False to ask again."""
        with self._lock:
            self._see_epoch(epoch)
        return self._await(attempt_name(job_id, attempt), CALL_WAIT_S)

    def led(self) -> list[str]:
        """The names of the attempts that are led here."""
        with self._lock:
            return [name for name, over in self._over.items() if not over.is_set()]

    def preempt(self, epoch: int, job_id: str, attempt: int) -> bool:
        """Whether the attempt is led here, or will be."""
        return self._tell(epoch, job_id, attempt, None)

    def kill(self, epoch: int, job_id: str, attempt: int, outcome: Outcome) -> bool:
        return self._tell(epoch, job_id, attempt, outcome)

    def end(self, job_id: str, attempt: int) -> None:
        """End everything of an attempt here and say nothing: a later one is to start."""
        self._end_attempt(attempt_name(job_id, attempt))

    # ---- ranks of attempts that are led elsewhere

    def begin(self, order: Order) -> str:
        return self._begin(order, threading.Event())

    def wait_rank(self, name: str, rank: int, timeout_s: float) -> Ending | None:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            local = self._ranks.get((name, rank))
            if local is None:
                return Ending("lost", "its host does not know it")
            if (ending := local.poll()) is not None:
                return ending
            time.sleep(0.05)
        return None

    def stop(self, name: str, rank: int, grace_s: float) -> None:
        if (local := self._ranks.get((name, rank))) is not None:
            local.stop(grace_s)

    def keep(self, name: str, rank: int) -> bool:
        local = self._ranks.get((name, rank))
        return local.keep() if local is not None else False

    def close(self, name: str, rank: int) -> None:
        if (local := self._ranks.pop((name, rank), None)) is not None:
            local.close()

    # ---- inside

    def _lead(self, order: Order, peers: Sequence[tuple[Any, Order]]) -> None:
        shared = {**order.env, "MASTER_ADDR": self._ip, "MASTER_PORT": str(placement.free_port())}
        order = dataclasses.replace(order, env=shared)
        woken = threading.Event()
        ranks: list[Rank] = [_OwnRank(self, order, woken)]
        for host, theirs in peers:
            address = {name: shared[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
            ranks.append(_RemoteRank(host, dataclasses.replace(theirs, env={**theirs.env, **address})))
        gang = Gang(order, ranks, self._outbox.put, self._marker(order), woken, lambda: self._wait_for_lost(ranks))
        with self._lock:
            self._gangs[order.attempt_name] = gang
            if order.attempt_name in self._early:
                _pass_on(gang, self._early.pop(order.attempt_name))
        ticket = gang.run()
        if ticket is not None:
            self._outbox.wait(ticket)

    def _marker(self, order: Order) -> Any:
        return lambda ranks, done: checkpoints.mark_kept(self._store, order.job_id, order.attempt, ranks, done)

    def _wait_for_lost(self, ranks: Sequence[Rank]) -> None:
        nodes = {rank.node_id for rank in ranks if isinstance(rank, _RemoteRank) and rank.node_id}
        placement.wait_until_dead(nodes, self._settings.lease_s)

    def _begin(self, order: Order, woken: threading.Event) -> str:
        local: LocalRank | DriverRank
        if order.form == "ray-program":
            from fabric.running.ray_program import DriverRank  # Ray's client of its Jobs API: a second that no other form should wait for

            local = DriverRank(order, self._store, self._node_id, woken)
        else:
            local = LocalRank(order, self._store, self._warm.run, self._node_id, woken)
        with self._lock:
            self._see_epoch(order.epoch)
            self._ranks[order.attempt_name, order.rank] = local
            if order.form != "ray-program":  # which holds no lease of Ray's: Ray's Jobs API ends it with Ray
                self._renewed_s[order.attempt_name] = time.monotonic()
        return local.begin()

    def _tell(self, epoch: int, job_id: str, attempt: int, outcome: Outcome | None) -> bool:
        with self._lock:
            self._see_epoch(epoch)
            name = attempt_name(job_id, attempt)
            gang, over = self._gangs.get(name), self._over.get(name)
            if gang is None and over is None:  # it overtook `lead`, which waits for it
                self._early[name] = outcome
        if gang is not None:
            _pass_on(gang, outcome)
        return over is None or not over.is_set()

    def _see_epoch(self, epoch: int) -> None:
        """Raises: RejectedError for one that is over."""
        if epoch < self._outbox.epoch:
            raise RejectedError(f"epoch {epoch} is over: {self._outbox.epoch} was seen", code="stale_epoch")
        self._outbox.epoch = epoch

    def _await(self, name: str, timeout_s: float | None) -> bool:
        over = self._over.get(name)
        return over is None or over.wait(timeout_s)

    def _forget(self, name: str) -> None:
        """Some time after the end: give the lease back, in case no scheduler was there to do it."""
        with self._lock:
            self._over.pop(name, None)
            self._renewed_s.pop(name, None)
        placement.release(f"lease-{name}")

    def _on_refused(self, job_id: str, attempt: int) -> None:
        self._end_attempt(attempt_name(job_id, attempt))

    def _end_attempt(self, name: str) -> None:
        with self._lock:
            gang = self._gangs.get(name)
            ranks = [local for (of, _), local in self._ranks.items() if of == name]
        if gang is not None:
            gang.abandon()
        for local in ranks:
            local.stop(0.0)

    def _renew(self) -> None:
        """Ask Ray's head, which is where a later attempt would be granted, whether the leases still stand."""
        while True:
            time.sleep(RENEW_S)
            for name in self._hosted():
                asked_s = time.monotonic()
                try:
                    is_held = placement.lease_exists(f"lease-{name}")
                except Exception as error:  # Ray's head is away: the guard counts
                    _log.info("lease not renewed attempt=%s because=%s", name, ray_io.describe_exception(error))
                    continue
                if is_held:
                    self._renewed_s[name] = asked_s
                else:
                    _log.warning("lease gone attempt=%s", name)
                    self._end_attempt(name)

    def _guard(self) -> None:
        while True:
            time.sleep(1.0)
            for name in self._hosted():
                if time.monotonic() - self._renewed_s.get(name, time.monotonic()) > self._settings.lease_s:
                    _log.warning("lease not confirmed for %.0f s attempt=%s", self._settings.lease_s, name)
                    self._end_attempt(name)

    def _hosted(self) -> set[str]:
        with self._lock:
            return {name for name, _ in self._ranks if name in self._renewed_s}


def _pass_on(gang: Gang, outcome: Outcome | None) -> None:
    if outcome is None:
        gang.preempt()
    else:
        gang.kill(outcome)


class _OwnRank:
    """Rank 0, which runs in the leader's own process."""

    def __init__(self, host: Host, order: Order, woken: threading.Event) -> None:
        self._host = host
        self._order = order
        self._woken = woken
        self._key = (order.attempt_name, order.rank)

    def begin(self) -> str:
        return self._host._begin(self._order, self._woken)

    def poll(self) -> Ending | None:
        return self._host._ranks[self._key].poll()

    def stop(self, grace_s: float) -> None:
        self._host.stop(*self._key, grace_s)

    def progress(self) -> Progress | None:
        local = self._host._ranks.get(self._key)
        return local.progress() if local is not None else None

    def keep(self) -> bool:
        return self._host.keep(*self._key)

    def close(self) -> None:
        self._host.close(*self._key)


class _RemoteRank:
    """A rank that another host runs."""

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


__all__ = ["Host", "HostSettings", "lease_name"]
