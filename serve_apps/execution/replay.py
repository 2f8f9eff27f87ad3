"""Decides by replaying the last arrivals against what was learnt: how large batches may be, and how long an idle model waits for more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TAIL = 16
"""The mean of the slowest sixteenth stands for the tail: a single order statistic of a few hundred requests is noise."""
_MEMORY = 0.15
_GAIN = 0.97
_KEEP = 0.985

Arrivals = Sequence[tuple[float, int]]
Take = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """`take[n]`: rows taken where n wait. `wait_s`: how long the oldest may wait for a full batch."""

    take: Take
    wait_s: float = 0.0


class RuleChoice:
    """Which of a few rules, known by name, makes the slowest requests earliest: over many replays, as one sees too few bursts.

    The `first` name is the rule that is taken unless another is clearly better; a change needs a clear difference, too.
    """

    def __init__(self, first: str) -> None:
        self._first = first
        self._logs: dict[str, float] = {}
        self.name = first

    def note(self, tails_s: Mapping[str, float]) -> None:
        """The tails of one replay, the first rule's among them; rules that are left out are not to be taken now."""
        reference = tails_s[self._first]
        for name, tail in tails_s.items():
            log = math.log(max(tail, 1e-12) / max(reference, 1e-12))
            known = self._logs.get(name)
            self._logs[name] = log if known is None else known + _MEMORY * (log - known)
        best = min(tails_s, key=lambda name: self._logs[name])
        if self.name not in tails_s:
            self.name = self._first
        bar = _GAIN if self.name == self._first else _KEEP
        if self._logs[best] < self._logs[self.name] + math.log(bar):
            self.name = best
        elif self._logs[self.name] > 0.0:
            self.name = self._first


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
