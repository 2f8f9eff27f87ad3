"""Measures one replica for the autoscaler: its CPU and GPU use, its requests in flight and its latency, over the last seconds.

CPU is the process's own (all threads, native ones too) as percent of the replica's `num_cpus`: 100 % of a replica of 0.1 CPU is a
tenth of a core. CPU that loading took (a session that is optimised behind the first answers) is told by `forgive` and not counted.

Invariant: `note` costs well under a microsecond and never blocks, and may be called from another thread than `sample`; percentiles
are worked out only when the replica is asked.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from serve_apps.autoscaling.rule import CPU_UTILIZATION, GPU_UTILIZATION, ONGOING_REQUESTS

WINDOW_S = 1.0
"""One figure of use covers this long: as long as from one report to the next. Whoever decides takes a mean of several."""
LATENCY_WINDOW_S = 10.0
"""p95 needs more requests than a mean."""
MOST_OFFERED = 4.0
"""With hardly an answer nobody can tell how far a replica falls behind."""
MAX_KEPT = 4096
"""Of the latest requests."""


class CpuMeter:
    """Turns readings of a process's CPU time into percent of its allowance, averaged over the last `window_s`."""

    def __init__(self, num_cpus: float, cpu_s: float, now_s: float, window_s: float = WINDOW_S) -> None:
        self._num_cpus = num_cpus
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
        return max(0.0, 100.0 * (cpu_s - start_cpu_s) / elapsed_s / self._num_cpus) if elapsed_s > 0 else 0.0


class ReplicaMeter:
    """Made when the replica is ready; `sample` is the body of Serve's hook `record_autoscaling_stats`.

    `num_ongoing`: requests that wait or run here now. `read_gpu`: percent of this replica's cards, None where they do not say.
    """

    def __init__(
        self,
        num_cpus: float,
        *,
        now_s: float,
        num_ongoing: Callable[[], int],
        read_cpu_s: Callable[[], float] = time.process_time,
        read_gpu: Callable[[], float | None] | None = None,
    ) -> None:
        self._cpu = CpuMeter(num_cpus, read_cpu_s(), now_s)
        self._read_cpu_s, self._read_gpu, self._num_ongoing = read_cpu_s, read_gpu, num_ongoing
        self._forgiven_s = 0.0
        self._done: deque[tuple[float, float, float]] = deque(maxlen=MAX_KEPT)
        self._num_done = 0
        self._busy_s = now_s
        self._flow: deque[tuple[float, int, int]] = deque([(now_s, 0, 0)])

    def note(self, now_s: float, latency_s: float, service_s: float) -> None:
        """A request was answered: `latency_s` since it came, of which it ran for `service_s`."""
        self._num_done += 1
        self._done.append((now_s, latency_s, service_s))

    def forgive(self, cpu_s: float) -> None:
        """CPU seconds that were spent on loading and not on requests."""
        self._forgiven_s += cpu_s

    def sample(self, now_s: float) -> dict[str, float]:
        """`cpu_utilization`, `gpu_utilization` (where there is one), `ongoing_requests`, `requests_per_s`, `latency_p95_ms` and
        `service_p95_ms` (0: no request), `offered` (requests that came for each that was answered; above 1 it falls behind), `idle_s`."""
        num_ongoing = self._num_ongoing()
        if num_ongoing > 0:
            self._busy_s = now_s
        elif self._done:
            self._busy_s = max(self._busy_s, self._done[-1][0])
        while self._done and now_s - self._done[0][0] > LATENCY_WINDOW_S:
            self._done.popleft()
        done = list(self._done)
        rate, offered = self._arrivals(now_s, num_ongoing)
        figures = {
            CPU_UTILIZATION: self._cpu.read(self._read_cpu_s() - self._forgiven_s, now_s),
            ONGOING_REQUESTS: float(num_ongoing),
            "requests_per_s": rate,
            "latency_p95_ms": 1e3 * _p95([one[1] for one in done]),
            "service_p95_ms": 1e3 * _p95([one[2] for one in done]),
            "offered": offered,
            "idle_s": now_s - self._busy_s,
        }
        gpu = self._read_gpu() if self._read_gpu is not None else None
        return figures if gpu is None else {**figures, GPU_UTILIZATION: gpu}

    def _arrivals(self, now_s: float, num_ongoing: int) -> tuple[float, float]:
        """Requests that came per second, and for each that was answered."""
        self._flow.append((now_s, self._num_done + num_ongoing, self._num_done))
        while len(self._flow) > 2 and now_s - self._flow[1][0] >= LATENCY_WINDOW_S:
            self._flow.popleft()
        start_s, came, done = self._flow[0]
        num_came, num_done = self._flow[-1][1] - came, self._flow[-1][2] - done
        if now_s <= start_s or num_came <= 0:
            return 0.0, 0.0
        return num_came / (now_s - start_s), min(MOST_OFFERED, num_came / num_done if num_done else MOST_OFFERED)


def _p95(values: list[float]) -> float:
    """The nearest rank; 0 of none."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1] if values else 0.0
