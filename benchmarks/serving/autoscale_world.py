"""Replicas on virtual time: the autoscaler's own policy and meter, in a world with starts, delays, noise and loading.

Replicas start after a lognormal time and then load, which burns CPU that is no request's; they report once a second, at a phase of
their own, and the report is on its way for a while. The load divides evenly, as least-connections does it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from autoscale_score import LEAST, MOST, TARGET, Second, clairvoyant

from serve_apps.autoscaling.meter import ReplicaMeter
from serve_apps.autoscaling.serve_policy import REPORT_EVERY_S, ServePolicy

STEP_S = 0.1
NUM_CPUS = 0.1


@dataclass(frozen=True, slots=True)
class Conditions:
    """`start_s`: median time from the decision to a replica that answers; `burst_s` of loading after that, `leaked` of it not forgiven;
    `idle`: percent that a replica uses without any load."""

    start_s: float = 2.5
    start_log_sd: float = 0.25
    delay_s: float = 0.2
    noise: float = 0.03
    burst_s: float = 1.0
    leaked: float = 0.5
    stop_s: float = 0.3
    idle: float = 0.0


@dataclass(slots=True)
class _Replica:
    ready_s: float
    phase_s: float
    cpu_s: float = 0.0
    meter: ReplicaMeter | None = None
    next_s: float = 0.0
    sent: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    series: dict[str, list[Any]] = field(default_factory=dict)
    stopped_s: float = math.inf

    def runs(self, now_s: float) -> bool:
        return self.ready_s <= now_s < self.stopped_s


def run(load: Sequence[float], seed: int, conditions: Conditions, policy: Any = None) -> list[Second]:
    """One run; `load` per second, as in `autoscale_loads`."""
    world = _World(
        random.Random(seed), conditions, clairvoyant(load[0]), policy or ServePolicy("cpu_utilization", TARGET, LEAST, MOST, 60.0)
    )
    return [world.second(at, value) for at, value in enumerate(load)]


class _World:
    def __init__(self, rng: random.Random, conditions: Conditions, count: int, policy: Any) -> None:
        self._rng, self._conditions, self._policy = rng, conditions, policy
        self._replicas = [_Replica(-30.0, rng.random()) for _ in range(count)]
        self._num_wanted = count

    def second(self, at: int, load: float) -> Second:
        running = used = 0.0
        steps = round(1 / STEP_S)
        shaken = load * self._rng.gauss(1.0, self._conditions.noise)
        for step in range(steps):
            now_s = at + step * STEP_S
            alive = [one for one in self._replicas if one.runs(now_s)]
            for one in alive:
                self._burn(one, shaken / len(alive), now_s)
            running += len(alive) / steps
            used += (100 * shaken / len(alive) + self._conditions.idle) / steps
            self._decide(now_s + STEP_S)
        return Second(load, running, used)

    def _burn(self, one: _Replica, share: float, now_s: float) -> None:
        conditions, now_s = self._conditions, now_s + STEP_S
        if one.meter is None:
            one.meter = ReplicaMeter(NUM_CPUS, now_s=now_s, num_ongoing=lambda: 0, read_cpu_s=lambda: one.cpu_s)
            one.next_s = now_s + one.phase_s * REPORT_EVERY_S
        one.cpu_s += (share + conditions.idle / 100) * NUM_CPUS * STEP_S * self._rng.gauss(1.0, conditions.noise)
        if now_s - one.ready_s < conditions.burst_s:
            one.cpu_s += conditions.leaked * STEP_S
        if now_s >= one.next_s:
            one.next_s += REPORT_EVERY_S
            one.sent.append((now_s, one.meter.sample(now_s)))
        while one.sent and now_s - one.sent[0][0] >= conditions.delay_s:
            sent_s, values = one.sent.pop(0)
            for metric, value in values.items():
                points = one.series.setdefault(metric, [])
                points.append(SimpleNamespace(value=value, timestamp=sent_s))
                del points[:-5]

    def _decide(self, now_s: float) -> None:
        self._replicas = [one for one in self._replicas if now_s < one.stopped_s]
        running = [one for one in self._replicas if one.runs(now_s)]
        context = SimpleNamespace(
            current_time=now_s,
            current_num_replicas=len(running),
            target_num_replicas=self._num_wanted,
            raw_metrics=_by_metric(running),
            total_queued_requests=0.0,
            app_name="virtual",
        )
        self._scale(self._policy(context)[0], now_s)

    def _scale(self, wanted: int, now_s: float) -> None:
        conditions = self._conditions
        staying = [one for one in self._replicas if one.stopped_s == math.inf]
        for _ in range(wanted - len(staying)):
            start_s = conditions.start_s * math.exp(self._rng.gauss(0, conditions.start_log_sd))
            self._replicas.append(_Replica(now_s + start_s, self._rng.random()))
        # As in Serve: those that do not run yet go first.
        for one in sorted(staying, key=lambda each: -each.ready_s)[: max(0, len(staying) - wanted)]:
            one.stopped_s = now_s + (conditions.stop_s if one.runs(now_s) else 0.0)
        self._num_wanted = wanted


def _by_metric(replicas: Sequence[_Replica]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in replicas:
        for metric, points in one.series.items():
            found.setdefault(metric, {})[f"{id(one)}"] = points
    return found
