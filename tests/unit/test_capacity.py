"""What the pools' snapshots add up to, per flavor."""

from __future__ import annotations

import pickle

import pytest

from fabric.capacity import FlavorCapacity
from fabric.types import Flavor, Node
from tests.fleet import BIG, COLD, CPUS, HOT, NPU, SMALL, capacities_of, node


def test_nodes_of_one_flavor_are_summed_up_and_flavors_kept_apart() -> None:
    found = capacities_of(node("a", HOT, GPU=1.0), node("b", HOT, GPU=8.0, used={"GPU": 2.0}), SMALL)
    assert set(found) == {"big", "small"}
    assert found["big"].total == {"CPU": 8.0, "GPU": 9.0}
    assert found["big"].used == {"GPU": 2.0}


def test_shapes_are_counted_commonest_first() -> None:
    found = capacities_of(node("a", HOT, GPU=8.0), node("b", HOT, GPU=1.0), node("c", HOT, GPU=1.0))["big"]
    assert found.shapes == (({"CPU": 4.0, "GPU": 1.0}, 2), ({"CPU": 4.0, "GPU": 8.0}, 1))
    assert found.num_nodes == 3


def test_only_ready_nodes_count_and_those_that_still_live_are_listed_as_closed() -> None:
    nodes = [node(health, HOT, health=health, GPU=1.0, used={"GPU": 1.0}) for health in ("ready", "cordoned", "draining", "lost")]
    found = capacities_of(*nodes)["big"]
    assert (found.num_nodes, found.total["GPU"], found.used["GPU"]) == (1, 1.0, 1.0)
    assert found.closed == ("cordoned", "draining")


def test_nodes_of_a_flavor_that_the_catalogue_lacks_are_left_out() -> None:
    stranger = Flavor("stranger", "hot", "gpu", "x", "GPU")
    assert capacities_of(BIG, node("s", stranger)).keys() == {"big"}


@pytest.mark.parametrize(
    ("demand", "slots"),
    [
        ({}, 2),
        ({"CPU": 1.0}, 12),
        ({"CPU": 3.0}, 3),
        ({"CPU": 9.0}, 0),
        ({"CPU": 0.1}, 120),
        ({"CPU": 1.0, "GPU": 1.0}, 0),
    ],
)
def test_slots_are_how_many_calls_run_at_once_without_crossing_nodes(demand: dict[str, float], slots: int) -> None:
    assert capacities_of(node("a", COLD, CPU=4.0), node("b", COLD, CPU=8.0))["cpu"].slots(demand) == slots


def test_a_third_of_a_gpu_fits_three_times_however_floats_round() -> None:
    assert capacities_of(BIG)["big"].slots({"GPU": 1 / 3}) == 3


def test_the_largest_amount_on_one_node_is_known_of_every_resource() -> None:
    found = capacities_of(node("a", COLD, CPU=4.0), node("b", COLD, CPU=8.0))["cpu"]
    assert (found.largest("CPU"), found.largest("GPU")) == (8.0, 0.0)


@pytest.mark.parametrize(
    ("nodes", "usd_per_h"),
    [
        ((node("a", HOT, GPU=8.0),), 8 * 3.6),
        ((node("a", NPU, QAIC=4.0),), 2 * 1.8),
        ((CPUS,), 4 * 0.036),
        ((node("a", HOT, CPU=4.0),), 0.0),
    ],
    ids=["eight GPUs", "two NPUs of two units", "four CPUs", "no accelerator visible"],
)
def test_a_node_costs_what_its_units_cost(nodes: tuple[Node, ...], usd_per_h: float) -> None:
    (found,) = capacities_of(*nodes).values()
    assert found.usd_per_h(found.shapes[0][0]) == pytest.approx(usd_per_h)


def test_an_unknown_price_stays_unknown() -> None:
    mystery = Flavor("mystery", "warm", "gpu", "x", "GPU")
    found = capacities_of(node("m", mystery, GPU=1.0), catalogue={"mystery": mystery})["mystery"]
    assert found.usd_per_h(found.shapes[0][0]) is None


def test_one_twin_among_the_nodes_marks_the_flavor_as_twin() -> None:
    twin = Node("t", "here", "hot", "big", {"GPU": 1.0}, slowdown=3.0)
    found = capacities_of(twin, BIG)["big"]
    assert (found.is_twin, found.slowdown) == (True, 3.0)
    assert not capacities_of(BIG)["big"].is_twin


def test_a_capacity_travels_between_processes() -> None:
    found = capacities_of(BIG)["big"]
    copy: FlavorCapacity = pickle.loads(pickle.dumps(found))
    assert copy == found
