"""Learns how long a batch takes by its rows, from the batches that ran: never falling with more rows, straight lines in between."""

from __future__ import annotations

from bisect import bisect_left

_MEMORY = 0.1
_HOPE = 0.1
_OUTLIER = 3.0
"""A run this many times above what is known counts as just that: a pause of the machine is no property of the batch."""
_OLD_RUNS = 4096


class RunTimes:
    """Rows -> seconds. What has not run for `_OLD_RUNS` runs is forgotten, so that a slow time long ago cannot rule out a size for good."""

    def __init__(self) -> None:
        self._known: dict[int, list[float]] = {}  # rows -> [seconds, weight, last run]
        self._sizes: list[int] = []
        self._seconds: list[float] = []
        self.num_runs = 0

    @property
    def largest(self) -> int:
        """The most rows that ran; 1 where nothing did."""
        return max(self._known, default=1)

    def note(self, rows: int, run_s: float) -> None:
        self.num_runs += 1
        known = self._known.get(rows)
        if known is None:
            self._known[rows] = [run_s, 1.0, self.num_runs]
        else:
            step = max(_MEMORY, 1.0 / (known[1] + 1.0))
            known[0] += step * (min(run_s, _OUTLIER * known[0]) - known[0])
            known[1] = min(known[1] + 1.0, 1 / _MEMORY)
            known[2] = self.num_runs
        if self.num_runs == 1:
            self._fit()

    def table(self, max_rows: int) -> list[float]:
        """Expected seconds of 0, 1, … `max_rows` rows."""
        self._fit()
        return [self.expected_s(rows) for rows in range(max_rows + 1)]

    def hoped(self, max_rows: int) -> list[float]:
        """The same with hope where little is known: sizes between those that ran cost as much as the next smaller one, those
        that ran once or twice a little less than measured. So each size is tried before it is ruled out."""
        self._fit()
        hoped, last = [], self._seconds[0] if self._seconds else 0.0
        largest = self.largest
        for rows in range(max_rows + 1):
            known = self._known.get(rows)
            if known is not None:
                last = self.expected_s(rows) * (1.0 - _HOPE / known[1])
            hoped.append(last if rows <= largest else self.expected_s(rows) * (1.0 - _HOPE))
        return hoped

    def expected_s(self, rows: int) -> float:
        """As of the last fit; 0 where nothing is known."""
        sizes, seconds = self._sizes, self._seconds
        if not sizes:
            return 0.0
        at = bisect_left(sizes, rows)
        if at == 0:
            return seconds[0]
        if at < len(sizes):
            low, high = sizes[at - 1], sizes[at]
            return seconds[at - 1] + (seconds[at] - seconds[at - 1]) * (rows - low) / (high - low)
        # Beyond what ran: on along the line from the smallest to the largest, or in proportion where only one size ran.
        if len(sizes) == 1:
            return seconds[0] * rows / sizes[0]
        return seconds[-1] + (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0]) * (rows - sizes[-1])

    def _fit(self) -> None:
        """Pool neighbours that fall (pool adjacent violators), so that noise makes no larger batch look quicker."""
        for rows in [rows for rows, known in self._known.items() if self.num_runs - known[2] > _OLD_RUNS]:
            del self._known[rows]
        pools: list[tuple[float, float, list[int]]] = []
        for rows in sorted(self._known):
            seconds, weight, _ = self._known[rows]
            pool = (seconds, weight, [rows])
            while pools and pools[-1][0] >= pool[0]:
                before = pools.pop()
                total = before[1] + pool[1]
                pool = ((before[0] * before[1] + pool[0] * pool[1]) / total, total, before[2] + pool[2])
            pools.append(pool)
        self._sizes = [rows for pool in pools for rows in pool[2]]
        self._seconds = [pool[0] for pool in pools for _ in pool[2]]
