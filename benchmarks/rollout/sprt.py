"""The fewest requests in which any test could tell a bad version from one at its guard's bound: Wald's sequential probability ratio test.

A guard allows a set of versions, and nothing is assumed of their latencies but what the guard says. The member that is hardest to tell from
the bad version differs from it only in the share that the guard bounds (of slow, failed or disagreeing requests) and stands at the bound.
So the bound is that of two known Bernoulli distributions, the champion known exactly, one hypothesis, one guard. Wald 1945; his expected
number leaves out what the last request adds, and so is a little below what any real test takes.
"""

from __future__ import annotations

import math

ALPHA = 0.01
BETA = 0.05


def divergence(rate: float, other: float) -> float:
    """Kullback-Leibler, of Bernoulli(`rate`) from Bernoulli(`other`), in nats."""
    total = 0.0
    for p, q in ((rate, other), (1 - rate, 1 - other)):
        if p > 0:
            total += p * math.log(p / q)
    return total


def evidence_needed(alpha: float = ALPHA, beta: float = BETA) -> float:
    """The expected log likelihood ratio at the end, under the bad version."""
    return (1 - beta) * math.log((1 - beta) / alpha) + beta * math.log(beta / (1 - alpha))


def sprt_requests(rate: float, allowed: float, *, alpha: float = ALPHA, beta: float = BETA) -> float:
    """Expected requests of the bad version until a test says so, at least 1. `rate`: its share of bad requests; `allowed`: the guard's."""
    return max(1.0, evidence_needed(alpha, beta) / divergence(rate, allowed))
