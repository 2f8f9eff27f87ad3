"""One process's view of the fabric: the cached routing table, its own calls in flight, and the thread that refreshes both.

Invariants: no call waits for a fabric actor; a table that cannot be refreshed stays in force; the calls in flight are
counted here, exactly, and are swept as Ray finishes them.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric import lanes, ray_io
from fabric.call_samples import count_reasons, in_flight
from fabric.capacity import FlavorCapacity, capacities
from fabric.config import FabricConfig
from fabric.errors import FabricError, OutOfMemory, UnavailableError, UnknownNameError, listeners
from fabric.lanes import Lanes
from fabric.metering import EXPORT_S, Meter
from fabric.metrics.tally import Tally
from fabric.probing import Probing
from fabric.request_sizes import RequestSizes
from fabric.routing import Candidate, Load, Plan, RoutingPolicy, compile_plan
from fabric.types import FLAVOR_LABEL, Fingerprint, Flavor, Node, Placement, PoolSnapshot, Resources, Run, Variant, name_of
from profiler.estimate import Predictor, TaskProfile
from profiler.needs import Needs

SWEEP_S = 0.1
SWEEP_CALLS = 1024
HISTORY_CALLS = 10_000
REVIVE_EVERY_S = 2.0
SETTINGS_TIMEOUT_S = 30.0
UNTOLD_S = 1.0
UNTOLD_CALLS = 64
UNTOLD_EVERY_S = 0.02
SETTINGS_RETRY_S = 0.2
FIRST_CALLS_S = 1.0
ACTORS_BEHIND_S = 3.0
_Description = tuple[Fingerprint, tuple[Variant, ...]]
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One call in flight or lately finished, with what was known when it was routed."""

    ref: Any
    task: str
    candidate: Candidate
    plan: Plan
    load: Load
    started_s: float
    call_id: str = ""
    finished_s: float = 0.0


@dataclass(slots=True)
class Table:
    """What the last refresh brought. `version` grows when plans must be compiled anew."""

    version: int = 0
    capacities: Mapping[str, FlavorCapacity] = field(default_factory=dict)
    refreshed_s: float = 0.0


class Client:
    """See the module. `revive` starts missing fabric actors anew; a worker has none and leaves that to the drivers.

    `start_serving(config, is_twin)` starts the actors that serve models, where they are missing.
    """

    def __init__(
        self,
        config: FabricConfig,
        catalogue: Mapping[str, Flavor],
        *,
        revive: Callable[[], None] | None = None,
        start_serving: Callable[[FabricConfig, bool], None] | None = None,
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self.policy = RoutingPolicy(config.routing.waiting_usd_per_h)
        self.lanes = Lanes()
        self.table = Table()
        self.profiles: dict[str, TaskProfile] = {}
        self.in_flight: deque[Call] = deque()
        self.history: deque[Call] = deque(maxlen=HISTORY_CALLS)
        self.lock = threading.Lock()
        self._probing = Probing()
        self._described: dict[str, _Description] = {}
        self._versions: dict[str, int] = {}
        self._sizes = RequestSizes()
        self._revive = revive
        self.start_serving = start_serving
        self._revived_s = float("-inf")
        self._attached_s = time.monotonic()
        self._actors: dict[str, Any] = {}
        self._lost_since_s: dict[str, float] = {}
        self._sweep_due_s = 0.0
        self._meter, self._tally = Meter(), Tally()
        self._finished: list[Call] = []
        self._flavors_told: set[str] = set()
        self._stopped = threading.Event()
        self._take_capacities(capacities(_snapshots(ray_io.living_nodes(), config.tier_names), catalogue))
        self.refresh()  # where the pools already run, they know of cordons
        self._thread = threading.Thread(target=self._loop, name="fabric-refresh", daemon=True)
        self._thread.start()
        listeners.append(self._on_arrival)

    def close(self) -> None:
        self.await_reports()
        self._stopped.set()
        listeners.remove(self._on_arrival)
        self._thread.join(timeout=5)

    # -- routing ---------------------------------------------------------------------------------------------------------

    def describe(self, task: str, fingerprint: Fingerprint, variants: Iterable[Variant]) -> None:
        """Make a task known to the profiler, at the next refresh. Raises: UnknownNameError for a variant's flavor."""
        variants = tuple(variants)
        for variant in variants:
            self._check_flavor(variant.flavor)
        profile = self.profiles.setdefault(task, TaskProfile(task))
        profile.fingerprint = fingerprint
        profile.variants = {variant.name: variant for variant in variants}
        self._versions.setdefault(task, 0)
        self._described[task] = (fingerprint, variants)

    def _check_flavor(self, wanted: str) -> None:
        flavors = self.catalogue.values()
        if wanted and not any(flavor.answers_to(wanted) for flavor in flavors):
            known = {name for f in flavors for name in (f.name, f.family, f.kind, f.tier)}
            raise UnknownNameError.of("flavor", wanted, known)

    def version_of(self, task: str) -> tuple[int, int]:
        """Changes whenever a plan of this task must be compiled anew."""
        return (self.table.version, self._versions.get(task, 0))

    def plan(self, task: str, input_bytes: int, variants: Iterable[Variant]) -> Plan:
        """Compile the plan of one task for arguments of this size (-1: unknown). Raises: NoFitError."""
        profile = self.profiles.get(task) or TaskProfile(task)
        near = profile.bucket_of(input_bytes)
        estimate_of = Predictor(profile, self.catalogue, near).estimate
        version, table = self.version_of(task), self.table.capacities
        sized = [self._sizes.sized(profile, variant, input_bytes, table, version) for variant in variants]
        domain = profile.fingerprint.domain
        with self.lock:
            plan = compile_plan(
                [variant for variant, _ in sized],
                table,
                estimate_of,
                self.policy,
                self.lanes,
                domain=domain,
                task=name_of(task),
            )
        plan.sums = {variant.name: told for variant, told in sized if told}
        plan.untried = self._probing.find(plan.candidates, profile.num_runs(), task, near)
        return plan

    def take_untried(self, plan: Plan, task: str, input_bytes: int) -> Candidate | None:
        """Where this call should go to find out how fast it is there; None: where it is best."""
        untried = plan.take_untried()
        if untried is not None:
            self._probing.note(untried, task, (self.profiles.get(task) or TaskProfile(task)).bucket_of(input_bytes))
        return untried

    def note(self, ref: Any, task: str, candidate: Candidate, plan: Plan, load: Load) -> None:
        """Count a submitted call as in flight."""
        with self.lock:
            lanes.start(candidate.claims, candidate.run_s)
        self.in_flight.append(Call(ref, task, candidate, plan, load, time.monotonic()))

    def find(self, ref: Any) -> Call | None:
        """The record of a call: in flight, or among the last 10,000 finished."""
        for call in list(self.in_flight):
            if call.ref == ref:
                return call
        call_id = ray_io.call_id(ref)
        return next((call for call in reversed(list(self.history)) if call.call_id == call_id), None)

    def remember_oom(self, task: str, variant: str, asked_bytes: int, used_bytes: int, input_bytes: int) -> None:
        """The next call of this variant with arguments as large asks for more, here at once and everywhere after the next refresh."""
        needs = self.profiles.setdefault(task, TaskProfile(task)).needs.setdefault(variant, Needs())
        before = dict(needs.floors)
        needs.add_oom(input_bytes, asked_bytes, used_bytes)
        if needs.floors != before:
            self._versions[task] = self._versions.get(task, 0) + 1
            self._tell("profiler", "remember_oom", task, variant, asked_bytes, used_bytes, input_bytes)

    def _on_arrival(self, error: FabricError) -> None:
        context = error.context
        if isinstance(error, OutOfMemory) and "task" in context:
            self.remember_oom(context["task"], context["variant"], context["asked_bytes"], context["used_bytes"], context["input_bytes"])

    def is_lost(self, flavor: str) -> bool:
        """Whether the flavor has no node left in the table in force: nothing of it can be running. Cordoned and draining
        nodes still run what they have."""
        capacity = self.table.capacities.get(flavor)
        return capacity is None or not (capacity.shapes or capacity.closed)

    def run_of(self, call_id: str) -> Any:
        """The measured run of a call, or None while it is not known."""
        try:
            return ray_io.ask(self._actor("profiler").run_of.remote(call_id), timeout_s=5)
        except FabricError:
            return None

    def runs(self, task: str) -> list[Run]:
        """The lately measured runs of a task. Raises: UnavailableError where the profiler is away."""
        runs: list[Run] = ray_io.ask(self._actor("profiler").runs.remote(task))
        return runs

    def await_reports(self) -> None:
        """Before a program leaves, and its workers end with it: what they measured of its last calls shall not be lost. Blocks for a
        second at most."""
        if self._revive is None or not ray_io.is_connected():  # a worker: its program waits
            return
        self.sweep()
        until_s = time.monotonic() + UNTOLD_S
        last = [call.call_id for call in list(self.history)[-UNTOLD_CALLS:] if call.finished_s > until_s - 2 * UNTOLD_S]
        try:
            while last and time.monotonic() < until_s:
                last = ray_io.ask(self._actor("profiler").untold.remote(last), timeout_s=UNTOLD_S)
                if not last:
                    ray_io.ask(self._actor("profiler").save.remote(), timeout_s=UNTOLD_S)
                    return
                time.sleep(UNTOLD_EVERY_S)
        except FabricError as error:
            _log.info("last calls untold: %s", error.message)

    # -- background ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        due_s, export_s = 0.0, time.monotonic() + EXPORT_S
        while not self._stopped.wait(SWEEP_S):
            if not ray_io.is_connected():
                return
            self.sweep()
            if time.monotonic() >= due_s:
                self.refresh()
                due_s = time.monotonic() + self.config.routing.refresh_s
            if time.monotonic() >= export_s:
                self._export()
                export_s = time.monotonic() + EXPORT_S

    def _export(self) -> None:
        """Tell what became of this process's calls; a process that has made none tells nothing."""
        finished, self._finished = self._finished, []
        try:
            count_reasons(self._tally, finished, self.catalogue)
            under_way = list(self.in_flight)
            self._flavors_told.update(call.candidate.flavor for call in (*finished, *under_way))
            calls = in_flight(under_way, self.catalogue, self._flavors_told)
            self._meter.export([*calls, *self._tally.samples()])
        except Exception as error:  # metrics may not end the thread that keeps the table
            if ray_io.is_connected():
                _log.warning("metrics of calls failed: %s", ray_io.describe_exception(error))

    def sweep_if_cheap(self) -> bool:
        """Sweep before a call is routed past its best place, unless that was done so lately that it would cost more than
        1 % of the caller's time. Returns whether it was done."""
        now_s = time.perf_counter()
        if now_s < self._sweep_due_s:
            return False
        self.sweep()
        done_s = time.perf_counter()
        self._sweep_due_s = done_s + 100 * (done_s - now_s)
        return True

    def sweep(self) -> None:
        """Take finished calls out of flight, oldest first. Any thread may."""
        batch: list[Call] = []
        with contextlib.suppress(IndexError):
            batch.extend(self.in_flight.popleft() for _ in range(SWEEP_CALLS))
        finished = ray_io.done([call.ref for call in batch])
        for call in batch:
            if call.ref not in finished:
                self.in_flight.append(call)
                continue
            call.call_id, call.ref, call.finished_s = ray_io.call_id(call.ref), None, time.monotonic()
            with self.lock:
                lanes.finish(call.candidate.claims, call.candidate.run_s)
            self.history.append(call)
            if len(self._finished) < HISTORY_CALLS:
                self._finished.append(call)
        self._give_up_on_lost(batch)

    def _give_up_on_lost(self, batch: Iterable[Call]) -> None:
        """A call routed to a flavor that lost its last node would wait for ever: cancel it after a grace."""
        grace_s, now_s = self.config.routing.lost_flavor_grace_s, time.monotonic()
        for call in batch:
            lost_s = self._lost_since_s.get(call.candidate.flavor)
            if call.ref is not None and lost_s is not None and now_s - max(lost_s, call.started_s) > grace_s:
                ray_io.cancel(call.ref)

    def refresh(self) -> None:
        """Bring in the pools' capacities and the profiler's estimates; what does not answer keeps its last state."""
        try:
            fresh: dict[str, FlavorCapacity] = {}
            asked = [(tier, self._ask_later(f"pool-{tier}", "capacities")) for tier in self.config.tier_names]
            sync = self._ask_later("profiler", "sync", described := dict(self._described), dict(self._versions))
            for tier, answer in asked:
                fresh.update(self._answer(f"pool-{tier}", answer, self._last_of(tier)))
            self._take_capacities(fresh)
            answer = self._answer("profiler", sync, None)
            if answer is not None:
                self._take_profiles(answer, described)
        except Exception as error:  # the last table stays in force, whatever broke; the next round tries again
            if not ray_io.is_connected():  # the program is at its end
                return
            _log.warning("refresh failed: %s", ray_io.describe_exception(error))

    def _take_capacities(self, fresh: Mapping[str, FlavorCapacity]) -> None:
        with self.lock:
            for capacity in fresh.values():
                self.lanes.observe(capacity)
        old = self.table
        is_changed = {name: _shape(c) for name, c in fresh.items()} != {name: _shape(c) for name, c in old.capacities.items()}
        self.table = Table(old.version + is_changed, fresh, time.monotonic())
        for name in set(old.capacities) | set(fresh):
            if self.is_lost(name):
                self._lost_since_s.setdefault(name, time.monotonic())
            else:
                self._lost_since_s.pop(name, None)

    def _take_profiles(self, newer: Mapping[str, tuple[int, TaskProfile]], described: Mapping[str, _Description]) -> None:
        for task, (version, profile) in newer.items():
            self.profiles[task] = profile
            self._versions[task] = version
        for task, description in described.items():
            if self._described.get(task) is description:
                del self._described[task]

    def _last_of(self, tier: str) -> dict[str, FlavorCapacity]:
        return {name: c for name, c in self.table.capacities.items() if c.flavor.tier == tier}

    def _actor(self, name: str) -> Any:
        if name not in self._actors:
            self._actors[name] = ray_io.actor(name)
        return self._actors[name]

    def _ask_later(self, name: str, method: str, *args: Any) -> Any:
        try:
            return getattr(self._actor(name), method).remote(*args)
        except FabricError as error:
            return error

    def _tell(self, name: str, method: str, *args: Any) -> None:
        self._ask_later(name, method, *args)

    def _answer(self, name: str, answer: Any, otherwise: Any) -> Any:
        try:
            if isinstance(answer, FabricError):
                raise answer
            return ray_io.ask(answer, timeout_s=5)
        except UnavailableError as error:
            self._actors.pop(name, None)
            if error.code in ("actor_died", "unavailable"):
                self._start_missing()
            return otherwise

    def _start_missing(self) -> None:
        """Start missing actors anew, but let the very first calls go ahead of them: they share the machine's cores."""
        now_s = time.monotonic()
        age_s = now_s - self._attached_s
        has_first_calls = self._revived_s < 0 and age_s < (ACTORS_BEHIND_S if self.in_flight else FIRST_CALLS_S)
        if self._revive is not None and now_s - self._revived_s > REVIVE_EVERY_S and not has_first_calls:
            self._revived_s = now_s
            self._revive()


_client: Client | None = None


def attached() -> Client | None:
    """This process's client, if it has one."""
    return _client


def current() -> Client:
    """This process's client. Inside a task or actor of the fabric it attaches by itself.

    Raises: UnavailableError where the process is connected to nothing.
    """
    if _client is not None:
        return _client
    if not ray_io.is_connected():
        raise UnavailableError("not connected to a fabric", code="not_connected", hint="call fabric.connect() first")
    config, catalogue = _settings()
    client = Client(config, catalogue)
    attach(client)
    return client


def _settings() -> tuple[FabricConfig, dict[str, Flavor]]:
    """The fabric's settings from its profiler, which may be starting anew just now."""
    deadline_s = time.monotonic() + SETTINGS_TIMEOUT_S
    while True:
        try:
            settings: tuple[FabricConfig, dict[str, Flavor]] = ray_io.ask(ray_io.actor("profiler").settings.remote())
        except UnavailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(SETTINGS_RETRY_S)
        else:
            return settings


def attach(client: Client | None) -> None:
    """Make `client` the one of this process (None: leave)."""
    global _client
    if _client is not None:
        _client.close()
    _client = client


def _leave() -> None:
    if _client is not None:
        _client.await_reports()


atexit.register(_leave)  # Ray's own was registered before, and so comes after


def placement(resources: Resources, tier: str | None = None) -> Placement:
    """Where a long-running replica with this request should live: the best scored flavor (of the tier, where one is
    named) that can hold it, as a task of unknown run time would be routed; all others as Ray's fallback, best first.

    Raises: UnknownNameError, NoFitError.
    """
    client = current()
    if tier is not None and tier not in client.config.tier_names:
        raise UnknownNameError.of("tier", tier, client.config.tier_names)
    plan = client.plan("placement", 0, [Variant("replica", tier or "", resources)])
    chosen = plan.choose()
    others = [c for c in (*plan.candidates, *plan.overflow) if c is not chosen]
    return Placement(
        tier=chosen.capacity.flavor.tier,
        flavor=chosen.flavor,
        label_selector=selector(chosen.capacity),
        fallback_strategy=tuple({"label_selector": selector(c.capacity)} for c in others),
        is_twin=chosen.capacity.is_twin,
    )


def selector(capacity: FlavorCapacity) -> dict[str, str]:
    """Ray's label selector for the flavor's ready nodes."""
    labels = {FLAVOR_LABEL: capacity.flavor.name}
    if capacity.closed:
        labels[ray_io.NODE_ID_LABEL] = f"!in({','.join(capacity.closed)})"
    return labels


def _snapshots(nodes: Iterable[Node], tiers: Iterable[str]) -> list[PoolSnapshot]:
    nodes = list(nodes)
    return [PoolSnapshot(tier, 0, tuple(node for node in nodes if node.tier == tier)) for tier in tiers]


def _shape(capacity: FlavorCapacity) -> tuple[Any, ...]:
    return (capacity.shapes, capacity.closed, capacity.slowdown)
