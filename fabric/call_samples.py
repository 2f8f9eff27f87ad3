"""A client's own calls as metrics: how many are in flight where, and why some of them went there. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fabric.metrics import declared as m
from fabric.metrics.metric import Sample
from fabric.metrics.tally import Tally
from fabric.types import Flavor

if TYPE_CHECKING:
    from fabric.client import Call

MOST_REASONS = 50
"""A reason is worked out again from what was known then, which takes some 50 µs: so many calls are asked at each look, evenly taken."""


def in_flight(calls: Iterable[Call], catalogue: Mapping[str, Flavor], before: Iterable[str] = ()) -> list[Sample]:
    """By flavor; flavors that had calls `before` and have none now are told as 0."""
    counts = Counter(dict.fromkeys(before, 0))
    counts.update(call.candidate.flavor for call in calls)
    return [Sample(m.TASK_IN_FLIGHT, (catalogue[flavor].tier, flavor), count) for flavor, count in counts.items()]


def count_reasons(tally: Tally, calls: Sequence[Call], catalogue: Mapping[str, Flavor]) -> None:
    """Of calls that have finished since the last look."""
    step = max(1, len(calls) // MOST_REASONS)
    for call in calls[::step][:MOST_REASONS]:
        route = call.plan.replay(call.load, call.candidate)
        flavor = route.chosen.flavor
        tally.count(m.TASK_REASONS, catalogue[flavor].tier, flavor, route.reason)
