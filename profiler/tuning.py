"""Fits the covariance to the rows at hand: each row is predicted from all the others, and the best predicting variances win.

Leave-one-out in closed form (Rasmussen and Williams, Gaussian Processes for Machine Learning, 5.4.2). The score is the density of Student's
t with four degrees of freedom: measured tables have cells that no model explains, and these must not widen the doubt of all others.
A log-normal prior around the defaults holds what few rows do not teach. Deterministic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiler.covariance import DEFAULT, LEAST_CELL_VAR, TUNED, Cells, Floats, Spread, fixed_part, tuned_parts

DEGREES = 4.0
PRIOR_LOG_SD = 0.7
NUM_SWEEPS = 12
FIRST_STEP = 1.0
LAST_STEP = 0.12
LEAST_ROWS = 8
"""Fewer say nothing of how rows differ."""
MAX_ROWS = 150
"""More are thinned: a fit takes a second with so many."""


def tuned(cells: Cells, values: Floats, noise: Floats) -> Spread:
    """The spread that predicts `values` (log seconds less the prior mean) best, each from the others. `noise`: variance of each."""
    if len(values) < LEAST_ROWS:
        return DEFAULT
    if len(values) > MAX_ROWS:
        keep = np.linspace(0, len(values) - 1, MAX_ROWS).astype(np.int64)
        cells, values, noise = _taken(cells, keep), values[keep], noise[keep]
    search = _Search(cells, values, noise)
    names = [*TUNED, "length"]
    start = np.log([DEFAULT[name] for name in names])
    found = {name: float(value) for name, value in zip(names, np.exp(search.best(start)), strict=True)}
    return {**found, "cell": max(found["cell"], LEAST_CELL_VAR)}


def left_out(covariance: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Of each row, predicted from all others: value less prediction, and the variance of that."""
    precision = np.linalg.inv(covariance)
    variance = 1.0 / np.maximum(np.diag(precision), 1e-12)
    return (precision @ values) * variance, variance


class _Search:
    """A pattern search over log variances: one at a time up and down, by ever smaller steps."""

    def __init__(self, cells: Cells, values: Floats, noise: Floats) -> None:
        self._cells, self._values = cells, values
        self._fixed = fixed_part(cells, cells) + np.diag(noise)
        self._prior = np.log([*TUNED.values(), DEFAULT["length"]])
        self._length = np.nan
        self._parts: Floats = np.empty(0)

    def best(self, start: Floats) -> Floats:
        place, score = start.copy(), self._score(start)
        steps = np.full(len(place), FIRST_STEP)
        for _ in range(NUM_SWEEPS):
            for number in range(len(place)):
                for sign in (1.0, -1.0):
                    tried = place.copy()
                    tried[number] += sign * steps[number]
                    if (other := self._score(tried)) > score:
                        place, score = tried, other
                        steps[number] *= 1.5
                        break
                else:
                    steps[number] *= 0.5
            if steps.max() < LAST_STEP:
                break
        return place

    def _score(self, place: Floats) -> float:
        length = float(np.exp(place[-1]))
        if length != self._length:
            self._parts, self._length = np.stack(tuned_parts(self._cells, self._cells, length)), length
        covariance = self._fixed + np.tensordot(np.exp(place[:-1]), self._parts, axes=1)
        error, variance = left_out(covariance, self._values)
        density = -0.5 * np.log(variance) - 0.5 * (DEGREES + 1) * np.log1p(error**2 / (variance * DEGREES))
        return float(density.sum() - 0.5 * (((place - self._prior) / PRIOR_LOG_SD) ** 2).sum())


def _taken(cells: Cells, keep: NDArray[np.int64]) -> Cells:
    return Cells(*(getattr(cells, name)[keep] for name in Cells.__slots__))
