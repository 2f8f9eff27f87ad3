"""Whether a call should try a flavor that looks second best: when what it may save later is worth more than it costs now.

A flavor on which a task has not run is known by its prior alone. If it were better than believed, every later call would gain;
as many are expected as there have been (Lindy's rule). Scores are log-normal, so the expected gain of a call has a closed form:
that of a call option on the score of today's best place (the expected improvement of Bayesian optimisation).

Invariants: only idle flavors without a run of this size are tried, one at a time; a place that was tried twice without an answer is let be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from fabric.routing import Candidate

LEAST_RUNS = 3
"""Before the best place itself has been measured so often, there is nothing to compare with."""
MOST_TRIES = 2


def expected_gain(best: float, score: float, log_sd: float) -> float:
    """How much lower than `best` a log-normal score (median `score`) is expected to be, counting worse as nothing gained."""
    if log_sd <= 0 or score <= 0:
        return max(0.0, best - score)
    depth = math.log(best / score) / log_sd
    return best * _below(depth) - score * math.exp(log_sd * log_sd / 2) * _below(depth - log_sd)


def expected_loss(best: float, score: float, log_sd: float) -> float:
    """What one try is expected to cost beyond a call on the best place."""
    return max(0.0, score * math.exp(log_sd * log_sd / 2) - best)


class Probing:
    """Remembers what this process has tried."""

    def __init__(self) -> None:
        self._tried: Counter[Hashable] = Counter()

    def find(self, candidates: Sequence[Candidate], num_calls: int, task: str, bucket: int) -> Candidate | None:
        """The candidate that is most worth a try, if any is. `num_calls`: how often the task has been called so far."""
        if not candidates:
            return None
        best = min(candidates, key=lambda one: one.base_score)
        if best.estimate.num_runs < LEAST_RUNS:
            return None
        found, most = None, 0.0
        for one in candidates:
            if one.estimate.num_runs or self._tried[task, bucket, one.flavor, one.variant.name] >= MOST_TRIES:
                continue
            log_sd = one.estimate.log_sd
            worth = num_calls * expected_gain(best.base_score, one.base_score, log_sd) - expected_loss(
                best.base_score, one.base_score, log_sd
            )
            if worth > most:
                found, most = one, worth
        return found

    def note(self, candidate: Candidate, task: str, bucket: int) -> None:
        """This one is being tried."""
        self._tried[task, bucket, candidate.flavor, candidate.variant.name] += 1


def _below(depth: float) -> float:
    """The standard normal's distribution function."""
    return 0.5 * math.erfc(-depth / math.sqrt(2.0))
