"""The router over time: nothing is lost or run twice, CPU work keeps off accelerators, and routing beats the simple policies."""

from __future__ import annotations

import random
from collections.abc import Mapping
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.routing import Candidate, Plan
from fabric.types import Node, Resources, Variant
from pools.flavors import load_catalogue
from tests.sim.virtual import Call, VirtualFabric

FULL = load_catalogue()
CATALOGUE = {name: FULL[name] for name in ("a100-80g", "t4", "cloud-ai-100", "cpu")}
GPU = Variant("gpu", "gpu", Resources(num_gpus=1))
NPU = Variant("npu", "npu", Resources())
CPU = Variant("cpu", "cpu", Resources())
TASKS = {"classify": (GPU, NPU, CPU), "parse": (Variant("default", "", Resources()),)}
TRUE_S = {
    "classify": {"a100-80g": 0.01, "t4": 0.04, "cloud-ai-100": 0.03, "cpu": 0.4},
    "parse": dict.fromkeys(CATALOGUE, 0.05),
}


def machines(*extra: Node) -> dict[str, Node]:
    nodes = (
        Node("hot-1", "h1", "hot", "a100-80g", {"CPU": 8.0, "GPU": 1.0}),
        Node("warm-1", "w1", "warm", "t4", {"CPU": 4.0, "GPU": 1.0}),
        Node("warm-2", "w2", "warm", "cloud-ai-100", {"CPU": 4.0, "QAIC": 1.0}),
        Node("cold-1", "c1", "cold", "cpu", {"CPU": 4.0}),
        *extra,
    )
    return {node.node_id: node for node in nodes}


def bursts(task: str, *, num_bursts: int, size: int, gap_s: float, seed: int, true_s: Mapping[str, float] | None = None) -> list[Call]:
    """Bursts of alike calls: within one they arrive almost at once."""
    luck = random.Random(seed)
    starts = [index * gap_s * luck.uniform(0.7, 1.3) for index in range(num_bursts)]
    arrivals = sorted(at + luck.uniform(0.0, 0.02) for at in starts for _ in range(size))
    return [Call(number, task, at, true_s or TRUE_S[task]) for number, at in enumerate(arrivals)]


def mean_completion_s(calls: list[Call]) -> float:
    return mean(call.done_s - call.arrival_s for call in calls)


def routed(fabric: VirtualFabric, plan: Plan, call: Call) -> Candidate:
    untried = plan.take_untried()
    if untried is None:
        return plan.choose()
    fabric.probing.note(untried, call.task, 0)
    return untried


def fastest(_fabric: VirtualFabric, plan: Plan, call: Call) -> Candidate:
    """Always the flavor that is fastest for the call, however long its queue."""
    return min(plan.candidates, key=lambda c: call.true_s[c.flavor])


def first_available(fabric: VirtualFabric, plan: Plan, call: Call) -> Candidate:
    """The fastest flavor with a free slot, else the one with the shortest queue."""
    return min(plan.candidates, key=lambda c: (len(fabric.queues[c.flavor]), fabric.node_for(c) is None, call.true_s[c.flavor]))


# -- invariants ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_bursts=st.integers(1, 4),
    size=st.integers(1, 60),
    gap_s=st.sampled_from([0.0, 0.1, 1.0]),
    task=st.sampled_from(sorted(TASKS)),
    waiting_usd_per_h=st.sampled_from([0.0, 10.0, 1000.0]),
)
def test_every_call_runs_once_and_the_lanes_are_empty_at_the_end(
    seed: int, num_bursts: int, size: int, gap_s: float, task: str, waiting_usd_per_h: float
) -> None:
    fabric = VirtualFabric(machines(), CATALOGUE, TASKS, routed, domain="cv", waiting_usd_per_h=waiting_usd_per_h, seed=seed)
    calls = bursts(task, num_bursts=num_bursts, size=size, gap_s=gap_s, seed=seed)
    fabric.run(calls)
    assert [call.num_done for call in calls] == [1] * len(calls)
    for name in CATALOGUE:
        assert fabric.lanes.share(name) == pytest.approx(0.0, abs=1e-9)
    assert fabric.free == {name: node.total for name, node in fabric.nodes.items()}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 120))
def test_no_cpu_call_goes_to_an_accelerator_node_while_a_cpu_is_free(seed: int, size: int) -> None:
    went_to: list[str] = []

    def check(fabric: VirtualFabric, plan: Plan, call: Call) -> Candidate:
        chosen = routed(fabric, plan, call)
        is_free = fabric.free["cold-1"]["CPU"] >= 1.0 and not fabric.queues["cpu"]
        went_to.append(chosen.flavor)
        assert chosen.flavor == "cpu" or not is_free
        return chosen

    fabric = VirtualFabric(machines(), CATALOGUE, TASKS, check, seed=seed)
    fabric.run(bursts("parse", num_bursts=2, size=size, gap_s=0.5, seed=seed))
    assert went_to[0] == "cpu"
    assert size < 30 or len(set(went_to)) > 1, "a burst larger than the CPUs overflows"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), lost=st.sampled_from(["hot-1", "warm-1", "warm-2", "cold-1", "cold-2"]), at_s=st.floats(0.0, 2.0))
def test_a_lost_node_loses_no_call(seed: int, lost: str, at_s: float) -> None:
    spare = Node("cold-2", "c2", "cold", "cpu", {"CPU": 4.0})
    fabric = VirtualFabric(machines(spare), CATALOGUE, TASKS, routed, domain="cv", seed=seed)
    calls = bursts("classify", num_bursts=3, size=60, gap_s=0.7, seed=seed)
    fabric.at(at_s, lambda: fabric.lose(lost, calls))
    fabric.run(calls)
    assert [call.num_done for call in calls] == [1] * len(calls)
    assert all(call.node_id != lost for call in calls if call.attempt > 0)
    for name in CATALOGUE:
        assert fabric.lanes.share(name) == pytest.approx(0.0, abs=1e-9)


# -- quality ---------------------------------------------------------------------------------------------------------------

LEARNING_CALLS = 150
"""The first bursts go where the priors send them; what that costs is not routing's fault."""
LOADS = {
    "far apart": {},
    "close together": {"a100-80g": 0.03, "t4": 0.05, "cloud-ai-100": 0.04, "cpu": 0.1},
    "against the priors": {"a100-80g": 0.2, "t4": 0.1, "cloud-ai-100": 0.3, "cpu": 0.05},
}


@pytest.mark.parametrize("speeds", LOADS)
@pytest.mark.parametrize("seed", range(4))
def test_routing_is_about_as_good_as_the_better_simple_policy_that_knows_the_true_speeds(speeds: str, seed: int) -> None:
    results = {}
    for policy in (routed, fastest, first_available):
        fabric = VirtualFabric(machines(), CATALOGUE, TASKS, policy, domain="cv", seed=seed)
        calls = bursts("classify", num_bursts=12, size=50, gap_s=2.0, seed=seed, true_s=LOADS[speeds] or TRUE_S["classify"])
        fabric.run(calls)
        results[policy.__name__] = mean_completion_s(calls[LEARNING_CALLS:])
    assert results["routed"] <= 1.15 * min(results["fastest"], results["first_available"])


def test_estimates_come_to_the_true_speeds_wherever_calls_went() -> None:
    fabric = VirtualFabric(machines(), CATALOGUE, TASKS, routed, domain="cv", seed=1)
    fabric.run(bursts("classify", num_bursts=20, size=80, gap_s=1.0, seed=1))
    num_known = 0
    for name, variant in (("a100-80g", GPU), ("t4", GPU), ("cloud-ai-100", NPU), ("cpu", CPU)):
        estimate = fabric.estimator.estimate("classify", 0, CATALOGUE[name], variant)
        if estimate.num_runs >= 5:
            num_known += 1
            assert estimate.run_s == pytest.approx(TRUE_S["classify"][name], rel=0.15)
    assert num_known >= 3


MISJUDGED = {
    "t4": {"a100-80g": 0.2, "t4": 0.1, "cloud-ai-100": 0.3, "cpu": 3.0},
    "cloud-ai-100": {"a100-80g": 0.1, "t4": 0.05, "cloud-ai-100": 0.02, "cpu": 3.0},
    "a100-80g": {"a100-80g": 0.01, "t4": 0.04, "cloud-ai-100": 0.03, "cpu": 0.4},
}


@pytest.mark.parametrize("best", MISJUDGED)
@pytest.mark.parametrize("waiting_usd_per_h", [10.0, 1000.0])
def test_the_best_flavor_is_found_under_light_load_whatever_its_prior_and_no_hopeless_one_is_tried(
    best: str, waiting_usd_per_h: float
) -> None:
    fabric = VirtualFabric(machines(), CATALOGUE, TASKS, routed, domain="cv", waiting_usd_per_h=waiting_usd_per_h)
    calls = bursts("classify", num_bursts=50, size=1, gap_s=1.0, seed=0, true_s=MISJUDGED[best])
    fabric.run(calls)
    went_to = [fabric.routes[call.number].flavor for call in calls]
    assert went_to[-20:] == [best] * 20
    assert "cpu" not in went_to, "a try that is expected to take 20 times as long is worth nothing to 50 calls"
