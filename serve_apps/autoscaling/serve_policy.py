"""Carries the autoscaler into Serve's controller: Serve's context becomes facts, and every decision is logged and told on.

Serve applies its own delays and factors around a policy; `serve_options` turns them off, so that there is one place that decides.
Serve keeps no door to a policy's state: what was decided is therefore told to an actor, where the rule names one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from serve_apps.autoscaling.decide import REPORT_EVERY_S, Facts, Report, Scaler
from serve_apps.autoscaling.record import Decision
from serve_apps.autoscaling.rule import Autoscale

log = logging.getLogger("ray.serve")

LOOK_BACK_S = 5.0
"""Serve records a value every fifth of it, at most every `REPORT_EVERY_S`; the policy reads the latest one only."""


class ServePolicy:
    """Made by Serve once per deployment of a model; `tell`: name, namespace and method of the actor that receives
    (application, record), empty for none."""

    def __init__(self, metric: str, target: float, min: int, max: int, idle_s: float, tell: list[str] | None = None) -> None:
        self.scaler = Scaler(Autoscale(metric, target, min, max, idle_s))
        self._tell = tell or []
        self._actor: Any = None

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        before = self.scaler.records[-1] if self.scaler.records else None
        count = self.scaler.decide(facts_of(context))
        latest = self.scaler.records[-1] if self.scaler.records else None
        if latest is not None and latest is not before:
            self._say(str(context.app_name or ""), latest)
        return count, {"records": [one.as_json() for one in self.scaler.records]}

    def _say(self, app: str, decision: Decision) -> None:
        told = decision.as_json()
        pairs = " ".join(f"{key}={value}" for key, value in told.items() if key != "at")
        log.info("autoscale model=%s %s", app, pairs)
        if not self._tell:
            return
        # A directory that is away must not stop the controller: the line above stays, and the next decision tries again.
        with contextlib.suppress(Exception):
            self._actor = self._actor or _find(self._tell[0], self._tell[1])
            getattr(self._actor, self._tell[2]).remote(app, told)


def facts_of(context: Any) -> Facts:
    """What Serve's AutoscalingContext says: of every replica the latest value of each metric, and its age."""
    series: Mapping[str, Mapping[Any, Any]] = context.raw_metrics or {}
    values: dict[str, dict[str, float]] = {}
    latest: dict[str, float] = {}
    for name, replicas in series.items():
        for replica, points in replicas.items():
            if points:
                values.setdefault(str(replica), {})[name] = float(points[-1].value)
                latest[str(replica)] = max(latest.get(str(replica), 0.0), float(points[-1].timestamp))
    now_s = float(context.current_time)
    reports = {name: Report(found, max(0.0, now_s - latest[name])) for name, found in values.items()}
    return Facts(now_s, context.current_num_replicas, context.target_num_replicas, reports, float(context.total_queued_requests or 0.0))


def serve_options(rule: Autoscale, *, tell: tuple[str, str, str] | None = None) -> dict[str, Any]:
    """Keyword arguments of Serve's AutoscalingConfig, but for `initial_replicas` and `policy`; and under `policy_kwargs` the arguments
    of the policy, for AutoscalingPolicy(policy_function=ServePolicy, …)."""
    kwargs = {"metric": rule.metric, "target": rule.target, "min": rule.min, "max": rule.max, "idle_s": rule.idle_s}
    return {
        "min_replicas": rule.min,
        "max_replicas": rule.max,
        "metrics_interval_s": REPORT_EVERY_S,
        "look_back_period_s": LOOK_BACK_S,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "downscale_to_zero_delay_s": 0.0,
        "policy_kwargs": {**kwargs, "tell": list(tell or ())},
    }


def _find(name: str, namespace: str) -> Any:
    import ray

    return ray.get_actor(name, namespace=namespace)
