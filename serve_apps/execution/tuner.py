"""Learns how long batches take and how requests arrive, and picks batch sizes and waits: the most throughput within the budget.

Rules, in this order:
1. No batch that is expected to run longer than the budget leaves room for, and none above twice the largest that was ever run.
2. Take all that waits, unless a smaller batch serves clearly more rows per second: some models work in steps of 8 or 16 rows, and
   some grow slower beyond a size.
3. Take less, or wait for more, only where a replay of the last arrivals says that the slowest requests are then earlier, and where
   the load leaves room for it: in small batches the first need not wait for the last, and bursts are better met together.

Source: for one server and a concave service time the greedy rule is near the optimum; measured by `benchmarks/serving/batching.py`.
"""

from __future__ import annotations

from collections import deque

from serve_apps.execution.replay import Rule, Take, best_rule
from serve_apps.execution.run_time import RunTimes

_RUN_FRAC = 0.9
"""The part of the budget that one run may take."""
_GAIN = 1.03
"""A smaller batch must be this much better for each row: what it leaves behind waits for another run."""
_NUM_ARRIVALS = 256
_REFRESH_RUNS = 32
_REPLAY_EVERY_S = 0.2
"""A replay takes about 2 ms, on the server's own thread."""
_RATE_FRACS = (0.98, 0.95, 0.9, 0.8)
"""Smaller batches that are tried: those with this part of the best rate."""
_HEADROOM = 1.2
"""They must serve this many times the load."""


class BatchTuner:
    """`max_rows`: of one call. `budget_s`: for the 99th percentile of queue and run together."""

    def __init__(self, max_rows: int, budget_s: float) -> None:
        self._max_rows, self._budget_s = max_rows, budget_s
        self._times = RunTimes()
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_NUM_ARRIVALS)
        self._num_new = 0
        self._replayed_s = float("-inf")
        self._due = 1
        self._cap = max_rows
        self.rule = Rule(range(max_rows + 1))

    @property
    def max_take(self) -> int:
        """The largest batch that is taken now."""
        return max(self.rule.take)

    def note_arrival(self, rows: int, now_s: float) -> None:
        if self._max_rows > 1:
            self._arrivals.append((now_s, rows))
            self._num_new += 1

    def note_run(self, rows: int, run_s: float) -> None:
        """A batch of `rows` took `run_s`."""
        self._times.note(rows, run_s)
        self._due -= 1
        if self._due <= 0 and self._max_rows > 1:
            # Often at first, when each run teaches much.
            self._due = min(_REFRESH_RUNS, 1 + self._times.num_runs // 8)
            self._refresh()

    def run_s(self, rows: int) -> float:
        """Expected time of a batch; 0 where nothing is known."""
        return self._times.expected_s(rows)

    def choose(self, waiting: int, oldest_s: float, now_s: float) -> tuple[int, float]:
        """(rows to take now, 0.0), or (0, when to ask again). `waiting`: rows; `oldest_s`: when the head came."""
        rule = self.rule
        if rule.wait_s and waiting < rule.take[-1] and now_s < oldest_s + rule.wait_s:
            return 0, oldest_s + rule.wait_s
        return rule.take[min(waiting, self._max_rows)], 0.0

    def _refresh(self) -> None:
        table = self._times.table(self._max_rows)
        most = min(self._max_rows, 2 * self._times.largest)
        while most > 1 and table[most] > _RUN_FRAC * self._budget_s:
            most -= 1
        rates = [rows / max(seconds, 1e-9) for rows, seconds in enumerate(self._times.hoped(self._max_rows))]
        last_s = self._arrivals[-1][0] if self._arrivals else 0.0
        if self._num_new >= _NUM_ARRIVALS and last_s - self._replayed_s >= _REPLAY_EVERY_S:
            self._num_new, self._replayed_s = 0, last_s
            caps = self._caps(rates[: most + 1])
            rule = best_rule(list(self._arrivals), table, [self._take(rates, cap) for cap in caps], self._budget_s)
            self._cap, wait_s = max(rule.take), rule.wait_s
            self._cap = self._max_rows if self._cap >= caps[0] else self._cap
        else:
            wait_s = self.rule.wait_s
        self.rule = Rule(self._take(rates, min(most, self._cap)), wait_s)

    def _take(self, rates: list[float], most: int) -> Take:
        """For each number of waiting rows, how many of them to take."""
        take, best = [0], 1
        for rows in range(1, self._max_rows + 1):
            taken = min(rows, most)
            if rates[taken] >= rates[best]:
                best = taken
            take.append(best if rates[best] > _GAIN * rates[taken] else taken)
        return take

    def _caps(self, rates: list[float]) -> list[int]:
        """The largest batch, then smaller ones that still serve the load with room to spare."""
        first, last = self._arrivals[0][0], self._arrivals[-1][0]
        load = sum(rows for _, rows in self._arrivals) / max(last - first, 1e-9)
        best, caps = max(rates), [len(rates) - 1]
        for frac in _RATE_FRACS:
            rows = next(rows for rows, rate in enumerate(rates) if rate >= frac * best)
            if rates[rows] >= _HEADROOM * load and rows < caps[-1]:
                caps.append(rows)
        return caps
