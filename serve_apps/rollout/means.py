"""Means that may be looked at at any time: confidence sequences, and evidence that a mean is beyond a bound.

Values may have any scale and any distribution with a variance; the statements hold as counts grow (from `LEAST_COUNT` values on), not
for each count. The mixture is a normal one: `spread` is the variance of the differences that it expects.

Source: Robbins 1970; Johari, Koomen, Pekelis, Walsh, "Always Valid Inference", 2022; Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serve_apps.directory.observed import Sum

LEAST_COUNT = 50
TUNED_COUNT = 1000
"""The interval is narrowest, relative to what is possible, around so many values."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`variance`: of the estimate itself, not of the values."""

    value: float
    variance: float


def mean_of(values: Sum, least_sd: float = 0.0) -> Estimate | None:
    """None below `LEAST_COUNT`. `least_sd`: values that were all alike so far are not taken to stay so."""
    if values.count < LEAST_COUNT:
        return None
    mean = values.total / values.count
    variance = max(0.0, values.squares / values.count - mean * mean) * values.count / (values.count - 1)
    return Estimate(mean, max(variance, least_sd**2, 1e-300) / values.count)


def sd_of(values: Sum) -> float:
    """Of the values; 0 without any."""
    if values.count == 0:
        return 0.0
    return math.sqrt(max(0.0, values.squares / values.count - (values.total / values.count) ** 2))


def interval(estimate: Estimate, spread: float, alpha: float) -> tuple[float, float]:
    """A confidence sequence: holds the mean at all times at once, with probability 1 - alpha."""
    information = 1.0 / estimate.variance
    radius = estimate.variance * math.sqrt((information + 1.0 / spread) * (math.log1p(information * spread) + 2.0 * math.log(1.0 / alpha)))
    return estimate.value - radius, estimate.value + radius


def log_evidence(score: float, information: float, spread: float) -> float:
    """Against "the mean is at most 0": logarithm of the likelihood of a half-normal mixture of positive means over that of 0. `score`: sum
    of estimates, each over its variance; `information`: sum of 1 / variance."""
    grown = 1.0 + information * spread
    standard = score * math.sqrt(spread / grown)
    return math.log(2.0) - 0.5 * math.log(grown) + 0.5 * standard**2 + _log_below(standard)


def _log_below(standard: float) -> float:
    """Of the normal distribution; for far negative values the leading term."""
    if standard < -30.0:
        return -0.5 * standard**2 - math.log(-standard * math.sqrt(2.0 * math.pi))
    return math.log(0.5 * math.erfc(-standard / math.sqrt(2.0)))
