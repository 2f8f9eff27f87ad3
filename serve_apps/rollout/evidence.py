"""Evidence that may be looked at as often as one likes: an e-process about one proportion, or about two that are seen side by side.

The null is `rate1 <= scale * rate0 + shift` (or `>=`). Each block of requests multiplies the wealth of a gambler who bets against it; while
the null holds the wealth is no more than 1 on average at any time that one may choose to stop, so it passes 1/alpha with probability alpha
at most, however often it is looked at (Ville). One gambler for each size of difference; what counts is their mean, weighted.

- A gambler's odds on a block are q(block) / p(block), p being what in the null is nearest to his q (the reverse information projection).
  For a convex null that is the best possible bet, and valid although the champion's own rate is unknown and may change from block to block.
  Source: Turner, Ly, Gruenwald, "Generic E-variables for exact sequential k-sample tests", 2024.
- Where the null is that no more of the challenger's are counted than of the champion's (a latency at the champion's quantile), the odds are
  those of the split: of all that were counted in a block, how many fell on the challenger. Requests are dealt at random, so that is
  hypergeometric whatever happened in the block: a slow minute that hits both sides is no evidence at all. Source: Fisher 1935.
- New gamblers enter as time passes, with weights that sum to 1 at most: what breaks late is not forgiven for the good time before it.
  Source: Shin, Ramdas, Rinaldo, "E-detectors", 2023; Howard et al., "Time-uniform confidence sequences", 2021, for mixtures.
- Of a block of many requests each counts in part only (`MOST_INDEPENDENT`): what happens within half a second is shared. The odds to a
  power below 1 are a valid bet still (Jensen).
- A count may be fractional (a request on a bucket's border): by the inequality of means that only makes the bet more careful.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy

AGAINST = ((0.1, 0.01), (0.2, 0.02), (0.4, 0.06), (0.8, 0.21), (1.2, 0.26), (1.6, 0.22), (2.4, 0.12), (3.2, 0.05), (4.5, 0.03), (7.0, 0.02))
"""How far beyond the bound, in log-odds, and the weight of it: most on what is worth a rollback and can be seen in a hundred requests."""
WITHIN = ((0.2, 0.1), (0.4, 0.2), (0.8, 0.3), (1.6, 0.3), (3.2, 0.1))
MOST_INDEPENDENT = 20
"""So many of the challenger's requests of one block count in full."""
_LEAST = 1e-9
_MOST_LOG = 1e6
Floats = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]


@dataclass(slots=True)
class Evidence:
    """`is_against` True: the null is "within the bound", and what grows is the evidence that it is not. False: the null is "at the bound
    or beyond". `logs`: logarithms of the wealth of each size; `best_log_e`: the highest that their mean ever was."""

    scale: float
    shift: float
    is_against: bool
    logs: list[float] = field(default_factory=list)
    best_log_e: float = 0.0

    @property
    def log_e(self) -> float:
        return _log_sum(self.logs) if self.logs else 0.0

    @property
    def p_value(self) -> float:
        """Always valid: how likely evidence as strong as this is, at any time, while the null holds."""
        return min(1.0, math.exp(-max(0.0, self.best_log_e)))

    def add(self, rate0: float, champion: tuple[float, float], challenger: tuple[float, float], entering: float) -> None:
        """A block: (requests, of which counted) of both sides. `rate0`: the champion's rate as it was known before the block; `entering`:
        the weight of the gamblers that enter with it."""
        sizes = AGAINST if self.is_against else WITHIN
        if not self.logs:
            self.logs = [-math.inf] * len(sizes)
        signed = [size if self.is_against else -size for size, _ in sizes]
        if self.scale == 1.0 and self.shift == 0.0:
            odds = split_log_odds(champion, challenger, signed)
        else:
            odds = self._rate_log_odds(min(1 - _LEAST, max(_LEAST, rate0)), champion, challenger, signed)
        part = min(1.0, MOST_INDEPENDENT / challenger[0])
        for index, (_, weight) in enumerate(sizes):
            entered = _log_add(self.logs[index], math.log(weight * entering)) if entering > 0 else self.logs[index]
            self.logs[index] = min(_MOST_LOG, entered + part * odds[index])
        self.best_log_e = max(self.best_log_e, self.log_e)

    def _rate_log_odds(
        self, rate0: float, champion: tuple[float, float], challenger: tuple[float, float], sizes: list[float]
    ) -> list[float]:
        bound = min(1 - _LEAST, max(_LEAST, self.scale * rate0 + self.shift))
        odds = bound / (1 - bound) * numpy.exp(sizes)
        rates1 = _inside(odds / (1 + odds))
        null0, null1 = nearest_in_null(rate0, champion[0], rates1, challenger[0], self.scale, self.shift)
        found = _log_ratio(rate0, null0, *champion) + _log_ratio(rates1, null1, *challenger)
        return [float(one) for one in found]


def split_log_odds(champion: tuple[float, float], challenger: tuple[float, float], sizes: list[float]) -> list[float]:
    """For each size (logarithm of an odds ratio): how much likelier it makes the challenger's part of all that were counted than chance
    does. Counts are whole here."""
    (num0, counted0), (num1, counted1) = champion, challenger
    counted = int(counted0 + counted1)
    least, most = max(0, counted - int(num0)), min(int(num1), counted)
    if most <= least:
        return [0.0] * len(sizes)
    chances = numpy.arange(least, most)
    steps = (counted - chances) * (num1 - chances) / ((chances + 1) * (num0 - counted + chances + 1))
    logs = numpy.concatenate(([0.0], numpy.cumsum(numpy.log(steps))))
    logs -= logs.max()
    places = numpy.arange(most - least + 1)
    tilts = numpy.asarray(sizes)[:, None] * places
    tops = (logs + tilts).max(axis=1)
    norms = tops + numpy.log(numpy.exp(logs + tilts - tops[:, None]).sum(axis=1)) - math.log(float(numpy.exp(logs).sum()))
    return [float(size * (counted1 - least) - norm) for size, norm in zip(sizes, norms, strict=True)]


def nearest_in_null(rate0: float, num0: float, rates1: Floats, num1: float, scale: float, shift: float) -> tuple[Floats, Floats]:
    """For each of `rates1`: the pair on the line `p1 = scale * p0 + shift` from which `num0` draws at `rate0` and `num1` at that rate are
    least told apart."""
    if scale == 0.0:
        return numpy.full_like(rates1, rate0), numpy.full_like(rates1, min(1 - _LEAST, max(_LEAST, shift)))
    crossing = _inside((rates1 - shift) / scale)
    lowest, highest = max(_LEAST, -shift / scale + _LEAST), min(1 - _LEAST, (1 - shift) / scale - _LEAST)
    low = numpy.clip(numpy.minimum(rate0, crossing), lowest, highest)
    high = numpy.clip(numpy.maximum(rate0, crossing), lowest, highest)
    p0 = numpy.clip((num0 * rate0 + num1 * crossing) / (num0 + num1), low, high)
    for _ in range(60):  # Newton, and halving where it would leave the bracket
        p1 = scale * p0 + shift
        rest0, rest1 = 1 - p0, 1 - p1
        gradient = num0 * (p0 - rate0) / (p0 * rest0) + scale * num1 * (p1 - rates1) / (p1 * rest1)
        curve = num0 * (rate0 / (p0 * p0) + (1 - rate0) / (rest0 * rest0))
        curve += scale * scale * num1 * (rates1 / (p1 * p1) + (1 - rates1) / (rest1 * rest1))
        is_past = gradient > 0
        low, high = numpy.where(is_past, low, p0), numpy.where(is_past, p0, high)
        following = p0 - gradient / curve
        is_out = (following < low) | (following > high)
        following = numpy.where(is_out, 0.5 * (low + high), following)
        moved, p0 = numpy.abs(following - p0), following
        if (moved <= 1e-5 * p0).all():  # the next one would move by the square of that
            break
    return p0, _inside(scale * p0 + shift)


def _log_ratio(rate: float | Floats, null: Floats, num: float, counted: float) -> Floats:
    found: Floats = counted * numpy.log(rate / null) + (num - counted) * numpy.log((1 - rate) / (1 - null))
    return found


def _inside(rates: Floats) -> Floats:
    inside: Floats = numpy.minimum(1 - _LEAST, numpy.maximum(_LEAST, rates))
    return inside


def _log_add(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _log_sum(logs: list[float]) -> float:
    high = max(logs)
    return high if high == -math.inf else high + math.log(sum(math.exp(one - high) for one in logs))
