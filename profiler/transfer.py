"""Predicts what a task takes on a flavor where it has not run, from what it took elsewhere and from what others took there.

A Gaussian process over cells, a cell being a task on a flavor (`profiler.covariance`), answers with mean and standard deviation of log
seconds. Without rows it is the roofline prior and says so by a wide deviation; a row of the cell itself brings it down to that row's noise.
Deviations are no narrower than the errors that the rows show when each is predicted from the others. The same rows give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fabric.types import Flavor, Forecast
from profiler.covariance import DEFAULT, Cells, Floats, Spread, covariance, joined, specs_of
from profiler.tuning import left_out, tuned

RUN_LOG_SD = 0.1
JITTER = 1e-6
MAX_ROWS = 400
"""A fit with so many takes 30 ms."""
LEAST_ROWS_TO_CALIBRATE = 10
MOST_WIDENED = 3.0
BASE_S = 1.0


class Row(NamedTuple):
    """What was measured: the mean log seconds of `num_runs` runs of a task on a flavor, each with the deviation `log_sd`.

    `family`: tasks that behave alike. `log_size`: natural log of the batch or input size, where there is one. `dtype`: whose peak counts.
    """

    task: str
    family: str
    flavor: str
    log_s: float
    num_runs: int = 1
    log_size: float | None = None
    dtype: str = "fp32"
    log_sd: float = RUN_LOG_SD


class Transfer:
    """A fit to `rows`; `predict` takes tens of microseconds, and less for what was asked before."""

    def __init__(
        self, catalogue: Mapping[str, Flavor], rows: Iterable[Row], *, spread: Spread | None = None, base_s: float = BASE_S
    ) -> None:
        """`spread` None: the defaults; `fitted` tunes it. `base_s`: what anything is taken to need on the reference hardware by itself.

        Rows that are not finite or have no runs are left out, and of more than `MAX_ROWS` those with fewest runs: `num_skipped` in all.
        """
        given = list(rows)
        self.rows = _usable(given)
        self.num_skipped = len(given) - len(self.rows)
        self.spread = spread or DEFAULT
        self._catalogue, self._base_log_s = catalogue, math.log(base_s)
        self._codes: tuple[dict[str, int], ...] = ({}, {}, {})
        self._centres = _centres(self.rows)
        self._answers: dict[tuple[str, str, str, float | None, str], Forecast] = {}
        for row in self.rows:
            for names, name in zip(self._codes, row[:3], strict=True):
                names.setdefault(name, len(names))
        self._cells = self._encoded(self.rows)
        self._values = np.array([row.log_s for row in self.rows]) - self._base_log_s - self._cells.mean()
        self._noise = np.array([row.log_sd**2 / row.num_runs + JITTER for row in self.rows])
        self._solve()

    @classmethod
    def fitted(cls, catalogue: Mapping[str, Flavor], rows: Iterable[Row], *, base_s: float = BASE_S) -> Transfer:
        """Tunes the spread to these rows by leave-one-out first: up to a second. Keep its `spread` for later fits."""
        first = cls(catalogue, rows, base_s=base_s)
        first.spread = tuned(first._cells, first._values, first._noise)
        first._solve()
        return first

    def predict(self, task: str, family: str, flavor: str, *, log_size: float | None = None, dtype: str = "fp32") -> Forecast:
        """Log seconds of one run of this task there."""
        key = (task, family, flavor, log_size, dtype)
        if (known := self._answers.get(key)) is None:
            known = self._answers[key] = self._predicted(Row(task, family, flavor, 0.0, 1, log_size, dtype))
        return known

    def _solve(self) -> None:
        self._answers.clear()
        self.widened = 1.0
        if not self.rows:
            return
        total = covariance(self._cells, self._cells, self.spread) + np.diag(self._noise)
        self._precision = np.linalg.inv(total)
        self._weights = self._precision @ self._values
        self.widened = _widening(total, self._values)

    def _predicted(self, asked: Row) -> Forecast:
        cell = self._encoded([asked])
        mean = self._base_log_s + float(cell.mean()[0])
        both = covariance(cell, joined(self._cells, cell), self.spread)[0]
        shared, var = both[:-1], float(both[-1])
        if self.rows:
            mean += float(shared @ self._weights)
            var -= float(shared @ self._precision @ shared)
        return Forecast(mean, self.widened * math.sqrt(max(var, JITTER)))

    def _encoded(self, rows: Sequence[Row]) -> Cells:
        codes = [[names.get(name, -1) for names, name in zip(self._codes, row[:3], strict=True)] for row in rows]
        specs = [specs_of(self._catalogue.get(row.flavor), row.dtype) for row in rows]
        table = np.array(codes, dtype=np.int64).reshape(len(rows), 3)
        figures = np.array(specs, dtype=np.float64).reshape(len(rows), 3)
        sizes = self._sizes(rows)
        return Cells(table[:, 0], table[:, 1], table[:, 2], sizes, figures[:, 0], figures[:, 1], figures[:, 2])

    def _sizes(self, rows: Sequence[Row]) -> Floats:
        sizes = [0.0 if row.log_size is None else row.log_size - self._centres.get(row.family, row.log_size) for row in rows]
        return np.array(sizes, dtype=np.float64)


def _usable(rows: Sequence[Row]) -> list[Row]:
    good = [row for row in rows if row.num_runs > 0 and all(map(math.isfinite, (row.log_s, row.log_sd, row.log_size or 0.0)))]
    return sorted(good, key=lambda row: -row.num_runs)[:MAX_ROWS] if len(good) > MAX_ROWS else good


def _centres(rows: Sequence[Row]) -> dict[str, float]:
    """Family -> the mean log size of its rows: a task of unknown size is taken to be of that one."""
    sizes: dict[str, list[float]] = {}
    for row in rows:
        if row.log_size is not None:
            sizes.setdefault(row.family, []).append(row.log_size)
    return {family: sum(found) / len(found) for family, found in sizes.items()}


def _widening(total: Floats, values: Floats) -> float:
    """By how much deviations must grow for 68 and 95 % of the rows to lie within one and two of them, each predicted from the others."""
    if len(values) < LEAST_ROWS_TO_CALIBRATE:
        return 1.0
    error, variance = left_out(total, values)
    score = np.abs(error) / np.sqrt(variance)
    one, two = np.quantile(score, (0.683, 0.954))
    return float(np.clip(max(one, two / 2.0), 1.0, MOST_WIDENED))
