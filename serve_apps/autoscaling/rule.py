"""What `deploy(autoscale=…)` asks for, checked: a metric with its target, the bounds, and when an idle model goes to zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.errors import UnknownNameError, UserError

CPU_UTILIZATION = "cpu_utilization"
GPU_UTILIZATION = "gpu_utilization"
ONGOING_REQUESTS = "ongoing_requests"
LATENCY_P95 = "latency_p95"
TARGETS: Mapping[str, tuple[float, float, str]] = {
    CPU_UTILIZATION: (1, 100, "a percentage from 1 to 100"),
    GPU_UTILIZATION: (1, 100, "a percentage from 1 to 100"),
    ONGOING_REQUESTS: (0.1, 10_000, "requests per replica, from 0.1"),
    LATENCY_P95: (0.1, 600_000, "milliseconds, from 0.1"),
}
"""Metric -> least and greatest target, and how to say so."""
IDLE_S = 60.0
_KEYS = ("metric", "target", "min", "max", "idle_s")


@dataclass(frozen=True, slots=True)
class Autoscale:
    """`target`: percent of what a replica may use (`cpu_utilization` of its `num_cpus`, `gpu_utilization` of its cards), requests per
    replica, or milliseconds. With `min` 0 a model that has had no request for `idle_s` goes to zero; a request wakes it."""

    metric: str
    target: float
    min: int
    max: int
    idle_s: float = IDLE_S


def parse_autoscale(given: Mapping[str, Any]) -> Autoscale:
    """`{"metric": "cpu_utilization", "target": 70, "min": 2, "max": 10}`; `metric`, `min` (1) and `idle_s` (60) may be left out.

    Raises: `UnknownNameError` for a key or metric that is not known, `UserError` (`bad_autoscale`) for a value out of range.
    """
    for key in given:
        if key not in _KEYS:
            raise UnknownNameError.of("autoscale key", str(key), _KEYS)
    for key in ("target", "max"):
        if key not in given:
            raise _bad(f"autoscale needs {key!r}", 'as in {"target": 70, "max": 4}')
    metric = str(given.get("metric", CPU_UTILIZATION))
    if metric not in TARGETS:
        raise UnknownNameError.of("autoscale metric", metric, TARGETS)
    target, idle_s = given["target"], given.get("idle_s", IDLE_S)
    low, high, words = TARGETS[metric]
    if not _is_number(target) or not low <= target <= high:
        raise _bad(f"autoscale target is {target!r}; for {metric} it must be {words}")
    if not _is_number(idle_s) or not idle_s > 0:
        raise _bad(f"autoscale idle_s is {idle_s!r}; it must be seconds, above 0")
    least, most = _count("min", given.get("min", 1), 0), _count("max", given["max"], 1)
    if least > most:
        raise _bad(f"autoscale min is {least}, above max {most}")
    return Autoscale(metric, float(target), least, most, float(idle_s))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _bad(f"autoscale {key} is {value!r}; it must be a whole number from {least}")
    return value


def _bad(message: str, hint: str | None = None) -> UserError:
    return UserError(message, code="bad_autoscale", hint=hint)
