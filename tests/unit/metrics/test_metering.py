"""How samples become calls of Ray's metrics. Ray's classes are stood in for: they need a running Ray, which the cluster test has."""

from __future__ import annotations

from typing import Any

import pytest

from fabric import metering
from fabric.metering import MOST_OBSERVED, NEW_S, ZERO, Meter
from fabric.metrics.metric import Metric, Sample

NODES = Metric("fabric_x_nodes", "gauge", "", ("tier",))
CALLS = Metric("fabric_x_calls", "counter", "", ("who",))
TIMES = Metric("fabric_x_seconds", "histogram", "", ("who",), (1.0, 3.0))


class Recorded:
    """Gauge, Counter and Histogram in one."""

    told: list[tuple[str, str, float, dict[str, str]]]

    def __init__(self, name: str, *_declared: Any) -> None:
        self.name = name

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, "set", value, tags))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "Ray refuses it"
        self.told.append((self.name, "inc", value, tags))

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, "observe", value, tags))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    Recorded.told = []
    for kind in ("Gauge", "Counter", "Histogram"):
        monkeypatch.setattr(metering.ray_metrics, kind, Recorded)
    return Recorded.told


def test_gauges_are_told_each_time_and_counters_by_what_they_grew(told: list[Any]) -> None:
    clock = iter([0.0, NEW_S, NEW_S + 5.0, NEW_S + 10.0])
    meter = Meter(lambda: next(clock))
    for total in (1.0, 2.0, 2.0, 5.0):
        meter.export([Sample(NODES, ("hot",), 3.0), Sample(CALLS, ("ann",), total)])
    assert [value for name, _, value, _ in told if name == "fabric_x_nodes"] == [3.0] * 4
    assert [one[1:] for one in told if one[0] == "fabric_x_calls"] == [("inc", value, {"who": "ann"}) for value in (ZERO, 2.0, 3.0)]


def test_a_new_counter_stands_at_0_until_prometheus_can_have_seen_it(told: list[Any]) -> None:
    clock = iter([0.0, 5.0, NEW_S - 0.1, NEW_S])
    meter = Meter(lambda: next(clock))
    for _ in range(4):
        meter.export([Sample(CALLS, ("ann",), 7.0)])
    assert [value for _, _, value, _ in told] == [ZERO, 7.0], "all that it counted meanwhile comes at once"


def test_a_counter_that_fell_began_anew(told: list[Any]) -> None:
    clock = iter([0.0, 30.0, 35.0, 40.0])
    meter = Meter(lambda: next(clock))
    for total in (7.0, 7.0, 1.0, 2.0):
        meter.export([Sample(CALLS, ("ann",), total)])
    assert [value for _, _, value, _ in told] == [ZERO, 7.0, 1.0, 1.0]


def test_few_values_are_all_told_and_of_many_an_even_part(told: list[Any]) -> None:
    Meter().export([Sample(TIMES, ("ann",), 0.5, 3), Sample(TIMES, ("bob",), 2.0, 30_000), Sample(TIMES, ("bob",), 6.0, 10_000)])
    counts = {(tags["who"], value): sum(1 for one in told if (one[3], one[2]) == (tags, value)) for _, _, value, tags in told}
    assert counts == {("ann", 0.5): 3, ("bob", 2.0): 0.75 * MOST_OBSERVED, ("bob", 6.0): 0.25 * MOST_OBSERVED}


def test_a_sample_with_a_label_too_few_is_refused(told: list[Any]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        Meter().export([Sample(NODES, (), 1.0)])
