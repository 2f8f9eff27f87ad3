"""The owner's side of the parked processes: wakes models for requests, by what `LotBook` decides.

One event loop owns it. Invariants: whoever waits for a model is answered or refused; a process is out of routing before it is
told to leave; when the lot closes, all its processes end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fabric.errors import BugError, FabricError
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.table import ReplicaAt, ReplicaId
from serve_apps.parking import facts
from serve_apps.parking.book import LotBook
from serve_apps.parking.facts import Command, Event, SlotId
from serve_apps.parking.link import Channel
from serve_apps.parking.messages import Activity, Adoption, HasFailed, IsLive, IsParked, Leave, TokensChanged
from serve_apps.parking.rules import ModelVersion, Rules
from serve_apps.parking.tenant import Tenant
from serve_apps.parking.zygote_process import ZygoteProcess

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PREFIX = "bridge-"
"""Of the ids of its replicas."""
_TICK_S = 0.1
_KILL_AFTER_S = 3.0
"""A process that was told to leave has its drain time and this long."""
_LAST_WORDS_S = 1.0
_AGAIN_S = 5.0


class ParkingLot:
    """`find` gives what a version is served from, and raises a `FabricError` where there is none.

    `on_live(model, replica)`: it answers there from now on; `on_gone(model, replica, reason)`: route nothing to it any more;
    `on_replica_wanted(model, reason)`: traffic asks for a replica of Serve's. They are called on the event loop and must not wait.
    """

    def __init__(
        self,
        find: Callable[[ModelVersion], Adoption],
        *,
        log_file: Path,
        rules: Rules,
        node_id: str = "",
        on_live: Callable[[ModelVersion, ReplicaAt], None] = lambda *_: None,
        on_gone: Callable[[ModelVersion, ReplicaAt, str], None] = lambda *_: None,
        on_replica_wanted: Callable[[ModelVersion, str], None] = lambda *_: None,
    ) -> None:
        self._find = find
        self._rules = rules
        self._node_id = node_id
        self._on_live, self._on_gone, self._on_replica_wanted = on_live, on_gone, on_replica_wanted
        self._mark = uuid.uuid4().hex[:12]
        self._book = LotBook(rules)
        self._zygote = ZygoteProcess(log_file, self._hear_from_zygote)
        self._tenants: dict[SlotId, Tenant] = {}
        self._waiters: dict[ModelVersion, asyncio.Future[ReplicaAt]] = {}
        self._facts: deque[Event] = deque()
        self._is_deciding = False
        self._ticking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # -- what its owner calls -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to park processes; returns at once."""
        self._ticking = asyncio.create_task(self._tick())
        self._hear(facts.Ticked())

    async def wake(self, name: str, version: str) -> ReplicaAt:
        """Where the version answers, adopted now if no process of this lot serves it.

        Raises: what `find` or the model's constructor raised, `ModelError` (`model_crashed`), `RejectedError` (`no_free_process`),
        `RuntimeFault` (`no_warm_process`).
        """
        model = ModelVersion(name, version)
        slot = self._book.slot_of(model)
        if slot is not None:
            return self._tenants[slot].address
        idle_s = self._find(model).idle_s
        waiter = self._waiters.get(model)
        if waiter is None:
            waiter = self._waiters[model] = asyncio.get_running_loop().create_future()
            waiter.add_done_callback(_look_at)
        self._hear(facts.Wanted(model, idle_s))
        return await asyncio.shield(waiter)

    def note_replica(self, name: str, version: str, *, is_there: bool) -> None:
        """A Serve replica of this version answers, or none does any more. Idempotent."""
        model = ModelVersion(name, version)
        self._hear(facts.ReplicaRegistered(model) if is_there else facts.ReplicaGone(model))

    def drop(self, name: str, version: str) -> None:
        """The version is served no more; what failed of it is forgotten. Idempotent."""
        self._hear(facts.Dropped(ModelVersion(name, version)))

    def replace_tokens(self, tokens: Mapping[str, Any], mark: str) -> None:
        """Of adopted processes, now; those that adopt later get what `find` gives."""
        for tenant in self._tenants.values():
            if tenant.is_live:
                tenant.send(TokensChanged(tokens, mark))

    @property
    def reports(self) -> list[ReplicaReport]:
        """What the adopted processes say of themselves, for the directory."""
        return [tenant.report for tenant in self._tenants.values() if tenant.is_live and tenant.report is not None]

    @property
    def parked_pids(self) -> list[int]:
        """Of the processes that know no model."""
        pids = self._zygote.pids
        return [pids[slot] for slot, tenant in self._tenants.items() if tenant.is_parked and slot in pids]

    @property
    def pids(self) -> list[int]:
        """Of all that live, those that leave included."""
        return list(self._zygote.pids.values())

    def pid_of(self, name: str, version: str) -> int | None:
        slot = self._book.slot_of(ModelVersion(name, version))
        return None if slot is None else self._zygote.pids.get(slot)

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when `is_so()` holds; it is asked after each change."""
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """End every process at once."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._zygote.stop()
        for tenant in self._tenants.values():
            tenant.close()
        for waiter in self._waiters.values():
            waiter.cancel()
        self._tenants, self._waiters = {}, {}

    # -- facts and commands -------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        """Carrying out a command may bring new facts at once: they wait their turn."""
        self._facts.append(event)
        if self._is_deciding:
            return
        self._is_deciding = True
        try:
            while self._facts:
                fact = self._facts.popleft()
                for command in self._book.handle(fact, now_s=time.monotonic()):
                    self._carry_out(command)
                if isinstance(fact, facts.Ended):
                    self._forget(fact)
        finally:
            self._is_deciding = False
            self._changed.set()

    def _hear_from_zygote(self, event: Event) -> None:
        """What a process said before its end counts before its end."""
        tenant = self._tenants.get(event.slot) if isinstance(event, facts.Ended) else None
        if tenant is None or tenant.listening is None or tenant.listening.done():
            self._hear(event)
            return
        tenant.listening.add_done_callback(lambda _: self._hear(event))
        # A process that it left behind may hold its end of the channel open.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, tenant.listening.cancel)

    def _carry_out(self, command: Command) -> None:
        match command:
            case facts.StartZygote():
                self._start_zygote()
            case facts.Fork(slot):
                self._fork(slot)
            case facts.Adopt(slot, model):
                self._adopt(slot, model)
            case facts.Retire(slot, reason):
                self._retire(slot, reason)
            case facts.Refuse(model, error):
                if (waiter := self._waiters.pop(model, None)) is not None and not waiter.done():
                    waiter.set_exception(error)
            case facts.AskReplica(model, reason):
                log.info("replica wanted model=%s version=%s reason=%s", *model, reason)
                self._on_replica_wanted(model, reason)

    def _start_zygote(self) -> None:
        try:
            self._zygote.start()
        except OSError:
            log.exception("zygote does not start")
            # Later: a disk that is full would otherwise be asked without end, and nothing else be heard.
            asyncio.get_running_loop().call_later(_AGAIN_S, self._hear, facts.ZygoteLost())

    def _fork(self, slot: SlotId) -> None:
        try:
            end = self._zygote.fork(slot)
        except OSError:  # the zygote is dying; its socket's end tells of it
            self._hear(facts.Ended(slot, "not forked"))
            return
        tenant = self._tenants[slot] = Tenant(ReplicaAt(ReplicaId(f"{PREFIX}{self._mark}-{slot}"), HOST, 0, self._node_id))
        tenant.listening = asyncio.create_task(self._listen(slot, end))

    def _adopt(self, slot: SlotId, model: ModelVersion) -> None:
        tenant = self._tenants[slot]
        try:
            tenant.adopt(self._find(model))
        except FabricError as error:  # it was deleted while the request waited
            tenant.model = model
            self._hear(facts.AdoptionFailed(slot, error))
            self._zygote.kill(slot)

    def _retire(self, slot: SlotId, reason: str) -> None:
        tenant = self._tenants[slot]
        log.info("retire slot=%d model=%s version=%s reason=%s", slot, *(tenant.model or ("", "")), reason)
        if tenant.is_live and tenant.model is not None:
            tenant.is_live = False
            self._on_gone(tenant.model, tenant.address, reason)
        tenant.send(Leave(self._rules.linger_s, self._rules.drain_s))
        asyncio.get_running_loop().call_later(self._rules.drain_s + _KILL_AFTER_S, self._zygote.kill, slot)

    def _forget(self, ended: facts.Ended) -> None:
        tenant = self._tenants.pop(ended.slot, None)
        if tenant is None:
            return
        tenant.close()
        if tenant.is_live and tenant.model is not None:
            log.error("model process ended model=%s version=%s reason=%s", *tenant.model, ended.reason)
            self._on_gone(tenant.model, tenant.address, ended.reason)

    # -- what its processes say ---------------------------------------------------------------------------------------------

    async def _listen(self, slot: SlotId, end: socket.socket) -> None:
        tenant = self._tenants[slot]
        channel = tenant.channel = await Channel.over(end)
        while (said := await channel.receive()) is not None:
            match said:
                case IsParked(port):
                    tenant.park(port)
                    self._hear(facts.Parked(slot))
                case IsLive():
                    self._enter_service(slot, tenant, said)
                case HasFailed(error):
                    self._hear(facts.AdoptionFailed(slot, error))
                case Activity(num_in_flight):
                    self._hear(facts.Used(slot, num_in_flight))
                case _:
                    raise BugError(f"a parked process said {said!r}", code="bug")

    def _enter_service(self, slot: SlotId, tenant: Tenant, said: IsLive) -> None:
        tenant.report = said.report
        self._hear(facts.WentLive(slot))
        model = tenant.model
        if model is None or self._book.slot_of(model) != slot:
            return  # it was told to leave meanwhile
        tenant.is_live = True
        log.info("adopted model=%s version=%s %s", *model, " ".join(f"{part}_ms={took:.1f}" for part, took in said.took_ms.items()))
        self._on_live(model, tenant.address)
        if (waiter := self._waiters.pop(model, None)) is not None and not waiter.done():
            waiter.set_result(tenant.address)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._hear(facts.Ticked())


def _look_at(waiter: asyncio.Future[ReplicaAt]) -> None:
    """Whoever waited may have given up: its error has been told in the log by then, not to the event loop's handler."""
    if not waiter.cancelled():
        waiter.exception()
