"""Runs attempts on Ray: the scheduler's `RunnerPort`. Reserves, starts hosts, watches them, and says what was lost.

Invariants: every call returns at once; an attempt that this port knows has exactly one last fact in the end, from its
host or, where that died, from here; a lease without a living leader is given back.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fabric import ray_io
from fabric.errors import FabricError, OutOfMemory, RejectedError
from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Outcome
from fabric.job_events import JobEnded, JobVacated, LeaseRefused
from fabric.ports import Report
from fabric.running import placement
from fabric.running.host import HostSettings
from fabric.running.hosts import Hosts
from fabric.running.launching import Attempt
from fabric.running.order import attempt_name, lease_name, parse_attempt, parse_lease
from fabric.running.outbox import Outbox
from fabric.types import Flavor

NUM_LAUNCHERS = 16
NUM_WAKERS = 64
STOP_TIMEOUT_S = 10.0
TAKEOVER_MARGIN_S = 5.0
DRIVERS_TIMEOUT_S = 15.0
"""How long the Jobs API is waited for, where there may be drivers of an earlier scheduler."""
_log = logging.getLogger(__name__)

Key = tuple[JobId, int]


@dataclasses.dataclass(slots=True)
class _Live:
    """An attempt between launch and its end. `stop`: how it was told to end before its leader was there."""

    epoch: int
    leader: Any = None
    nodes: tuple[str, ...] = ()
    is_driver: bool = False
    is_preempted: bool = False
    killed_as: Outcome | None = None


class RayRunners:
    """`settings.report` reaches the scheduler from any node (it is pickled into hosts); `local_report` does so from here.
    `epoch` is the scheduler's own: a later one in this cluster ends its say (RejectedError, `stale_epoch`).
    `is_new_cluster`: no scheduler was in this Ray cluster before. Attempts that began in another one cannot be seen from
    here; each ends itself within `takeover_s` of losing its head, and no later attempt of it may start before.
    `avoid()` names nodes that take no new work (cordoned, draining). `on_asleep` is told which types of nodes did not come."""

    def __init__(
        self,
        settings: HostSettings,
        catalogue: Mapping[str, Flavor],
        epoch: int,
        *,
        local_report: Report | None = None,
        avoid: Callable[[], Collection[str]] = tuple,
        on_asleep: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self._on_asleep = on_asleep
        self._lease_s = settings.lease_s
        self._catalogue = catalogue
        self._hosts = Hosts(settings, avoid)
        self.is_new_cluster = placement.claim_epoch(epoch)
        self._outbox = Outbox(local_report or settings.report, epoch)
        self._lock = threading.Lock()
        self._live: dict[Key, _Live] = {}
        self._drivers_swept = threading.Event()
        self._launchers = ThreadPoolExecutor(NUM_LAUNCHERS, thread_name_prefix="launch")
        self._wakers = ThreadPoolExecutor(NUM_WAKERS, thread_name_prefix="wake")  # those wait for minutes, and others must not for them
        self._stoppers = ThreadPoolExecutor(4, thread_name_prefix="stop")

    # ---- the port

    def launch(self, epoch: int, spec: JobSpec, how: LaunchSpec, attempt: int, grant: Grant) -> None:
        """Raises: RejectedError (`stale_epoch`)."""
        self._see_epoch(epoch)
        with self._lock:
            if (spec.job_id, attempt) in self._live:
                return
            live = self._live[spec.job_id, attempt] = _Live(epoch)
        begun = Attempt(epoch, spec, how, attempt, grant)
        (self._wakers if begun.wakes else self._launchers).submit(self._guarded, self._launch, begun, live)

    def preempt(self, epoch: int, job_id: JobId, attempt: int) -> None:
        self._see_epoch(epoch)
        self._stoppers.submit(self._stop, epoch, (job_id, attempt), None)

    def kill(self, epoch: int, job_id: JobId, attempt: int, outcome: Outcome) -> None:
        self._see_epoch(epoch)
        self._stoppers.submit(self._stop, epoch, (job_id, attempt), outcome)

    def living(self) -> Sequence[Key]:
        """What is alive now, taken over by this port: their facts are seen to from now on. Leases and drivers that nobody
        leads are ended, with all that may still run in them."""
        leaders = self._hosts.leaders()
        for name, leader in leaders.items():
            key = parse_attempt(name)
            if key is not None and (live := self._adopted(key, leader)) is not None:
                self._await(key, live)
        with self._lock:
            alive = list(self._live)
        known = {attempt_name(*key) for key in alive}
        for name in placement.leases():
            key = parse_lease(name)
            with self._lock:  # one may have been launched meanwhile
                is_unled = key is not None and key not in self._live and attempt_name(*key) not in known
            if key is not None and is_unled:
                self._hosts.sweep(*key)
        threading.Thread(target=self._stop_unled_drivers, args=(known,), name="drivers", daemon=True).start()
        return alive

    def _stop_unled_drivers(self, known: Collection[str]) -> None:
        """Ray's Jobs API is the dashboard's, which comes last when a head restarts: only the next driver waits for it, nothing else."""
        from fabric.running import ray_program

        try:
            for name in ray_program.stop_unled(known, DRIVERS_TIMEOUT_S):
                _log.warning("stopped a driver that nobody led attempt=%s", name)
        except Exception as error:
            _log.warning("drivers that nobody leads cannot be seen: %s", ray_io.describe_exception(error))
        finally:
            self._drivers_swept.set()

    def _adopted(self, key: Key, leader: Any) -> _Live | None:
        """Its record, where this port did not know it."""
        group = placement.find_lease(lease_name(*key))
        with self._lock:
            if key in self._live:
                return None
            nodes = placement.nodes_of(group) if group is not None else ()
            live = self._live[key] = _Live(self._outbox.epoch, leader, nodes, is_driver=group is None)
            return live

    @property
    def takeover_s(self) -> float:
        return self._lease_s + TAKEOVER_MARGIN_S

    def warm_up(self) -> None:
        """Make sure that every living CPU node has a host with children ready; returns at once."""
        for node in ray_io.living_nodes():
            flavor = self._catalogue.get(node.flavor)
            if flavor is not None and flavor.is_cpu:
                self._hosts.warm(node.node_id)

    def num_live(self) -> int:
        with self._lock:
            return len(self._live)

    # ---- launching

    def _guarded(self, step: Callable[..., None], attempt: Attempt, live: _Live) -> None:
        """Whatever goes wrong before a host leads the attempt becomes its last fact."""
        key = (attempt.spec.job_id, attempt.attempt)
        try:
            step(attempt, live)
        except placement.Refused as refused:
            if self._is_wanted(live):
                self._on_asleep(attempt.wakes)
                self._close(key, LeaseRefused(*key, str(refused)))
            else:
                self._close(key, _stopped_before_start(key, live))
        except RejectedError as error:  # a later scheduler is at work: its facts count
            _log.warning("launch dropped attempt=%s because=%s", attempt_name(*key), error.message)
            self._forget(key)
        except Exception as error:
            _log.exception("launch failed attempt=%s", attempt_name(*key))
            placement.release(lease_name(*key))
            self._close(key, LeaseRefused(*key, f"Ray failed: {_first_line(error)}"))

    def _launch(self, attempt: Attempt, live: _Live) -> None:
        spec, flavor = attempt.spec, self._catalogue[attempt.grant.option.flavor]
        key = (spec.job_id, attempt.attempt)
        placement.claim_epoch(attempt.epoch)
        if spec.form == "ray-program":
            self._drivers_swept.wait(2 * DRIVERS_TIMEOUT_S)
        self._hosts.clear_the_way(*key)
        nodes, hosts, told = self._hosts.place(attempt, flavor, lambda: self._is_wanted(live))
        with self._lock:
            live.nodes, live.is_driver = nodes, spec.form == "ray-program"
            is_wanted = self._is_wanted(live)
            if is_wanted:
                live.leader = hosts[0]
        if not is_wanted:
            placement.release(lease_name(*key))
            self._close(key, _stopped_before_start(key, live))
            return
        lead = hosts[0].lead.options(name=f"{spec.name} {attempt_name(*key)}")
        self._watch(key, live, lead.remote(told[0], list(zip(hosts[1:], told[1:], strict=True))))

    @staticmethod
    def _is_wanted(live: _Live) -> bool:
        return not live.is_preempted and live.killed_as is None

    # ---- watching

    def _watch(self, key: Key, live: _Live, ref: Any) -> None:
        future: Future[bool] = ref.future()
        future.add_done_callback(lambda done: self._stoppers.submit(self._ended, key, live, done))

    def _await(self, key: Key, live: _Live) -> None:
        self._watch(key, live, live.leader.await_led.remote(live.epoch, *key))

    def _ended(self, key: Key, live: _Live, done: Future[bool]) -> None:
        """The leader's call has returned: the attempt is over, or its leader is gone."""
        error = done.exception()
        if error is None:
            if not done.result():
                self._await(key, live)
                return
            placement.release(lease_name(*key))
            self._forget(key)
            return
        threading.Thread(target=self._lost, args=(key, live, ray_io.mapped(error)), daemon=True).start()

    def _lost(self, key: Key, live: _Live, error: BaseException) -> None:
        _log.warning("leader lost attempt=%s because=%s", attempt_name(*key), ray_io.describe_exception(error))
        if isinstance(error, RejectedError):
            self._forget(key)
            return
        try:
            self._hosts.sweep(*key, live.nodes or None)
            if live.is_driver:
                from fabric.running import ray_program

                ray_program.stop(attempt_name(*key))
            placement.wait_until_dead(live.nodes, self._lease_s)
        except Exception as failed:  # Ray's head is away: this scheduler's next incarnation looks again
            _log.warning("sweep attempt=%s failed: %s", attempt_name(*key), ray_io.describe_exception(failed))
        self._close(key, JobEnded(*key, live.killed_as or _outcome_of(error), f"its runner is gone: {_first_line(error)}"))

    def _close(self, key: Key, fact: JobEnded | JobVacated | LeaseRefused) -> None:
        self._forget(key)
        self._outbox.put(fact)

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._live.pop(key, None)

    # ---- stopping

    def _stop(self, epoch: int, key: Key, outcome: Outcome | None) -> None:
        with self._lock:
            live = self._live.get(key)
            if live is not None:
                live.killed_as = outcome or live.killed_as
                live.is_preempted = live.is_preempted or outcome is None
                if live.leader is None:
                    return
        if live is None:
            said: Outcome = outcome or "lost"
            self._outbox.put(JobEnded(*key, said, "no such attempt is alive"))
            return
        try:
            call = live.leader.preempt.remote(epoch, *key) if outcome is None else live.leader.kill.remote(epoch, *key, outcome)
            ray_io.ask(call, STOP_TIMEOUT_S)
        except FabricError as error:  # a dead leader is noticed where it is watched
            _log.warning("stop attempt=%s failed: %s", attempt_name(*key), error.message)
            if outcome is not None:  # one that does not answer, or never came up, goes with its lease
                placement.release(lease_name(*key))

    def _see_epoch(self, epoch: int) -> None:
        if epoch < self._outbox.epoch:
            raise RejectedError(f"epoch {epoch} is over: {self._outbox.epoch} was seen", code="stale_epoch")
        self._outbox.epoch = epoch


def _stopped_before_start(key: Key, live: _Live) -> JobEnded | JobVacated:
    if live.killed_as is not None:
        return JobEnded(*key, live.killed_as, "before it started")
    return JobVacated(*key, 0.0)


def _first_line(error: BaseException) -> str:
    return ray_io.describe_exception(error).splitlines()[0]


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, OutOfMemory):
        return "oom"
    return "error" if isinstance(error, FabricError) and error.code == "runtime_env" else "lost"
