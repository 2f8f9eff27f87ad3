"""Learns how long batches take and how requests arrive, and picks batch sizes and waits: the most throughput within the budget.

Rules, in this order:
1. No batch that is expected to run longer than the budget leaves room for, and none above twice the largest that was ever run.
2. Take no more than the smallest batch that serves nearly the most rows per second (larger ones only make the first wait for the
   last), and up to there all that waits, unless less of it is clearly quicker for each row: some models work in steps of 8 rows.
3. Take still less, or wait for more, only where replays of the last arrivals say that the slowest requests are then earlier, and where
   the load leaves room for it.

Source: for one server and a concave service time the greedy rule is near the optimum; measured by `benchmarks/serving/batching.py`.
"""

from __future__ import annotations

from collections import deque

from serve_apps.execution.replay import Rule, RuleChoice, Take, tail_s
from serve_apps.execution.run_time import RunTimes

_RUN_FRAC = 0.9
"""The part of the budget that one run may take."""
_ENOUGH_FRAC = 0.988
"""Of the best rate."""
_FEW_RUNS = 8
"""Larger batches are ruled out only after so many runs of them."""
_GAIN = 1.03
"""A smaller batch must be this much better for each row: what it leaves behind waits for another run."""
_NUM_ARRIVALS = 256
_REFRESH_RUNS = 32
_REPLAY_EVERY_S = 0.5
"""A replay takes about 2 to 5 ms, on the server's own thread."""
_IDLE_FRAC = 0.05
"""A model that would be less busy than this one row at a time has no batches worth a thought."""
_FULL = "full"
_SMALLER = {"0.95": 0.95, "0.9": 0.9, "0.8": 0.8}
"""Smaller batches that are tried: those with this part of the best rate."""
_HEADROOM = 1.2
"""They must serve this many times the load."""
_WAITS = {"wait 0.02": 0.02, "wait 0.05": 0.05, "wait 0.1": 0.1, "wait 0.2": 0.2}
"""Of the budget. Longer waits never won in `benchmarks/serving/batching.py`."""
_LEAST_WAIT_S = 0.001
"""What an event loop's timer can keep."""


class BatchTuner:
    """`max_rows`: of one call. `budget_s`: for the 99th percentile of queue and run together."""

    def __init__(self, max_rows: int, budget_s: float) -> None:
        self._max_rows, self._budget_s = max_rows, budget_s
        self._times = RunTimes()
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_NUM_ARRIVALS)
        self._num_new = 0
        self._replayed_s = float("-inf")
        self._due = 1
        self._choice = RuleChoice(_FULL)
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
            self._due = min(max(_REFRESH_RUNS, self._max_rows // 2), 1 + self._times.num_runs // 8)
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
        hoped, feared = self._times.bounds(self._max_rows)
        rates = [rows / max(seconds, 1e-9) for rows, seconds in enumerate(hoped)]
        best = max(rows / max(feared[rows], 1e-9) for rows in range(1, most + 1))
        rules = self._rules(rates, most, best)
        last_s = self._arrivals[-1][0] if self._arrivals else 0.0
        is_due = self._num_new >= _NUM_ARRIVALS and last_s - self._replayed_s >= _REPLAY_EVERY_S
        if is_due and self._load() * table[1] > _IDLE_FRAC:
            self._num_new, self._replayed_s = 0, last_s
            arrivals = list(self._arrivals)
            self._choice.note({name: tail_s(arrivals, table, rule) for name, rule in rules.items()})
        self.rule = rules.get(self._choice.name, rules[_FULL])

    def _rules(self, rates: list[float], most: int, best: float) -> dict[str, Rule]:
        """By name: the full batch, smaller ones that serve the load with room to spare, waits for the full one.

        `rates`: rows per second by rows, as hoped; `best`: the most that is sure.
        """
        quickest = max(range(1, most + 1), key=lambda rows: rates[rows])

        def enough(rate: float) -> int:
            return next((rows for rows in range(1, most + 1) if rates[rows] >= rate), quickest)

        cap = enough(_ENOUGH_FRAC * best)
        if self._times.weight_above(cap) < _FEW_RUNS:
            cap = min(most, 2 * cap)
        full = self._take(rates, cap)
        rules = {_FULL: Rule(full)}
        load = self._load()
        for name, frac in _SMALLER.items():
            rows = enough(frac * best)
            if rates[rows] >= _HEADROOM * load and rows < full[-1]:
                rules[name] = Rule(self._take(rates, rows))
        if full[-1] > 1:
            waits = {name: frac * self._budget_s for name, frac in _WAITS.items()}
            rules |= {name: Rule(full, wait_s) for name, wait_s in waits.items() if wait_s >= _LEAST_WAIT_S}
        return rules

    def _take(self, rates: list[float], most: int) -> Take:
        """For each number of waiting rows, how many of them to take."""
        take, best = [0], 1
        for rows in range(1, self._max_rows + 1):
            taken = min(rows, most)
            if rates[taken] >= rates[best]:
                best = taken
            take.append(best if rates[best] > _GAIN * rates[taken] else taken)
        return take

    def _load(self) -> float:
        """Rows per second of the last arrivals."""
        if len(self._arrivals) < 2:
            return 0.0
        return sum(rows for _, rows in self._arrivals) / max(self._arrivals[-1][0] - self._arrivals[0][0], 1e-9)
