from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.batching import ServiceTime, service_time
from fabric.errors import BugError
from fabric.stations import Search, Service
from fabric.tiering import Supply, TierPlan, TrainingLoad, plan_tiers
from fabric.types import Domain
from pools.flavors import load_catalogue

CATALOGUE = load_catalogue()
MS = 1e-3
CV = {"a100-80g": service_time(0.46 * MS, 38_000), "a10": service_time(0.44 * MS, 13_300), "t4": service_time(0.85 * MS, 5_700)}
"""ResNet-50, MLPerf v1.0."""
NLP = {"a100-80g": service_time(1.72 * MS, 3_550), "a10": service_time(2.87 * MS, 1_070), "t4": service_time(6.59 * MS, 195)}
"""BERT-99."""
SLOW_COLD = service_time(90 * MS, 220)


def supply(units: dict[str, int], prices: dict[str, float] | None = None) -> list[Supply]:
    return [Supply(CATALOGUE[name], count, (prices or {}).get(name, CATALOGUE[name].usd_per_h)) for name, count in units.items()]


def service(name: str, rate_per_s: float, times: dict[str, ServiceTime], domain: Domain = "cv") -> Service:
    return Service(name, rate_per_s, times, domain)


def held(plan: TierPlan) -> Counter[str]:
    found: Counter[str] = Counter()
    for station in plan.stations:
        found[station.flavor] += station.units
    return found


def where(plan: TierPlan, name: str) -> dict[str, float]:
    return {station.flavor: station.share for station in plan.stations if name in station.services}


rates = st.dictionaries(st.sampled_from(["a100-80g", "a10", "t4", "v100", "k80"]), st.floats(0.1, 100.0))
times = st.dictionaries(
    st.sampled_from(["a100-80g", "a10", "t4", "cpu-vnni"]), st.builds(ServiceTime, st.floats(1e-4, 0.1), st.floats(1e-5, 0.02))
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 5000.0), times), max_size=3),
    st.lists(st.tuples(st.floats(0.0, 200.0), rates), max_size=3),
    st.dictionaries(st.sampled_from(["a100-80g", "a10", "t4", "v100", "k80", "cpu-vnni"]), st.integers(0, 6), min_size=1),
)
def test_no_flavor_is_given_out_beyond_its_units_nor_used_without_a_figure(
    asked: list[tuple[float, dict[str, ServiceTime]]], work: list[tuple[float, dict[str, float]]], units: dict[str, int]
) -> None:
    services = [service(f"s{number}", rate, known) for number, (rate, known) in enumerate(asked)]
    loads = [TrainingLoad(f"t{number}", amount, known) for number, (amount, known) in enumerate(work)]
    plan = plan_tiers(services, loads, supply(units))
    used = held(plan)
    for ways in plan.training.values():
        assert all(name in units for name in ways)
    for name, count in units.items():
        busy = sum(ways.get(name, 0.0) for ways in plan.training.values())
        assert used[name] + busy <= count + 1e-6
        assert plan.for_jobs[name] == count - used[name]
    for one in services:
        shares = where(plan, one.name)
        assert not one.times or set(shares) <= set(one.times)
        assert not shares or sum(shares.values()) == pytest.approx(1.0)
    for load in loads:
        done = sum(amount * load.rates[name] for name, amount in plan.training[load.name].items() if load.rates)
        if load.rates and load.work_per_s > 0:
            assert done == pytest.approx(load.work_per_s * (1.0 - plan.short.get(load.name, 0.0)), rel=1e-3, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 3.0), st.floats(1.05, 5.0), st.sampled_from(["v100", "p100", "k80"]))
def test_training_uses_no_more_of_a_flavor_that_became_dearer(price: float, times_dearer: float, flavor: str) -> None:
    loads = [
        TrainingLoad("resnet", 3.0, {"v100": 4.4, "p100": 2.6, "k80": 0.62}, "cv"),
        TrainingLoad("transformer", 9.0, {"v100": 11.1, "p100": 9.5, "k80": 5.5}, "nlp"),
    ]
    prices = {"v100": 0.74, "p100": 0.43, "k80": 0.135, flavor: price}
    before = plan_tiers([], loads, supply({"v100": 2, "p100": 2, "k80": 2}, prices))
    after = plan_tiers([], loads, supply({"v100": 2, "p100": 2, "k80": 2}, {**prices, flavor: price * times_dearer}))
    busy = [sum(ways.get(flavor, 0.0) for ways in plan.training.values()) for plan in (before, after)]
    assert busy[1] <= busy[0] + 1e-6


def test_where_the_cheap_flavor_is_scarce_the_load_that_gains_most_by_it_has_it() -> None:
    loads = [TrainingLoad("resnet", 1.0, {"v100": 4.0, "k80": 0.6}), TrainingLoad("transformer", 5.5, {"v100": 11.1, "k80": 5.5})]
    plan = plan_tiers([], loads, supply({"v100": 4, "k80": 1}, {"v100": 0.74, "k80": 0.135}))
    assert set(plan.training["transformer"]) == {"k80"}
    assert set(plan.training["resnet"]) == {"v100"}


def test_a_price_that_is_not_known_is_never_free() -> None:
    load = TrainingLoad("job", 1.0, {"v100": 1.0, "gaudi2": 1.0})
    assert set(plan_tiers([], [load], supply({"v100": 1, "gaudi2": 1})).training["job"]) == {"v100"}


def test_what_there_is_no_room_for_is_said() -> None:
    plan = plan_tiers([], [TrainingLoad("job", 4.0, {"v100": 1.0})], supply({"v100": 1}))
    assert plan.short["job"] == pytest.approx(0.75)


def test_each_service_is_on_the_flavor_where_it_has_the_comparative_advantage() -> None:
    # BERT loses more than ResNet on an A10: A100s are scarce, so ResNet leaves them to it.
    plan = plan_tiers([service("cv", 20_000, CV), service("nlp", 4_000, NLP, "nlp")], [], supply({"a100-80g": 2, "a10": 4}))
    assert where(plan, "cv") == {"a10": 1.0}
    assert where(plan, "nlp")["a100-80g"] > 0.9


def test_cold_is_used_only_where_it_answers_sooner() -> None:
    nlp = {**NLP, "cpu-vnni": SLOW_COLD}
    calm = plan_tiers([service("nlp", 1_000, nlp)], [], supply({"a100-80g": 1, "cpu-vnni": 8}))
    rush = plan_tiers([service("nlp", 3_700, nlp)], [], supply({"a100-80g": 1, "cpu-vnni": 8}))
    assert "cpu-vnni" not in where(calm, "nlp")
    assert where(rush, "nlp")["cpu-vnni"] > 0
    assert not rush.overloaded


def test_services_that_fall_behind_are_named_and_take_units_back_from_training() -> None:
    load = TrainingLoad("job", 2.0, {"a10": 1.0, "v100": 1.0})
    units = {"a10": 2, "v100": 2}
    crowded = plan_tiers([service("cv", 20_000, CV)], [load], supply(units, {"a10": 0.1, "v100": 0.7}))
    assert not crowded.overloaded
    assert held(crowded)["a10"] == 2
    assert set(crowded.training["job"]) == {"v100"}
    assert plan_tiers([service("cv", 60_000, CV)], [], supply(units)).overloaded == ("cv",)


def test_more_services_than_units_share_them() -> None:
    services = [service(f"s{number}", 200, CV) for number in range(4)]
    plan = plan_tiers(services, [], supply({"a100-80g": 2}))
    assert not plan.overloaded
    assert held(plan)["a100-80g"] <= 2


def test_what_is_not_measured_goes_by_its_domain_until_it_is() -> None:
    units = supply({"p100": 1, "t4": 1, "k80": 1, "cpu-vnni": 4})
    plan = plan_tiers([service("new-cv", 5, {}, "cv")], [TrainingLoad("new-nlp", 1.0, {}, "nlp")], units)
    assert set(where(plan, "new-cv")) == {"t4"}, "the only one with tensor cores"
    assert set(plan.training["new-nlp"]) == {"p100"}, "the cheaper one with FP16 that is left"
    assert plan.by_prior == ("new-cv", "new-nlp")
    # Figures decide once there are any, also against the domain.
    measured = plan_tiers([service("new-cv", 5, {"k80": SLOW_COLD}, "cv")], [], units)
    assert set(where(measured, "new-cv")) == {"k80"}
    assert measured.by_prior == ()


def test_the_same_facts_give_the_same_plan() -> None:
    services = [service("cv", 30_000, CV), service("nlp", 3_000, NLP, "nlp")]
    units = {"a100-80g": 3, "a10": 5, "t4": 4}
    assert Search(services, units).run() == Search(services, units).run()


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(BugError):
        plan_tiers([service("a", 1, CV), service("a", 1, CV)], [], supply({"a10": 1}))
    with pytest.raises(BugError):
        plan_tiers([], [], [replace(supply({"a10": 1})[0], units=-1)])
