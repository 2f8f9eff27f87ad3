"""Decides which parked process adopts which model, who leaves when all CPUs are taken, and when Serve is asked for a replica.

Facts in, commands out; no clock and no process is touched here. Invariants: at most one parked process and at most one adopted
one per CPU; a process that answers requests is never told to leave to make room; a model that fails waits longer each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric.errors import FabricError, ModelError, RejectedError, RuntimeFault
from serve_apps.parking.facts import (
    Adopt,
    AdoptionFailed,
    AskReplica,
    Command,
    Dropped,
    Ended,
    Event,
    Fork,
    Parked,
    ProcessEvent,
    Refuse,
    ReplicaGone,
    ReplicaRegistered,
    Retire,
    SlotId,
    StartZygote,
    Used,
    Wanted,
    WentLive,
    ZygoteLost,
    ZygoteReady,
)
from serve_apps.parking.rules import ModelVersion, Rules

_FORKING, _PARKED, _ADOPTING, _LIVE, _LEAVING = "forking", "parked", "adopting", "live", "leaving"
_RECENT_S = 2.0
"""Traffic goes on while the last request is at most this old."""
_PAUSE_S, _MOST_PAUSE_S = 0.1, 10.0


@dataclass(slots=True)
class _Process:
    slot: SlotId
    state: str
    since_s: float
    model: ModelVersion | None = None
    used_s: float = 0.0
    num_in_flight: int = 0
    asked_s: float | None = None
    idle_s: float = 0.0


class _Request(NamedTuple):
    """One model that waits, since when, and how long it may be idle once it is awake."""

    since_s: float
    idle_s: float


class _Failure(NamedTuple):
    num: int
    until_s: float
    error: FabricError


@dataclass(slots=True)
class _Zygote:
    """`num_lost`: how often it, or a child of it, died before it was of use; `start_s`: when the next may be started."""

    is_up: bool = False
    is_starting: bool = False
    num_lost: int = 0
    start_s: float = 0.0


@dataclass(slots=True)
class LotBook:
    """What the lot knows. All times are monotonic seconds."""

    rules: Rules
    _zygote: _Zygote = field(default_factory=_Zygote)
    _processes: dict[SlotId, _Process] = field(default_factory=dict)
    _waiting: dict[ModelVersion, _Request] = field(default_factory=dict)
    _failures: dict[ModelVersion, _Failure] = field(default_factory=dict)
    _replicated: set[ModelVersion] = field(default_factory=set)
    _last_slot: int = 0

    def handle(self, event: Event, *, now_s: float) -> list[Command]:
        """Take in one fact; what is to be done now, in order."""
        commands = list(self._take(event, now_s))
        commands += self._expire(now_s)
        commands += self._place(now_s)
        commands += self._review(now_s)
        commands += self._refill(now_s)
        return commands

    def slot_of(self, model: ModelVersion) -> SlotId | None:
        """The process that serves this version now."""
        return next((each.slot for each in self._processes.values() if each.model == model and each.state == _LIVE), None)

    @property
    def num_parked(self) -> int:
        return sum(each.state == _PARKED for each in self._processes.values())

    # -- what a fact changes ------------------------------------------------------------------------------------------------

    def _take(self, event: Event, now_s: float) -> Iterator[Command]:
        match event:
            case Wanted(model, idle_s):
                yield from self._want(model, self.rules.idle_s if idle_s is None else idle_s, now_s)
            case Dropped(model):
                yield from self._drop(model)
            case ReplicaRegistered(model):
                self._replicated.add(model)
            case ReplicaGone(model):
                self._replicated.discard(model)
            case ZygoteReady():
                self._zygote.is_up, self._zygote.is_starting = True, False
            case ZygoteLost():
                self._lose_zygote(now_s)
            case Parked() | WentLive() | AdoptionFailed() | Ended() | Used():
                yield from self._take_of_process(event, now_s)

    def _take_of_process(self, event: ProcessEvent, now_s: float) -> Iterator[Command]:
        process = self._processes.get(event.slot)
        if process is None:
            return
        match event:
            case Parked():
                self._zygote.num_lost = 0
                self._enter(process, _PARKED, now_s)
            case WentLive():
                self._enter(process, _LIVE, now_s)
            case AdoptionFailed(_, error):
                yield from self._fail(process, error, now_s)
            case Ended(_, reason):
                yield from self._end(process, reason, now_s)
            case Used(_, num_in_flight):
                process.used_s, process.num_in_flight = now_s, num_in_flight

    def _want(self, model: ModelVersion, idle_s: float, now_s: float) -> Iterator[Command]:
        failure = self._failures.get(model)
        if failure is not None and now_s < failure.until_s:
            yield Refuse(model, failure.error)
        elif not any(each.model == model and each.state in (_ADOPTING, _LIVE) for each in self._processes.values()):
            self._waiting.setdefault(model, _Request(now_s, idle_s))

    def _enter(self, process: _Process, state: str, now_s: float) -> None:
        if process.state == _LEAVING:
            return
        process.state, process.since_s, process.used_s = state, now_s, now_s
        # The request that woke it is on its way.
        process.num_in_flight = int(state == _LIVE)

    def _fail(self, process: _Process, error: FabricError, now_s: float) -> Iterator[Command]:
        if process.model is None:
            return
        process.state = _LEAVING
        self._note_failure(process.model, error, now_s)
        yield Refuse(process.model, error)

    def _end(self, process: _Process, reason: str, now_s: float) -> Iterator[Command]:
        del self._processes[process.slot]
        if process.state == _FORKING:
            self._slow_down(now_s)
        if process.model is None or process.state == _LEAVING:
            return
        message = f"the process of model {process.model.name!r} version {process.model.version} ended: {reason}"
        error = ModelError(message, code="model_crashed", hint="`fabric model logs` shows what it wrote")
        if process.state == _LIVE and now_s - process.since_s >= self.rules.sound_after_s:
            self._failures.pop(process.model, None)
        # One bad request must not take the model from the others: a first crash after it was loaded costs no wait.
        self._note_failure(process.model, error, now_s, is_forgivable=process.state == _LIVE)
        if process.state == _ADOPTING:
            yield Refuse(process.model, error)

    def _note_failure(self, model: ModelVersion, error: FabricError, now_s: float, *, is_forgivable: bool = False) -> None:
        before = self._failures.get(model)
        num = 1 if before is None else before.num + 1
        delay_s = 0.0 if is_forgivable and num == 1 else min(self.rules.most_backoff_s, self.rules.backoff_s * 2 ** (num - 1))
        self._failures[model] = _Failure(num, now_s + delay_s, error)

    def _lose_zygote(self, now_s: float) -> None:
        """Its children end with it; each is told of as `Ended` of its own."""
        self._zygote.is_up = self._zygote.is_starting = False
        self._slow_down(now_s)
        self._processes = {slot: each for slot, each in self._processes.items() if each.state != _FORKING}

    def _slow_down(self, now_s: float) -> None:
        """What cannot come up must not be started as fast as it dies; the first time may be chance."""
        zygote = self._zygote
        zygote.start_s = now_s if zygote.num_lost == 0 else now_s + min(_MOST_PAUSE_S, _PAUSE_S * 2**zygote.num_lost)
        zygote.num_lost += 1

    def _drop(self, model: ModelVersion) -> Iterator[Command]:
        self._failures.pop(model, None)
        self._replicated.discard(model)
        self._waiting.pop(model, None)
        yield Refuse(model, RejectedError(f"model {model.name!r} was unloaded", code="unloading", retryable=False))
        for process in self._of(_ADOPTING, _LIVE):
            if process.model == model:
                yield self._leave(process, "the model was unloaded")

    # -- what follows from all of it ----------------------------------------------------------------------------------------

    def _expire(self, now_s: float) -> Iterator[Command]:
        for model, request in list(self._waiting.items()):
            if now_s - request.since_s >= self.rules.wait_s:
                del self._waiting[model]
                yield Refuse(model, self._why_not())

    def _why_not(self) -> FabricError:
        if not self._zygote.is_up:
            return RuntimeFault("no warm process can be started on this node", code="no_warm_process")
        message = f"all {self.rules.num_cpus} CPUs of this node answer requests of other models"
        return RejectedError(message, code="no_free_process", retryable=True, retry_after_s=1.0)

    def _place(self, now_s: float) -> Iterator[Command]:
        """Parked processes adopt those that wait, first come first served; where no CPU is left, the least recently used leaves."""
        for model in list(self._waiting):
            parked = next(iter(self._of(_PARKED)), None)
            if parked is None:
                return
            busy = self._of(_ADOPTING, _LIVE)
            if len(busy) >= self.rules.num_cpus:
                idle = [each for each in busy if each.state == _LIVE and each.num_in_flight == 0]
                if not idle:
                    return
                yield self._leave(min(idle, key=lambda each: each.used_s), "another model woke and all CPUs are taken")
            parked.idle_s = self._waiting.pop(model).idle_s
            parked.state, parked.model, parked.since_s = _ADOPTING, model, now_s
            yield Adopt(parked.slot, model)

    def _review(self, now_s: float) -> Iterator[Command]:
        rules = self.rules
        for process in self._of(_LIVE):
            assert process.model is not None
            idle_s = 0.0 if process.num_in_flight else now_s - process.used_s
            if process.model in self._replicated:
                yield self._leave(process, "a Serve replica took over")
            elif idle_s >= process.idle_s:
                yield self._leave(process, f"no request for {process.idle_s:g} s")
            elif process.asked_s is None or now_s - process.asked_s >= rules.ask_again_s:
                if process.num_in_flight >= rules.ask_at_in_flight:
                    process.asked_s = now_s
                    yield AskReplica(process.model, f"{process.num_in_flight} requests at once")
                elif now_s - process.since_s >= rules.ask_after_s and idle_s <= _RECENT_S:
                    process.asked_s = now_s
                    yield AskReplica(process.model, f"requests for {rules.ask_after_s:g} s")

    def _refill(self, now_s: float) -> Iterator[Command]:
        """Fork what is missing, but never beside a model that is just waking: its first answer has the CPU to itself."""
        if now_s < self._zygote.start_s:
            return
        if not self._zygote.is_up:
            if not self._zygote.is_starting:
                self._zygote.is_starting = True
                yield StartZygote()
            return
        num_ready = len(self._of(_FORKING, _PARKED))
        is_waking = any(each.state == _ADOPTING or now_s - each.since_s < self.rules.settle_s for each in self._of(_ADOPTING, _LIVE))
        if is_waking and not (self._waiting and num_ready == 0):
            return
        num_free = max(1, self.rules.num_cpus - len(self._of(_ADOPTING, _LIVE)))
        for _ in range(min(self.rules.max_parked, num_free) - num_ready):
            self._last_slot += 1
            slot = SlotId(self._last_slot)
            self._processes[slot] = _Process(slot, _FORKING, now_s)
            yield Fork(slot)

    def _of(self, *states: str) -> list[_Process]:
        return [each for each in self._processes.values() if each.state in states]

    def _leave(self, process: _Process, reason: str) -> Retire:
        process.state = _LEAVING
        return Retire(process.slot, reason)
