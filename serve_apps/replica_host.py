"""One version of a model at work in this process: built, behind its HTTP server, with its principals and usage lines. Knows no Ray."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from fabric.api.tokens import Principal
from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RejectedError, UserError
from fabric.process_memory import held_bytes
from serve_apps.autoscaling.meter import ReplicaMeter
from serve_apps.build_model import build_model
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.requests import BeatAnswer
from serve_apps.directory.table import ReplicaId
from serve_apps.execution.served import Served
from serve_apps.ingress.access import Access
from serve_apps.local_door import LocalDoor, open_door
from serve_apps.observer import Observer
from serve_apps.oip.answer import Answer, Stream
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.inference import Call
from serve_apps.oip.rest import RestApp
from serve_apps.replica_settings import ReplicaSettings, RunsPort
from serve_apps.server import Server, bind
from serve_apps.shadow.mirror import Mirror
from serve_apps.usage.log import UsageLog, UsageRecord
from serve_apps.usage.ship import ship

log = logging.getLogger("ray.serve")

SHIP_EVERY_S = 60.0
STATS_AGE_S = 3.0
"""What the autoscaler's own questions measured is good enough for a report."""
_LAST_ANSWERS_S = 1.0


class ReplicaHost:
    """Answers from the moment that it is made. `open_server`: gives the server that answers by an app; else one listens on a free
    port of `settings.host`."""

    def __init__(
        self, settings: ReplicaSettings, replica_id: ReplicaId, *, node_id: str = "", model: Served | None = None,
        is_bridge: bool = False, open_server: Callable[[RestApp], Server] | None = None, runs: RunsPort | None = None,
        read_gpu: Callable[[], float | None] | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.id = replica_id
        self._node_id = node_id
        self._is_bridge = is_bridge
        self.model = model or build_model(settings, self.store)
        self.access = Access(is_open=settings.is_open, user=settings.user)
        self._usage = UsageLog(settings.usage_path, str(replica_id))
        self._shipped_s = time.monotonic()
        now_s = time.monotonic()
        self._meter = ReplicaMeter(settings.num_cpus, now_s=now_s, num_ongoing=lambda: self.model.num_ongoing, read_gpu=read_gpu)
        self._sampled: tuple[float, dict[str, float]] = (-math.inf, {})
        self._runs = runs
        self.model.tell(self._meter.note if runs is None else self._heard)
        self._observer = Observer()
        self._mirror = Mirror(self._observer, lambda: self.model.num_ongoing)
        self.plane = DataPlane(takes_aliases=True)
        self.plane.add(self.model)
        app = RestApp(self.plane, authorize=self.access.authorize, record=self._record, watch=self._watch)
        self._door: LocalDoor | None = None
        self.server = open_server(app) if open_server else self._listen(app)

    @functools.cached_property
    def store(self) -> ArtefactStore:
        """Made when it is first needed: a remote one imports its client, for which no request should wait."""
        return ArtefactStore(self.settings.storage)

    def _listen(self, app: RestApp) -> Server:
        self._door = open_door(self.settings.doors_path)
        more = () if self._door is None else (self._door.listener,)
        return Server(app, bind(self.settings.host), *more).start()

    def stats(self, max_age_s: float = 0.0) -> dict[str, float]:
        """Its use and its latency of the last seconds, by name; measured anew unless that was done within `max_age_s`."""
        now_s = time.monotonic()
        if now_s - self._sampled[0] > max_age_s:
            self._sampled = (now_s, {**self._meter.sample(now_s), "memory_bytes": float(held_bytes((os.getpid(),)))})
        return self._sampled[1]

    def report(self) -> ReplicaReport:
        settings, stats = self.settings, {**self.stats(STATS_AGE_S), **self.model.batch_counts()}
        return ReplicaReport(
            self.id, settings.name, settings.version, settings.host, self.server.port, self.model.metadata, self._node_id,
            settings.flavor, stats, self._is_bridge, self._observer.observed(), settings.deployment,
            "" if self._door is None else str(self._door.path),
        )  # fmt: skip

    def heed(self, answer: BeatAnswer) -> None:
        """What the directory says to a beat. Of a model with side effects no request is copied."""
        self._mirror.order = None if self.model.metadata.has_side_effects else answer.shadow

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        """Python's remote `predict`, counted as requests are. Raises: what `predict` raised."""
        began_s = time.perf_counter()
        status = 500
        try:
            result = await self.model.call(arguments)
            status = 200
        except (UserError, RejectedError):
            status = 400
            raise
        finally:
            self._observer.answered(status, 1e3 * (time.perf_counter() - began_s))
        return result

    def _watch(self, call: Call, answer: Answer | Stream | None, status: int, duration_s: float, /) -> None:
        self._observer.answered(status, 1e3 * duration_s)
        if self._mirror.order is not None and status == 200 and isinstance(answer, Answer):
            self._mirror.offer(call, answer)

    def _heard(self, now_s: float, latency_s: float, service_s: float) -> None:
        self._meter.note(now_s, latency_s, service_s)
        if self._runs is not None:
            self._runs.note(service_s)

    def tend(self) -> None:
        """Report runs and ship usage lines when it is time. Raises: FabricError, OSError; it may be called again."""
        if self._runs is not None:
            self._runs.flush(time.monotonic())
        if time.monotonic() - self._shipped_s >= SHIP_EVERY_S:
            self._shipped_s = time.monotonic()
            self._usage.rotate()
            ship(self.settings.usage_path, self.store, current=self._usage.current)

    def stop(self, drain_s: float) -> None:
        """Refuse what comes, finish what runs, free the model."""
        with contextlib.suppress(TimeoutError):
            self.server.run(self.model.close()).result(drain_s)
        self.server.stop(_LAST_ANSWERS_S)
        if self._door is not None:
            self._door.close()
        self._usage.close()
        try:
            ship(self.settings.usage_path, self.store)
        except (FabricError, OSError) as error:
            log.warning("usage lines stay on this machine: %s", error)

    def _record(
        self, *, request_id: str, principal: Principal | None, model: str, version: str, units: int, status: int, duration_s: float
    ) -> None:
        user = principal.user if principal else ""
        line = UsageRecord(request_id, time.time(), user, model, version, self.settings.flavor, units, status, duration_s * 1e3)
        try:
            self._usage.append(line)
        except OSError as error:
            # A full disk must not end serving; what was not written is said, once per request, where people look.
            log.error("usage lost request=%s user=%s model=%s units=%d: %s", request_id, user, model, units, error)
