"""Lanes: how busy a flavor is, and how long a call is predicted to wait for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.capacity import FlavorCapacity
from fabric.lanes import Claim, Lanes, finish, start
from fabric.types import Resources
from tests.fleet import BIG, COLD, CPUS, HOT, capacities_of, node

CPU_CALL = Resources()
GPU_CALL = Resources(num_gpus=1)


def claims_of(lanes: Lanes, capacity: FlavorCapacity, call: Resources) -> tuple[Claim, ...]:
    return lanes.claims(capacity.flavor.name, capacity.fit(call).shares)


@pytest.mark.parametrize(
    ("num_in_flight", "wait_s"),
    [(0, 0.0), (3, 0.0), (4, 0.5), (5, 1.0), (8, 2.5)],
    ids=["idle", "last slot free", "full", "one waits", "a whole round waits"],
)
def test_a_call_waits_for_its_turn_among_the_slots(num_in_flight: int, wait_s: float) -> None:
    lanes = Lanes()
    (claim,) = claims_of(lanes, capacities_of(CPUS)["cpu"], CPU_CALL)
    for _ in range(num_in_flight):
        start((claim,), 2.0)
    assert claim.lane.wait_s(claim.share, run_s=99.0) == pytest.approx(wait_s)


def test_the_wait_follows_the_mean_length_of_what_is_in_flight() -> None:
    lanes = Lanes()
    (claim,) = claims_of(lanes, capacities_of(CPUS)["cpu"], CPU_CALL)
    for run_s in (1.0, 1.0, 1.0, 5.0):
        start((claim,), run_s)
    assert claim.lane.wait_s(claim.share, run_s=99.0) == pytest.approx(0.25 * 2.0)


def test_where_only_others_are_in_flight_they_are_taken_to_be_as_long_as_this_call() -> None:
    lanes = Lanes()
    full = capacities_of(node("cpus-1", COLD, used={"CPU": 4.0}))["cpu"]
    lanes.observe(full)
    (claim,) = claims_of(lanes, full, CPU_CALL)
    assert claim.lane.wait_s(claim.share, run_s=8.0) == pytest.approx(2.0)


def test_a_call_claims_its_part_of_every_resource_it_asks_for() -> None:
    lanes = Lanes()
    claims = claims_of(lanes, capacities_of(node("n", HOT, CPU=8.0, GPU=4.0))["big"], GPU_CALL)
    assert {claim.lane.resource: claim.share for claim in claims} == {"CPU": 1 / 8, "GPU": 1 / 4}


def test_slots_respect_the_borders_between_nodes() -> None:
    lanes = Lanes()
    three_nodes = capacities_of(*(node(f"n{i}", COLD, CPU=4.0) for i in range(3)))["cpu"]
    (claim,) = claims_of(lanes, three_nodes, Resources(num_cpus=3))
    assert claim.share == pytest.approx(1 / 3), "one per node, though 12 CPUs are four times 3"


def test_a_call_that_asks_for_nothing_claims_nothing_and_never_waits() -> None:
    assert claims_of(Lanes(), capacities_of(CPUS)["cpu"], Resources(num_cpus=0)) == ()


def test_own_calls_are_not_counted_again_as_the_use_of_others() -> None:
    lanes = Lanes()
    idle = capacities_of(CPUS)["cpu"]
    (claim,) = claims_of(lanes, idle, CPU_CALL)
    for _ in range(2):
        start((claim,), 1.0)
    lanes.observe(capacities_of(node("cpus-1", COLD, used={"CPU": 3.0}))["cpu"])
    assert claim.lane.other == pytest.approx(0.25)
    lanes.observe(idle)
    assert claim.lane.other == 0.0


def test_a_queue_of_own_calls_does_not_hide_the_use_of_others() -> None:
    lanes = Lanes()
    (claim,) = claims_of(lanes, capacities_of(CPUS)["cpu"], CPU_CALL)
    for _ in range(40):
        start((claim,), 1.0)
    lanes.observe(capacities_of(node("cpus-1", COLD, used={"CPU": 4.0}))["cpu"])
    assert (claim.lane.share, claim.lane.other) == (pytest.approx(10.0), 0.0)


def test_the_share_of_a_flavor_is_that_of_its_fullest_lane() -> None:
    lanes = Lanes()
    claims = claims_of(lanes, capacities_of(BIG)["big"], GPU_CALL)
    start(claims, 1.0)
    assert (lanes.share("big"), lanes.share("cpu")) == (1.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-4, 1.0), st.floats(1e-6, 1e5)), max_size=60), st.randoms(use_true_random=False))
def test_whatever_starts_and_finishes_in_whatever_order_leaves_the_lane_empty(calls: list[tuple[float, float]], order: object) -> None:
    lane = Lanes().lane("big", "GPU")
    for share, run_s in calls:
        start((Claim(lane, share),), run_s)
    order.shuffle(calls)  # type: ignore[attr-defined]
    for share, run_s in calls:
        finish((Claim(lane, share),), run_s)
        assert lane.share >= 0.0 <= lane.work_s
    assert lane.share == pytest.approx(0.0, abs=1e-9)
    assert lane.work_s == pytest.approx(0.0, abs=1e-9 * sum(run_s for _, run_s in calls) + 1e-9)
    assert lane.wait_s(1.0, 1.0) == 0.0
