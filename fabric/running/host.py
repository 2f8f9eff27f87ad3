"""The actor that runs ranks on a node: in a lease's bundle (one rank of a program), or warm beside all leases (calls).

The host of rank 0 leads its attempt: it starts the other ranks, waits for all, reports. Invariants: an attempt whose
lease Ray no longer knows, or has not confirmed for `lease_s`, is ended here, so it cannot live beside a later one;
facts are kept until the scheduler has taken them; an epoch that is over is refused.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric import ray_io
from fabric.errors import RejectedError
from fabric.job import Outcome
from fabric.ports import Report
from fabric.running import checkpoints, placement, scratch
from fabric.running.gang import Gang
from fabric.running.lease_watch import LeaseWatch
from fabric.running.local_ranks import LocalRanks, OwnRank
from fabric.running.order import LEASE_PREFIX, Ending, Order, attempt_name
from fabric.running.outbox import Outbox
from fabric.running.remote_rank import CALL_WAIT_S, RemoteRank
from fabric.running.stores import RunStore
from fabric.running.warm import WarmPool

FORGET_S = 10.0
"""How long an attempt that is over stays known, for a scheduler that was away when it ended."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`report` reaches the scheduler from any node. `lease_s`: how long an attempt goes on while Ray's head is away;
    less than the 60 s after which Ray's own workers give up. `scratch` is a directory of every node. `num_spares`: how many
    children a warm host keeps ready."""

    report: Report
    store_url: str
    scratch: str
    lease_s: float = 45.0
    num_spares: int = 0


class Host:
    """Undecorated actor class; threaded, so that it answers while it leads. `title`: of the attempt that it is for; empty: a warm one."""

    def __init__(self, settings: HostSettings, title: str = "") -> None:
        self._title = title or f"warm host ({ray_io.worker_place().flavor})"
        self._lease_s = settings.lease_s
        self._store = RunStore(settings.store_url, Path(settings.scratch))
        self._node_id, self._ip = placement.this_node()
        self._ranks = LocalRanks(self._store, WarmPool(settings.num_spares), self._node_id)
        self._outbox = Outbox(settings.report, 0, lambda job_id, attempt: self._end(attempt_name(job_id, attempt)))
        self._watch = LeaseWatch(self._is_held, self._end, settings.lease_s)
        self._lock = threading.Lock()
        self._gangs: dict[str, Gang] = {}
        self._over: dict[str, threading.Event] = {}
        self._early: dict[str, Outcome | None] = {}
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="parent", daemon=True).start()
        if settings.num_spares:  # a warm host: one per node, which looks after the node's scratch
            sweeper = threading.Thread(target=scratch.sweep, args=(Path(settings.scratch), placement.lease_exists), daemon=True)
            sweeper.start()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return self._title

    def ping(self) -> str:
        return self._node_id

    # ---- attempts that are led here

    def lead(self, order: Order, peers: Sequence[tuple[Any, Order]]) -> bool:
        """Run an attempt to its end, rank 0 here and the others on the peers; True when the scheduler knows how it ended
        (or does not want to). Idempotent: led once."""
        name = order.attempt_name
        with self._lock:
            self._see_epoch(order.epoch)
            is_known = name in self._over
            over = self._over.setdefault(name, threading.Event())
        if is_known:
            return over.wait()
        try:
            self._lead(order, peers)
        finally:
            over.set()
            with self._lock:
                self._gangs.pop(name, None)
            threading.Timer(FORGET_S, self._forget, (name,)).start()
        return True

    def await_led(self, epoch: int, job_id: str, attempt: int) -> bool:
        """For a scheduler that started anew: True when the attempt is over and reported, False to ask again."""
        with self._lock:
            self._see_epoch(epoch)
            over = self._over.get(attempt_name(job_id, attempt))
        return over is None or over.wait(CALL_WAIT_S)

    def led(self) -> list[str]:
        """The names of the attempts that are led here."""
        with self._lock:
            return [name for name, over in self._over.items() if not over.is_set()]

    def is_idle(self) -> bool:
        """Whether nothing runs here, nor is led from here."""
        return not self.led() and not self._ranks.is_any()

    def leads(self, name: str) -> bool:
        """Whether that attempt's other ranks should go on."""
        with self._lock:
            gang, over = self._gangs.get(name), self._over.get(name)
        return over is not None and not over.is_set() and (gang is None or not gang.is_given_up)

    def preempt(self, epoch: int, job_id: str, attempt: int) -> bool:
        """Whether the attempt is led here, or will be."""
        return self._tell(epoch, attempt_name(job_id, attempt), None)

    def kill(self, epoch: int, job_id: str, attempt: int, outcome: Outcome) -> bool:
        return self._tell(epoch, attempt_name(job_id, attempt), outcome)

    def end(self, job_id: str, attempt: int) -> None:
        """End everything of an attempt here and say nothing: a later one is to start."""
        self._end(attempt_name(job_id, attempt))

    # ---- ranks of attempts that are led elsewhere

    def begin(self, order: Order) -> str:
        with self._lock:
            self._see_epoch(order.epoch)
        return self._ranks.begin(order, threading.Event(), self._watch)

    def wait_rank(self, name: str, rank: int, timeout_s: float) -> Ending | None:
        return self._ranks.wait(name, rank, timeout_s)

    def stop(self, name: str, rank: int, grace_s: float) -> None:
        self._ranks.stop(name, rank, grace_s)

    def keep(self, name: str, rank: int) -> bool:
        return self._ranks.keep(name, rank)

    def close(self, name: str, rank: int) -> None:
        self._ranks.close(name, rank)
        self._watch.drop(name)

    # ---- inside

    def _lead(self, order: Order, peers: Sequence[tuple[Any, Order]]) -> None:
        address = {"MASTER_ADDR": self._ip, "MASTER_PORT": str(placement.free_port())}
        woken = threading.Event()
        own = OwnRank(self._ranks, _with_env(order, address), woken, self._watch)
        others = [RemoteRank(host, _with_env(theirs, address)) for host, theirs in peers]
        gang = Gang(order, [own, *others], self._outbox.put, self._marker(order), woken, lambda: self._wait_for_lost(others))
        with self._lock:
            self._gangs[order.attempt_name] = gang
            if order.attempt_name in self._early:
                _pass_on(gang, self._early.pop(order.attempt_name))
        ticket = gang.run()
        self._watch.drop(order.attempt_name)
        if ticket is not None:
            self._outbox.wait(ticket)

    def _marker(self, order: Order) -> Any:
        return lambda ranks, done: checkpoints.mark_kept(self._store, order.job_id, order.attempt, ranks, done)

    def _wait_for_lost(self, others: Sequence[RemoteRank]) -> None:
        placement.wait_until_dead({rank.node_id for rank in others if rank.node_id}, self._lease_s)

    def _tell(self, epoch: int, name: str, outcome: Outcome | None) -> bool:
        with self._lock:
            self._see_epoch(epoch)
            gang, over = self._gangs.get(name), self._over.get(name)
            if gang is None and (over is None or not over.is_set()):  # it overtook `lead`, which looks for it
                self._early[name] = outcome
        if gang is not None:
            _pass_on(gang, outcome)
        return over is None or not over.is_set()

    def _see_epoch(self, epoch: int) -> None:
        """Raises: RejectedError for one that is over."""
        if epoch < self._outbox.epoch:
            raise RejectedError(f"epoch {epoch} is over: {self._outbox.epoch} was seen", code="stale_epoch")
        self._outbox.epoch = epoch

    def _forget(self, name: str) -> None:
        """Some time after the end: give the lease back, in case no scheduler was there to do it."""
        with self._lock:
            self._over.pop(name, None)
            self._early.pop(name, None)
        placement.release(LEASE_PREFIX + name)

    def _is_held(self, name: str, leader: str) -> bool:
        is_held = placement.lease_exists(LEASE_PREFIX + name)
        return is_held and (not leader or bool(ray_io.ask(ray_io.actor(leader).leads.remote(name))))

    def _end(self, name: str) -> None:
        with self._lock:
            gang = self._gangs.get(name)
        if gang is not None:
            gang.abandon()
        self._ranks.end(name)


def _end_with_parent(pid: int) -> None:
    """A worker outlives its raylet for minutes, unseen by Ray: it ends here within a second, and what it guards with it."""
    while os.getppid() == pid:
        time.sleep(0.5)
    os._exit(1)


def _with_env(order: Order, more: dict[str, str]) -> Order:
    return dataclasses.replace(order, env={**order.env, **more})


def _pass_on(gang: Gang, outcome: Outcome | None) -> None:
    if outcome is None:
        gang.preempt()
    else:
        gang.kill(outcome)
