"""Decides how many replicas a service has from the CPU that they use, and measures that use.

100 % means that a replica keeps busy, over a few seconds, as many cores as it may use: one core for `num_cpus` up to 1, else
`num_cpus` cores. It is measured from the process's own CPU time (all threads, native ones too), not from the machine's, and not
against the small share that a replica reserves. On a shared laptop this settles by itself: replicas beyond the number of free cores
only share them, their mean falls below the target, and growth stops.

The policy's class runs inside Serve's controller, which receives it by value: it uses nothing but the standard library.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric.errors import UnknownNameError, UserError

CPU_UTILIZATION = "cpu_utilization"
METRICS = (CPU_UTILIZATION,)
TOLERANCE_FRAC = 0.1
"""No change while the mean is this near to the target. Source: Kubernetes' HorizontalPodAutoscaler, its default."""

WINDOW_S = 4.0
"""One measurement covers this long."""
REPORT_EVERY_S = 2.0
LOOK_BACK_S = 6.0
UPSCALE_DELAY_S = 3.0
DOWNSCALE_DELAY_S = 60.0
"""Growing is quick and shrinking slow, as in Kubernetes: a replica that was dropped too early is dear to start again."""


@dataclass(frozen=True, slots=True)
class Autoscale:
    """What `deploy(autoscale=…)` asked for; `target` in percent."""

    metric: str
    target: float
    min: int
    max: int


def parse_autoscale(given: Mapping[str, Any]) -> Autoscale:
    """`{"metric": "cpu_utilization", "target": 70, "min": 2, "max": 10}`; `metric` and `min` (1) may be left out.

    Raises: `UnknownNameError` for a key or metric that is not known, `UserError` (`bad_autoscale`) for a value out of range.
    """
    known = ("metric", "target", "min", "max")
    for key in given:
        if key not in known:
            raise UnknownNameError.of("autoscale key", str(key), known)
    for key in ("target", "max"):
        if key not in given:
            raise UserError(f"autoscale needs {key!r}", code="bad_autoscale", hint='as in {"target": 70, "max": 4}')
    metric = str(given.get("metric", CPU_UTILIZATION))
    if metric not in METRICS:
        raise UnknownNameError.of("autoscale metric", metric, METRICS)
    target, least, most = given["target"], given.get("min", 1), given["max"]
    if isinstance(target, bool) or not isinstance(target, int | float) or not 1 <= target <= 100:
        raise UserError(f"autoscale target is {target!r}; it must be a percentage from 1 to 100", code="bad_autoscale")
    for key, value in (("min", least), ("max", most)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"autoscale {key} is {value!r}; it must be a whole number from 1", code="bad_autoscale")
    if least > most:
        raise UserError(f"autoscale min is {least}, above max {most}", code="bad_autoscale")
    return Autoscale(metric=metric, target=float(target), min=least, max=most)


def desired_replicas(reported: Sequence[float], current: int, target: float, tolerance_frac: float = TOLERANCE_FRAC) -> int:
    """ceil(current * mean / target), or `current` within the tolerance. `reported`: percent of each replica that has measured.

    Replicas that have not reported yet count as idle when the others ask for more, and as being on target when they ask for
    fewer; where that turns the answer round, nothing changes.

    Source: Kubernetes documentation, "Horizontal Pod Autoscaling", algorithm details.
    """
    if not reported or current < 1:
        return current
    ratio = sum(reported) / len(reported) / target
    num_silent = max(0, current - len(reported))
    if num_silent:
        cautious = (sum(reported) + num_silent * (0.0 if ratio > 1 else target)) / current / target
        if (cautious > 1) != (ratio > 1):
            return current
        ratio = cautious
    if abs(ratio - 1) <= tolerance_frac:
        return current
    return math.ceil(current * ratio - 1e-9)


class CpuPolicy:
    """Serve's autoscaling policy. Serve itself applies the delays and the bounds around what this returns.

    `context` is Serve's AutoscalingContext, read by attribute only.
    """

    def __init__(self, metric: str, target: float, tolerance_frac: float, min_replicas: int, max_replicas: int) -> None:
        self._metric = metric
        self._target = target
        self._tolerance_frac = tolerance_frac
        self._min_replicas = min_replicas
        self._max_replicas = max_replicas

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        reported = list((context.aggregated_metrics or {}).get(self._metric, {}).values())
        # The target and not the number that runs: replicas on their way are already an answer to the load that is measured now.
        wanted = desired_replicas(reported, context.target_num_replicas, self._target, self._tolerance_frac)
        return min(self._max_replicas, max(self._min_replicas, wanted)), {}


class CpuMeter:
    """Turns readings of a process's CPU time into percent of its allowance, averaged over the last `window_s`."""

    def __init__(self, num_cpus: float, cpu_s: float, now_s: float, window_s: float = WINDOW_S) -> None:
        self._allowance_cpus = max(1.0, num_cpus)
        self._window_s = window_s
        self._readings = deque([(now_s, cpu_s)])

    def read(self, cpu_s: float, now_s: float) -> float:
        """`cpu_s`: CPU seconds used since the process began; `now_s`: monotonic clock."""
        self._readings.append((now_s, cpu_s))
        # The youngest reading that is a whole window old stays: it is where the window starts.
        while len(self._readings) > 2 and now_s - self._readings[1][0] >= self._window_s:
            self._readings.popleft()
        start_s, start_cpu_s = self._readings[0]
        elapsed_s = now_s - start_s
        return 100.0 * (cpu_s - start_cpu_s) / elapsed_s / self._allowance_cpus if elapsed_s > 0 else 0.0
