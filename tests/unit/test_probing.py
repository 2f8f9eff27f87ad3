"""A flavor is tried when what later calls may gain is worth more than the try costs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.capacity import capacities
from fabric.lanes import Lanes, start
from fabric.probing import LEAST_RUNS, MOST_TRIES, Probing, expected_gain, expected_loss
from fabric.routing import PROBE, Plan, RoutingPolicy, compile_plan
from fabric.types import Estimate, Flavor, Node, PoolSnapshot, Resources, Variant
from pools.flavors import load_catalogue

CATALOGUE = {name: flavor for name, flavor in load_catalogue().items() if name in ("a100-80g", "t4")}
GPU = Variant("gpu", "gpu", Resources(num_gpus=1))
HOT = PoolSnapshot("hot", 1, (Node("h", "h", "hot", "a100-80g", {"CPU": 8.0, "GPU": 1.0}),))
WARM = PoolSnapshot("warm", 1, (Node("w", "w", "warm", "t4", {"CPU": 8.0, "GPU": 1.0}),))


def plan(a100: Estimate, t4: Estimate) -> Plan:
    def estimate_of(flavor: Flavor, _variant: Variant) -> Estimate:
        return a100 if flavor.name == "a100-80g" else t4

    return compile_plan((GPU,), capacities([HOT, WARM], CATALOGUE), estimate_of, RoutingPolicy(100.0), Lanes(), domain="cv")


def worth_a_try(a100: Estimate, t4: Estimate, num_calls: int) -> str | None:
    found = Probing().find(plan(a100, t4).candidates, num_calls, "work", 0)
    return None if found is None else found.flavor


MEASURED, UNKNOWN = Estimate(1.0, 0.1, 20), Estimate(1.5, 1.0, 0)


@given(best=st.floats(0.01, 10.0), score=st.floats(0.01, 10.0), log_sd=st.floats(0.05, 1.5))
def test_the_expected_gain_is_what_a_simulation_gives(best: float, score: float, log_sd: float) -> None:
    luck = random.Random(0)
    draws = [score * math.exp(luck.gauss(0.0, log_sd)) for _ in range(4000)]
    seen = sum(max(0.0, best - draw) for draw in draws) / len(draws)
    assert expected_gain(best, score, log_sd) == pytest.approx(seen, abs=0.04 * best + 0.02 * score)
    assert expected_loss(best, score, log_sd) == pytest.approx(max(0.0, sum(draws) / len(draws) - best), rel=0.3, abs=0.2 * score)


def test_what_is_certain_gains_just_the_difference() -> None:
    assert expected_gain(2.0, 1.5, 0.0) == 0.5
    assert expected_gain(1.0, 1.5, 0.0) == 0.0


@pytest.mark.parametrize(("num_calls", "tried"), [(3, None), (1000, "t4")])
def test_a_try_pays_only_where_enough_calls_may_follow(num_calls: int, tried: str | None) -> None:
    assert worth_a_try(MEASURED, Estimate(4.0, 1.0, 0), num_calls) == tried


def test_nothing_is_tried_before_the_best_is_known_nor_twice_what_has_run() -> None:
    assert worth_a_try(Estimate(1.0, 0.1, LEAST_RUNS - 1), UNKNOWN, 1000) is None
    assert worth_a_try(MEASURED, Estimate(1.5, 1.0, 1), 1000) is None
    assert worth_a_try(MEASURED, UNKNOWN, 1000) == "t4"


def test_a_flavor_that_gives_no_answer_is_let_be() -> None:
    probing, made = Probing(), plan(MEASURED, UNKNOWN)
    for _ in range(MOST_TRIES):
        found = probing.find(made.candidates, 1000, "work", 0)
        assert found is not None
        probing.note(found, "work", 0)
    assert probing.find(made.candidates, 1000, "work", 0) is None
    assert probing.find(made.candidates, 1000, "work", 1) is not None, "another size is another question"


def test_only_an_idle_flavor_is_tried_and_once() -> None:
    made = plan(MEASURED, UNKNOWN)
    made.untried = next(c for c in made.candidates if c.flavor == "t4")
    start(made.untried.claims, 1.0)
    assert made.take_untried() is None
    made = plan(MEASURED, UNKNOWN)
    made.untried = next(c for c in made.candidates if c.flavor == "t4")
    load, taken = made.load(), made.take_untried()
    assert taken is not None
    assert made.take_untried() is None
    route = made.replay(load, taken)
    assert (route.reason, route.chosen.flavor) == (PROBE, "t4")
    assert made.replay(load, made.choose()).reason != PROBE
