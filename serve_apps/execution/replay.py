"""Decides by replaying the last arrivals against what was learnt: how large batches may be, and how long an idle model waits for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WAIT_FRACS = (0.02, 0.05, 0.1, 0.2)
"""Of the budget. Longer waits never won in `benchmarks/serving/batching.py`."""
_LEAST_WAIT_S = 0.001
"""What an event loop's timer can keep."""
_GAIN = 0.97
_TAIL = 16
"""The mean of the slowest sixteenth stands for the tail: a single order statistic of a few hundred requests is noise."""

Arrivals = Sequence[tuple[float, int]]
Take = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """`take[n]`: rows taken where n wait. `wait_s`: how long the oldest may wait for a full batch."""

    take: Take
    wait_s: float = 0.0


def best_rule(arrivals: Arrivals, run_s: Sequence[float], takes: Sequence[Take], budget_s: float) -> Rule:
    """The rule with the earliest slowest requests; the first of `takes` and no wait unless another is clearly better.

    `arrivals`: (seconds, rows) in order. `run_s[n]`: a batch of n rows.
    """
    best = Rule(takes[0])
    least = _GAIN * tail_s(arrivals, run_s, best)
    for take in takes[1:]:
        tail = tail_s(arrivals, run_s, Rule(take))
        if tail < least:
            best, least = Rule(take), tail
    for wait_s in (frac * budget_s for frac in _WAIT_FRACS if frac * budget_s >= _LEAST_WAIT_S):
        rule = Rule(best.take, wait_s)
        tail = tail_s(arrivals, run_s, rule)
        if tail < _GAIN * least:
            best, least = rule, tail
    return best


def tail_s(arrivals: Arrivals, run_s: Sequence[float], rule: Rule) -> float:
    """The mean latency of the slowest sixteenth, when one server with this rule meets these arrivals."""
    take, wait_s = rule.take, rule.wait_s
    latencies: list[float] = []
    now_s, at, end, most = 0.0, 0, len(arrivals), len(take) - 1
    full = max(take)
    while at < end:
        oldest_s = arrivals[at][0]
        now_s = max(now_s, oldest_s)
        until_s = max(now_s, oldest_s + wait_s)
        rows, stop = 0, at
        while stop < end and rows < full and arrivals[stop][0] <= until_s:
            rows += arrivals[stop][1]
            stop += 1
        now_s = max(now_s, arrivals[stop - 1][0]) if rows >= full else until_s
        wanted, rows, stop = take[min(rows, most)], 0, at
        while stop < end and arrivals[stop][0] <= now_s and (rows == 0 or rows + arrivals[stop][1] <= wanted):
            rows += arrivals[stop][1]
            stop += 1
        now_s += run_s[min(rows, most)]
        latencies.extend([now_s - arrivals[number][0] for number in range(at, stop)])
        at = stop
    count = max(1, len(latencies) // _TAIL)
    return sum(sorted(latencies)[-count:]) / count
