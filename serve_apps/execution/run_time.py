"""Learns how long a batch takes by its rows, from the batches that ran: never falling with more rows.

A straight line through all sizes, and for each size its own deviation from it, believed as far as the evidence goes: where runs of
one size differ among themselves as much as sizes differ from the line, the line is all there is. So a smooth model is known after a
few runs of any sizes, and one that works in steps is known step by step.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

_MOST_WEIGHT = 300.0
"""Of one size: what is older than so many runs of it fades."""
_BIAS, _BIAS_MEMORY, _DOUBTED_WEIGHT = 0.2, 0.05, 5.0
"""Where runs of all sizes come out this much off what was expected the machine has changed: all that was learnt weighs little."""
_OUTLIER = 1.5
"""A run this many times above what is known counts as just that, and what is hardly known and so far above a run is forgotten: a pause
of the machine is no property of the batch, and pauses only ever make it slower."""
_HARDLY_KNOWN = 5.0
_WELL_KNOWN = 10.0
_STEPPED = 0.001
"""Sizes that differ from the line by more than 3 %, the square of it."""
_OLD_RUNS = 4096
_FIRST_NOISE = 0.01
"""The variance of a run among those of its size, over the square of their mean, before anything is known: 10 %."""


@dataclass(slots=True)
class _Size:
    seconds: float
    weight: float = 1.0
    last_run: int = 0


class RunTimes:
    """Rows -> seconds. What has not run for `_OLD_RUNS` runs is forgotten, so that a slow time long ago cannot rule out a size for good."""

    def __init__(self) -> None:
        self._known: dict[int, _Size] = {}
        self._noise = _FIRST_NOISE
        self._num_repeats = 0.0
        self._spread = 0.0
        self._bias = 0.0
        self._line = (0.0, 0.0)
        self._sizes: list[int] = []
        self._ratios: list[float] = []
        self.num_runs = 0

    @property
    def largest(self) -> int:
        """The most rows that ran; 1 where nothing did."""
        return max(self._known, default=1)

    def weight_above(self, rows: int) -> float:
        """How many runs of more rows are remembered."""
        return sum(known.weight for size, known in self._known.items() if size > rows)

    def note(self, rows: int, run_s: float) -> None:
        self.num_runs += 1
        known = self._known.get(rows)
        if known is None:
            self._known[rows] = _Size(run_s, 1.0, self.num_runs)
        else:
            if known.weight < _HARDLY_KNOWN and run_s * _OUTLIER < known.seconds:
                known.seconds, known.weight = run_s, 1.0
            change = min(run_s, _OUTLIER * known.seconds) - known.seconds
            self._note_bias(change / max(known.seconds, 1e-12))
            # Against the mean of w runs a run deviates by (1 + 1/w) of the variance.
            deviation = (change / max(known.seconds, 1e-12)) ** 2 * known.weight / (known.weight + 1.0)
            self._num_repeats = min(self._num_repeats + 1.0, 500.0)
            self._noise += (deviation - self._noise) / (self._num_repeats + 10.0)
            known.weight = min(known.weight + 1.0, _MOST_WEIGHT)
            known.seconds += change / known.weight
            known.last_run = self.num_runs
        if self.num_runs == 1:
            self._fit()

    def _note_bias(self, off: float) -> None:
        self._bias += _BIAS_MEMORY * (max(-1.0, min(1.0, off)) - self._bias)
        if abs(self._bias) > _BIAS:
            self._bias = 0.0
            for known in self._known.values():
                known.weight = min(known.weight, _DOUBTED_WEIGHT)

    def table(self, max_rows: int) -> list[float]:
        """Expected seconds of 0, 1, … `max_rows` rows."""
        self._fit()
        return _rising([self.expected_s(rows) for rows in range(max_rows + 1)])

    def bounds(self, max_rows: int) -> tuple[list[float], list[float]]:
        """(hoped, feared): the same less and more by what is in doubt. What is hardly known is tried before it is ruled out, and
        measured before others are ruled out for it."""
        self._fit()
        hoped, feared, least, largest = [], [], 0.0, self.largest
        for rows in range(max_rows + 1):
            known, expected_s = self._known.get(rows), self.expected_s(rows)
            noise = self._noise / known.weight if known is not None else math.inf
            doubt = math.sqrt(self._spread if known is None else self._spread * noise / max(self._spread + noise, 1e-12))
            feared.append(expected_s * (1.0 + doubt))
            is_open = known is None and self._spread > _STEPPED and rows < largest
            is_sure = known is not None and known.weight >= _WELL_KNOWN
            # At least what fewer rows take; and just that, until it was seen, where models work in steps.
            least = least if is_open else max(least, expected_s if is_sure else expected_s * (1.0 - min(0.5, doubt)))
            hoped.append(least)
        return hoped, feared

    def expected_s(self, rows: int) -> float:
        """As of the last fit; 0 where nothing is known."""
        if not self._sizes:
            return 0.0
        return max(0.0, self._line[0] + self._line[1] * rows) * self._ratio(rows)

    def _ratio(self, rows: int) -> float:
        """What was learnt of this size over the line: between two sizes in proportion, beyond the last as there."""
        sizes, ratios = self._sizes, self._ratios
        at = bisect_left(sizes, rows)
        if at == 0:
            return ratios[0]
        if at == len(sizes):
            return ratios[-1]
        part = (rows - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
        return ratios[at - 1] + (ratios[at] - ratios[at - 1]) * part

    def _fit(self) -> None:
        for rows in [rows for rows, known in self._known.items() if self.num_runs - known.last_run > _OLD_RUNS]:
            del self._known[rows]
        self._sizes = sorted(self._known)
        known = [self._known[rows] for rows in self._sizes]
        self._line = _line([(rows, one.seconds, one.weight) for rows, one in zip(self._sizes, known, strict=True)])
        fixed, slope = self._line
        off = [one.seconds / max(fixed + slope * rows, 1e-12) - 1.0 for rows, one in zip(self._sizes, known, strict=True)]
        weights = [one.weight for one in known]
        excess = sum(weight * gap * gap - self._noise for weight, gap in zip(weights, off, strict=True))
        # Sizes differ from the line only where that is twice what chance would do.
        is_chance = excess < 2.0 * self._noise * math.sqrt(2.0 * len(known))
        self._spread = 0.0 if is_chance else excess / max(sum(weights), 1e-12)
        self._ratios = [
            1.0 + gap * self._spread / max(self._spread + self._noise / weight, 1e-12) for weight, gap in zip(weights, off, strict=True)
        ]


def _line(points: list[tuple[int, float, float]]) -> tuple[float, float]:
    """(fixed, per row), neither below 0, by least squares of relative errors. Where only one size ran, more rows are taken to
    cost nothing, until they are tried."""
    if len(points) < 2:
        return (points[0][1], 0.0) if points else (0.0, 0.0)
    parts = [(rows, seconds, weight / max(seconds, 1e-12) ** 2) for rows, seconds, weight in points]
    total = sum(weight for _, _, weight in parts)
    mean_rows = sum(rows * weight for rows, _, weight in parts) / total
    mean_s = sum(seconds * weight for _, seconds, weight in parts) / total
    across = sum(weight * (rows - mean_rows) ** 2 for rows, _, weight in parts)
    slope = max(0.0, sum(weight * (rows - mean_rows) * (seconds - mean_s) for rows, seconds, weight in parts) / across)
    fixed = mean_s - slope * mean_rows
    if fixed < 0.0:  # through the origin
        return 0.0, sum(rows * seconds * weight for rows, seconds, weight in parts) / sum(rows * rows * weight for rows, _, weight in parts)
    return fixed, slope


def _rising(seconds: list[float]) -> list[float]:
    """Pool neighbours that fall (pool adjacent violators), so that noise makes no larger batch look quicker."""
    pools: list[tuple[float, int]] = []
    for one in seconds:
        mean, count = one, 1
        while pools and pools[-1][0] > mean:
            before, num = pools.pop()
            mean, count = (before * num + mean * count) / (num + count), num + count
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]
