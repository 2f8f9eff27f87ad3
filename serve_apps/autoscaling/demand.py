"""Pure: how many replicas a load asks for, and where a load is going.

A load that divides (CPU, GPU, requests) is summed over the replicas and divided by the target. Latency does not divide: a queue is
nearly empty until its server is nearly busy. There the measured latency says how busy the replicas are, and that divides.
"""

from __future__ import annotations

import math
from collections import deque

HOLD_FRAC = 0.04
"""Another count must come nearer to the target by this part of it: 2.8 points for 70 %."""
OVER_FRAC = 0.16
"""A replica is added from this much above the target, however near it was before: 81 % for 70."""
REACH_FRAC = 0.13
"""A count is good enough where its replicas would be this little above the target: 79 % for 70."""
LATENCY_HOLD_FRAC = 0.1
"""No change while latency is this near to its target. Source: Kubernetes' HorizontalPodAutoscaler, its tolerance."""
LEAST_QUEUE_RATIO = 1.4
"""A latency target below this many times the service time is out of reach: waiting cannot be made to vanish at any sane cost."""
SURE = 8.0
"""A slope counts from so many of its standard errors: neighbouring samples share most of what they measured."""
BEHIND = 1.1
"""More requests came than were answered, by more than chance has it."""
JUMP_FRAC = 0.15
"""What differs so much from the last two seconds is no noise."""
DOWN_LATENCY_FRAC = 0.85
"""Replicas go only where the latency would then still be this far below its target."""


def share_count(load: float, current: int, target: float) -> int:
    """For a `load` (the metric's sum over all replicas): the count whose replicas come nearest to the target, but for those that would
    be far above it; `current` where that is hardly further away.

    Rounding up, as Kubernetes does, would leave small numbers of replicas far below the target: at a load of 1.5 replicas and a
    target of 70 %, 3 at 50 % where 2 have 75 %.
    """
    enough = max(1, math.ceil(load / (target * (1 + REACH_FRAC)) - 1e-9))
    near = load / target
    best = min((max(enough, math.floor(near)), max(enough, math.ceil(near))), key=lambda count: (abs(load / count - target), count))
    if current < 1 or load > current * target * (1 + OVER_FRAC) or load < current * target * (1 - REACH_FRAC):
        return best
    gain = abs(load / current - target) - abs(load / best - target)
    return best if gain > HOLD_FRAC * target else current


def latency_busy(latency_ms: float, service_ms: float, offered: float) -> float:
    """How busy a replica is, 0..1 and above where it falls behind, from the p95 of latency with and without waiting.

    In a queue with one server and exponential times p95 is `service / (1 - busy)`. It saturates below 1, so that one bad minute does
    not wind the count up; `offered` (requests that came for each that was answered) tells how far above 1 the load is.
    """
    seen = 1.0 - service_ms / latency_ms if latency_ms > service_ms > 0 else 0.0
    return max(seen, offered) if offered > BEHIND else seen


def latency_count(latency_ms: float, service_ms: float, offered: float, current: int, target_ms: float) -> int:
    """The fewest replicas whose p95 would be on target: the same work over more of them, `service / (1 - busy)` each."""
    if latency_ms <= 0 or service_ms <= 0:
        return 0
    busy = latency_busy(latency_ms, service_ms, offered)

    def needed(wanted_ms: float) -> float:
        return current * busy / (1.0 - service_ms / max(wanted_ms, LEAST_QUEUE_RATIO * service_ms))

    if latency_ms > target_ms * (1 + LATENCY_HOLD_FRAC):
        # Nothing to gain where the replicas hardly queue: the target is below what the model itself takes.
        return max(current, math.ceil(needed(target_ms) - 1e-9))
    fewer = math.ceil(needed(DOWN_LATENCY_FRAC * target_ms) - 1e-9)
    return min(current, max(1, fewer))


class Trend:
    """The last samples of a load, one each `SAMPLE_S`, and how fast it rises or falls (per second).

    The slope is the smaller of those of the two halves of the window, and 0 where they disagree: a ramp has the same slope in both, a
    step or a spike has not, and is never projected into the future.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, load: float) -> None:
        self._samples.append((now_s, load))
        while now_s - self._samples[0][0] > self._window_s + 1e-6:
            self._samples.popleft()

    def slope(self) -> float:
        samples = list(self._samples)
        if len(samples) < 6 or samples[-1][0] - samples[0][0] < 0.7 * self._window_s:
            return 0.0
        middle = len(samples) // 2
        early, _ = _line(samples[: middle + 1])
        late, _ = _line(samples[middle:])
        whole, doubt = _line(samples)
        if early * late <= 0 or abs(whole) < SURE * doubt:
            return 0.0
        return math.copysign(min(abs(early), abs(late)), late)

    def level(self, over_s: float) -> float:
        """The mean of the last samples, carried to the time of the latest one along the slope; after a jump, the latest one."""
        now_s, latest = self._samples[-1]
        last = [(at_s, load) for at_s, load in self._samples if now_s - at_s < over_s]
        mean_s = sum(at_s for at_s, _ in last) / len(last)
        level = sum(load for _, load in last) / len(last) + self.slope() * (now_s - mean_s)
        return latest if abs(latest - level) > JUMP_FRAC * level else level

    def clear(self) -> None:
        self._samples.clear()


def _line(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope by least squares, and its standard error."""
    count = len(samples)
    mean_s = sum(at_s for at_s, _ in samples) / count
    mean = sum(value for _, value in samples) / count
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in samples)
    if spread <= 0:
        return 0.0, 0.0
    slope = sum((at_s - mean_s) * (value - mean) for at_s, value in samples) / spread
    rest = sum((value - mean - slope * (at_s - mean_s)) ** 2 for at_s, value in samples)
    return slope, math.sqrt(rest / max(1, count - 2) / spread)
