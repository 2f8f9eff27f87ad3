"""What is counted between two looks, and how much of it is told on."""

from __future__ import annotations

import threading

import pytest

from fabric.metrics.metric import Metric, Sample
from fabric.metrics.tally import Tally, middle

CALLS = Metric("fabric_x_calls", "counter", "", ("who",))
TIMES = Metric("fabric_x_seconds", "histogram", "", ("who",), (1.0, 3.0, 10.0))


def test_counters_go_on_and_histograms_tell_only_what_is_new() -> None:
    tally = Tally()
    tally.count(CALLS, "ann")
    tally.observe(TIMES, 2.0, "ann")
    assert tally.samples() == [Sample(CALLS, ("ann",), 1.0), Sample(TIMES, ("ann",), 2.0, 1)]
    tally.count(CALLS, "ann", by=2.5)
    assert tally.samples() == [Sample(CALLS, ("ann",), 3.5)]


@pytest.mark.parametrize(("value", "told"), [(0.2, 0.5), (1.0, 0.5), (1.1, 2.0), (3.0, 2.0), (9.0, 6.5), (11.0, 20.0)])
def test_a_value_is_told_as_the_middle_of_its_own_bucket(value: float, told: float) -> None:
    tally = Tally()
    tally.observe(TIMES, value, "ann")
    assert tally.samples() == [Sample(TIMES, ("ann",), told, 1)]
    inside = [bucket for bucket in range(4) if middle(TIMES.bounds, bucket) == told]
    assert len(inside) == 1, "no two buckets have the same middle"


def test_values_of_one_bucket_are_one_sample() -> None:
    tally = Tally()
    for value in (1.5, 2.5, 2.9, 50.0):
        tally.observe(TIMES, value, "ann")
    assert tally.samples() == [Sample(TIMES, ("ann",), 2.0, 3), Sample(TIMES, ("ann",), 20.0, 1)]


def test_nothing_is_lost_while_samples_are_taken() -> None:
    tally, told = Tally(), 0
    threads = [threading.Thread(target=lambda: [tally.observe(TIMES, 2.0, "ann") for _ in range(5_000)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        told += sum(sample.times for sample in tally.samples())
    told += sum(sample.times for sample in tally.samples())
    assert told == 15_000
