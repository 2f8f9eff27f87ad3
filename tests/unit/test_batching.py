from __future__ import annotations

import heapq
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.batching import Curve, Offered, ServiceTime, p95_s, service_time
from fabric.errors import BugError

MS = 1e-3
DEEP = ServiceTime(0.36 * MS, 0.0753 * MS)
"""ResNet-50 on an A10 (MLPerf v1.0): a batch is hardly dearer than one item."""
SHALLOW = ServiceTime(0.717 * MS, 1.015 * MS)
"""SSD-ResNet34 on an A100: a batch saves little."""
times = st.builds(ServiceTime, st.floats(1e-4, 0.1), st.floats(1e-5, 0.02))


def offered(time: ServiceTime, units: int, rho: float) -> Offered:
    return Offered(rho * units / time.per_item_s, time, time.single_s)


def simulated_p95_s(time: ServiceTime, units: int, rho: float, num: int = 20_000) -> float:
    """Request by request, with the batching that the curve recommends; written apart from the benchmark's."""
    load = offered(time, units, rho)
    (largest,), max_wait_s = Curve([load], units).batching(1.0)
    rng = random.Random(1)
    arrivals = [0.0]
    for _ in range(num):
        arrivals.append(arrivals[-1] + rng.expovariate(load.rate_per_s))
    free, latencies, head = [0.0] * units, [], 0
    while head < len(arrivals):
        free_s = heapq.heappop(free)
        full_s = arrivals[min(head + largest, len(arrivals)) - 1]
        start_s = max(free_s, arrivals[head], min(full_s, arrivals[head] + max_wait_s))
        taken = [arrival for arrival in arrivals[head : head + largest] if arrival <= start_s]
        head += len(taken)
        end_s = start_s + time.of(len(taken))
        latencies += [end_s - arrival for arrival in taken]
        heapq.heappush(free, end_s)
    return float(np.quantile(latencies, 0.95))


@pytest.mark.parametrize("time", [DEEP, SHALLOW], ids=["deep", "shallow"])
@pytest.mark.parametrize("units", [1, 2, 8])
@pytest.mark.parametrize("rho", [0.2, 0.5, 0.7, 0.85])
def test_the_closed_form_is_near_to_a_simulation(time: ServiceTime, units: int, rho: float) -> None:
    predicted = p95_s([offered(time, units, rho)], units, np.array([1.0]))[0, 0]
    assert 0.75 <= predicted / simulated_p95_s(time, units, rho) <= 1.25


def test_a_request_alone_on_an_idle_unit_takes_the_single_latency() -> None:
    assert p95_s([offered(DEEP, 4, 0.001)], 4, np.array([1.0]))[0, 0] == pytest.approx(DEEP.single_s, rel=0.05)


@given(times, st.integers(1, 16), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_latency_rises_with_the_load_and_falls_with_more_units(time: ServiceTime, units: int, rho: float, other: float) -> None:
    load = [offered(time, units, 1.0)]
    low, high = sorted((rho, other))
    latency = p95_s(load, units, np.array([low, high]))[0]
    assert latency[0] <= latency[1] * (1 + 1e-9)
    assert p95_s(load, units + 1, np.array([low]))[0, 0] <= latency[0] * (1 + 1e-9)


@given(times, st.integers(1, 16))
def test_a_station_that_cannot_keep_up_is_never_given_more_than_it_can_do(time: ServiceTime, units: int) -> None:
    curve = Curve([offered(time, units, 2.0)], units)
    assert np.all(np.diff(curve.share) >= -1e-12)
    assert curve.share[-1] < 0.5


def test_two_services_on_the_same_units_are_later_than_one_alone() -> None:
    alone = p95_s([offered(DEEP, 2, 0.3)], 2, np.array([1.0]))[0, 0]
    assert p95_s([offered(DEEP, 2, 0.3), offered(SHALLOW, 2, 0.3)], 2, np.array([1.0]))[0, 0] > alone


@given(times, st.integers(2, 16), st.floats(0.05, 0.95))
def test_the_largest_batch_keeps_up(time: ServiceTime, units: int, rho: float) -> None:
    load = offered(time, units, rho)
    (largest,), max_wait_s = Curve([load], units).batching(1.0)
    assert units * largest / time.of(largest) > load.rate_per_s
    assert max_wait_s >= 0


def test_service_times_come_from_a_latency_and_a_throughput() -> None:
    assert service_time(1.71 * MS, 3520).of(1) == pytest.approx(1.71 * MS)
    assert service_time(0.1, 3).items_per_s == pytest.approx(3)
    with pytest.raises(BugError):
        service_time(0.0, 10)
