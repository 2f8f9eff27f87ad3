"""The router: which flavor and variant a call goes to, why, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.errors import BugError, NoFitError
from fabric.lanes import Lanes, finish, start
from fabric.routing import TIE, Candidate, Plan
from fabric.types import Alternative, Flavor, Node, Resources, Route, Variant
from tests.fleet import ANY_CPU, BIG, CHIP, COLD, CPUS, FLAVORS, HOT, NPU, ONE_CPU, ONE_GPU, SMALL, WARM, node, plan_of

GPU_OR_CPU = (ANY_CPU, Variant("cuda", "gpu", Resources(num_gpus=1)))


def send(plan: Plan, flavor: str, times: int = 1) -> None:
    """Put calls in flight on a flavor."""
    candidate = next(c for c in (*plan.candidates, *plan.overflow) if c.flavor == flavor)
    for _ in range(times):
        start(candidate.claims, candidate.run_s)


def alternative(route: Route, flavor: str) -> Alternative:
    return next(a for a in route.alternatives if a.flavor == flavor)


# -- the score -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_s", "waiting_usd_per_h", "chosen"),
    [
        ({"big": 1.0, "small": 2.0}, 36.0, "big"),
        ({"big": 1.0, "small": 1.05}, 36.0, "small"),
        ({"big": 1.0, "small": 9.0}, 0.0, "small"),
        ({"big": 1.0, "small": 11.0}, 0.0, "big"),
        ({"big": 1.0, "small": 1.05}, 10_000.0, "big"),
    ],
    ids=["faster", "nearly-as-fast-and-cheaper", "only-price-counts", "price-times-time", "only-time-counts"],
)
def test_the_lowest_sum_of_run_time_and_cost_wins(run_s: dict[str, float], waiting_usd_per_h: float, chosen: str) -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s=run_s, waiting_usd_per_h=waiting_usd_per_h)
    assert plan.choose().flavor == chosen


def test_a_route_shows_wait_run_cost_and_score_of_every_alternative_best_first() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 5.0})
    send(plan, "big")
    route = plan.route()
    best, other = route.alternatives
    assert (best.flavor, best.wait_s, best.run_s, best.cost_usd) == ("big", pytest.approx(1.0), 1.0, pytest.approx(0.001))
    assert (other.flavor, other.wait_s, other.run_s, other.cost_usd) == ("small", 0.0, 5.0, pytest.approx(0.0005))
    assert best.score == pytest.approx((1.0 + 1.0) * 0.01 + 0.001)
    assert other.score == pytest.approx(5.0 * 0.01 + 0.0005)
    assert route.chosen is best


@pytest.mark.parametrize(
    ("total", "demand", "node_usd_per_h", "share"),
    [
        ({"GPU": 8.0, "CPU": 64.0}, Resources(num_gpus=1), 8 * 3.6, 1 / 8),
        ({"GPU": 8.0, "CPU": 64.0}, Resources(num_gpus=1, num_cpus=32), 8 * 3.6, 1 / 2),
        ({"GPU": 1.0, "CPU": 4.0}, Resources(num_gpus=0.25), 3.6, 1 / 4),
        ({"GPU": 2.0, "CPU": 4.0, "memory": 100.0}, Resources(num_gpus=1, memory_bytes=75), 2 * 3.6, 3 / 4),
    ],
)
def test_the_cost_is_the_share_of_the_node_that_the_call_occupies(
    total: dict[str, float], demand: Resources, node_usd_per_h: float, share: float
) -> None:
    plan = plan_of(node("n", HOT, **total), variants=(Variant("v", "", demand),), run_s=3600.0)
    assert plan.choose().cost_usd == pytest.approx(share * node_usd_per_h)


def test_a_call_is_priced_on_the_kind_of_node_that_can_hold_it_not_on_the_commonest() -> None:
    nodes = (node("a", HOT, GPU=1.0), node("b", HOT, GPU=1.0), node("c", HOT, GPU=8.0))
    plan = plan_of(*nodes, variants=(Variant("v", "", Resources(num_gpus=2)),), run_s=3600.0)
    assert plan.choose().cost_usd == pytest.approx(2 * 3.6), "two of the eight accelerators of a node of $28.80 per hour"


def test_units_of_a_resource_that_make_up_one_accelerator_are_priced_as_one() -> None:
    plan = plan_of(CHIP, variants=(Variant("npu", "npu", Resources()),), run_s=3600.0)
    assert plan.choose().cost_usd == pytest.approx(1.8)


def test_an_unknown_price_is_scored_as_the_dearest_of_its_tier_and_never_shown() -> None:
    unpriced = Flavor("mystery", "warm", "gpu", "x", "GPU")
    catalogue = {**FLAVORS, "mystery": unpriced}
    nodes = (SMALL, CHIP, node("m", unpriced, GPU=1.0))
    variants = (ONE_GPU, Variant("npu", "npu", Resources()))
    route = plan_of(*nodes, variants=variants, run_s=3600.0, catalogue=catalogue).route()
    mystery = alternative(route, "mystery")
    assert mystery.cost_usd is None
    assert mystery.score == pytest.approx(36.0 + 1.8)


def test_an_unknown_price_in_a_tier_without_prices_is_not_free() -> None:
    unpriced = Flavor("mystery", "edge", "gpu", "x", "GPU")
    plan = plan_of(
        SMALL, node("m", unpriced, GPU=1.0), variants=(ONE_GPU,), waiting_usd_per_h=0.0, catalogue={**FLAVORS, "mystery": unpriced}
    )
    assert {c.flavor: c.base_score for c in plan.candidates}["mystery"] == pytest.approx(0.36 / 3600)


# -- waiting ---------------------------------------------------------------------------------------------------------------


def test_a_call_waits_for_a_busy_flavor_that_still_finishes_it_sooner() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 10.0})
    send(plan, "big")
    route = plan.route()
    assert (route.chosen.flavor, route.reason) == ("big", "Patience")
    assert route.chosen.wait_s > 0


def test_a_call_takes_the_next_best_flavor_once_the_queue_makes_that_sooner() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 3.0})
    flavors = []
    for _ in range(4):
        chosen = plan.choose()
        flavors.append(chosen.flavor)
        start(chosen.claims, chosen.run_s)
    assert flavors == ["big", "big", "small", "big"]


def test_the_reason_is_fallback_when_the_best_flavor_is_too_busy() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 3.0})
    send(plan, "big", times=10)
    assert (plan.choose().flavor, plan.route().reason) == ("small", "Fallback")


def test_what_others_use_counts_as_busy() -> None:
    taken = node("big-1", HOT, used={"GPU": 1.0}, GPU=1.0)
    plan = plan_of(taken, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 1.5})
    assert plan.choose().flavor == "small"


# -- CPU work and accelerators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [ONE_CPU, ANY_CPU], ids=["unbound", "for-cpu"])
def test_cpu_work_stays_off_accelerators_while_a_cpu_node_has_room(variant: Variant) -> None:
    plan = plan_of(BIG, CPUS, variants=(variant,), run_s={"big": 0.01, "cpu": 100.0})
    send(plan, "cpu", times=3)
    route = plan.route()
    assert (route.chosen.flavor, route.reason) == ("cpu", "OnlyFit")
    assert alternative(route, "big").excluded == "CpuHasRoom"


def test_cpu_work_overflows_onto_an_idle_accelerator_node_when_every_cpu_is_taken() -> None:
    plan = plan_of(BIG, CPUS, run_s={"big": 1.0, "cpu": 1.0}, waiting_usd_per_h=360.0)
    send(plan, "cpu", times=40)
    assert (plan.choose().flavor, plan.route().reason) == ("big", "Fallback")


def test_cpu_work_waits_for_a_cpu_when_the_accelerator_node_costs_more_than_waiting() -> None:
    plan = plan_of(BIG, CPUS, run_s={"big": 1.0, "cpu": 1.0}, waiting_usd_per_h=0.1)
    send(plan, "cpu", times=5)
    assert (plan.choose().flavor, plan.route().reason) == ("cpu", "Patience")


def test_cpu_work_too_large_for_every_cpu_node_goes_to_an_accelerator_node() -> None:
    large = node("big-1", HOT, CPU=64.0, GPU=8.0)
    route = plan_of(large, CPUS, variants=(Variant("v", "", Resources(num_cpus=16)),)).route()
    assert route.chosen.flavor == "big"
    assert (alternative(route, "cpu").excluded, alternative(route, "cpu").detail) == (
        "Resources",
        "needs 16 CPU on one node, the largest has 4",
    )


def test_room_on_an_accelerator_node_that_a_variant_asks_for_is_not_cpu_room() -> None:
    pinned = Variant("pinned", "hot", Resources())
    plan = plan_of(BIG, SMALL, CPUS, variants=(ANY_CPU, pinned), run_s={"big": 500.0, "small": 1.0, "cpu": 1.0}, waiting_usd_per_h=3600.0)
    send(plan, "cpu", times=40)
    assert plan.choose().flavor == "small", "the CPU nodes are full, so CPU work may overflow"


def test_cpu_work_that_names_an_accelerator_tier_competes_there_without_overflowing() -> None:
    plan = plan_of(BIG, CPUS, variants=(Variant("v", "hot", Resources()),))
    assert [c.flavor for c in plan.candidates] == ["big"]
    assert plan.overflow == []


# -- variants --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "flavors"),
    [
        ("big", {"big"}),
        ("nvidia-tesla", {"big", "small"}),
        ("gpu", {"big", "small"}),
        ("npu", {"chip"}),
        ("qualcomm", {"chip"}),
        ("hot", {"big"}),
        ("warm", {"small", "chip"}),
        ("cold", {"cpu"}),
        ("x86", {"cpu"}),
    ],
)
def test_a_variant_is_for_flavors_by_name_family_kind_or_tier(wanted: str, flavors: set[str]) -> None:
    plan = plan_of(BIG, SMALL, CHIP, CPUS, variants=(Variant("v", wanted, Resources()),))
    assert {c.flavor for c in (*plan.candidates, *plan.overflow)} == flavors
    assert {a.flavor: a.excluded for a in plan.excluded} == dict.fromkeys({"big", "small", "chip", "cpu"} - flavors, "NoVariant")


def test_a_variant_for_cpu_may_overflow_onto_every_node() -> None:
    plan = plan_of(BIG, CHIP, CPUS, variants=(ANY_CPU,))
    assert ([c.flavor for c in plan.candidates], {c.flavor for c in plan.overflow}) == (["cpu"], {"big", "chip"})


@pytest.mark.parametrize(
    ("wanted", "given", "asked"),
    [
        ("npu", Resources(), Resources(custom=(("QAIC", 2.0),))),
        ("qualcomm", Resources(num_cpus=2), Resources(num_cpus=2, custom=(("QAIC", 2.0),))),
        ("chip", Resources(custom=(("QAIC", 1.0),)), Resources(custom=(("QAIC", 1.0),))),
        ("gpu", Resources(), Resources(num_gpus=1)),
        ("big", Resources(num_gpus=0.5), Resources(num_gpus=0.5)),
        ("hot", Resources(), Resources()),
        ("", Resources(), Resources()),
        ("npu", Resources(custom=(("QAIC", 0.0),)), Resources(custom=(("QAIC", 2.0),))),
    ],
)
def test_an_accelerator_named_without_an_amount_means_one_unit_of_it(wanted: str, given: Resources, asked: Resources) -> None:
    plan = plan_of(BIG, CHIP, CPUS, variants=(Variant("v", wanted, given),))
    flavor = {"npu": "chip", "qualcomm": "chip", "chip": "chip"}.get(wanted, "big")
    assert next(c for c in (*plan.candidates, *plan.overflow) if c.flavor == flavor).resources == asked


def test_each_flavor_offers_the_variants_that_fit_it_and_the_best_one_wins() -> None:
    slow, fast = Variant("slow", "gpu", Resources(num_gpus=1)), Variant("fast", "big", Resources(num_gpus=1))
    plan = plan_of(BIG, SMALL, variants=(slow, fast), run_s={"big/slow": 2.0, "big/fast": 1.0, "small": 3.0})
    assert [(c.flavor, c.variant.name) for c in plan.candidates] == [("big", "fast"), ("big", "slow"), ("small", "slow")]


# -- the domain only breaks ties -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "small_s", "chosen", "reason"),
    [
        ("cv", 1.0, "big", "DomainPreference"),
        ("nlp", 1.0, "big", "DomainPreference"),
        ("tabular", 1.0, "small", "BestScore"),
        ("other", 1.0, "small", "BestScore"),
        ("cv", 0.95, "small", "BestScore"),
        ("cv", 2.0, "big", "BestScore"),
    ],
)
def test_among_equals_the_domain_prefers_its_hardware(domain: str, small_s: float, chosen: str, reason: str) -> None:
    dear = 36.0 * 10_000
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.01, "small": small_s}, waiting_usd_per_h=dear, domain=domain)  # type: ignore[arg-type]
    assert (plan.choose().flavor, plan.route().reason) == (chosen, reason)


def test_a_preferred_flavor_that_must_wait_is_no_longer_an_equal() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 1.0}, waiting_usd_per_h=360_000.0, domain="cv")
    send(plan, "big")
    assert plan.choose().flavor == "small"


# -- what fits nowhere -----------------------------------------------------------------------------------------------------


def test_a_call_for_128_gpus_is_refused_at_once_with_what_each_tier_is_short_of() -> None:
    with pytest.raises(NoFitError) as caught:
        plan_of(BIG, SMALL, CPUS, variants=(Variant("v", "", Resources(num_gpus=128)),))
    error = caught.value
    assert error.shortfalls == (
        ("hot", "big: needs 128 GPU on one node, the largest has 1"),
        ("warm", "small: needs 128 GPU on one node, the largest has 1"),
        ("cold", "cpu: needs 128 GPU on one node, the largest has 0"),
    )
    assert (error.code, error.retryable, error.hint) == ("no_fit", False, "ask for less, or add a node that is large enough")
    assert str(error).startswith("work fits nowhere: ")


def test_amounts_that_only_fit_on_different_nodes_do_not_fit() -> None:
    nodes = (node("a", HOT, GPU=8.0, CPU=4.0), node("b", HOT, GPU=1.0, CPU=64.0))
    with pytest.raises(NoFitError, match="together on one node"):
        plan_of(*nodes, variants=(Variant("v", "", Resources(num_gpus=4, num_cpus=32)),))


def test_cordoned_nodes_take_no_calls_and_are_listed_as_closed() -> None:
    closed = node("big-2", HOT, health="cordoned", GPU=8.0)
    plan = plan_of(BIG, closed, variants=(ONE_GPU,))
    (candidate,) = plan.candidates
    assert candidate.capacity.closed == ("big-2",)
    assert candidate.capacity.total["GPU"] == 1.0


@pytest.mark.parametrize("health", ["cordoned", "draining"])
def test_a_call_that_only_closed_nodes_could_hold_is_refused_as_retryable(health: str) -> None:
    with pytest.raises(NoFitError) as caught:
        plan_of(node("big-1", HOT, health=health, GPU=1.0), CPUS, variants=(ONE_GPU,))  # type: ignore[arg-type]
    assert caught.value.retryable is True
    assert ("hot", "big: no ready node (1 cordoned or draining)") in caught.value.shortfalls
    assert caught.value.hint == "uncordon a node, or wait for one"


def test_a_flavor_without_ready_nodes_is_shown_as_such_in_the_route_of_what_fits_elsewhere() -> None:
    route = plan_of(node("big-1", HOT, health="cordoned", GPU=1.0), SMALL, variants=(ONE_GPU,)).route()
    assert (route.reason, alternative(route, "big").excluded) == ("OnlyFit", "NoNodes")


def test_a_fabric_without_nodes_says_how_to_start_one() -> None:
    with pytest.raises(NoFitError, match="no labelled node") as caught:
        plan_of()
    assert "ray start" in str(caught.value.hint)
    assert caught.value.retryable is True


def test_choosing_from_an_empty_plan_is_a_bug_and_says_so() -> None:
    with pytest.raises(BugError):
        Plan([], [], frozenset(), 0.01).choose()


# -- the whole rule, by brute force ----------------------------------------------------------------------------------------

amounts = st.sampled_from([0.0, 0.5, 1.0, 2.0])
variants = st.builds(
    lambda name, flavor, cpus, gpus: Variant(name, flavor, Resources(num_cpus=cpus, num_gpus=gpus)),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["", "cpu", "gpu", "npu", "hot", "big", "cold"]),
    st.sampled_from([0.5, 1.0, 4.0]),
    amounts,
)
fleets = st.lists(
    st.sampled_from([(HOT, {"GPU": 1.0}), (HOT, {"GPU": 8.0, "CPU": 32.0}), (WARM, {"GPU": 2.0}), (NPU, {"QAIC": 2.0}), (COLD, {})]),
    min_size=1,
    max_size=6,
)


def build(nodes: list[tuple[Flavor, dict[str, float]]]) -> tuple[Node, ...]:
    return tuple(node(f"n{index}", flavor, **total) for index, (flavor, total) in enumerate(nodes))


def total_score(candidate: Candidate, waiting_usd_per_s: float) -> float:
    return candidate.base_score + candidate.wait_s() * waiting_usd_per_s


@settings(max_examples=150, deadline=None)
@given(
    nodes=fleets,
    wanted=st.lists(variants, min_size=1, max_size=3, unique_by=lambda v: v.name),
    run_s=st.fixed_dictionaries({name: st.sampled_from([0.001, 0.01, 1.0, 1.01, 1.5, 30.0]) for name in FLAVORS}),
    waiting_usd_per_h=st.sampled_from([0.0, 1.0, 36.0, 10_000.0]),
    domain=st.sampled_from(["cv", "nlp", "other"]),
    in_flight=st.lists(st.integers(0, 20), max_size=30),
)
def test_the_choice_is_the_best_of_all_that_the_rules_allow(
    nodes: list[tuple[Flavor, dict[str, float]]],
    wanted: list[Variant],
    run_s: dict[str, float],
    waiting_usd_per_h: float,
    domain: str,
    in_flight: list[int],
) -> None:
    fleet = build(nodes)
    try:
        plan = plan_of(*fleet, variants=tuple(wanted), run_s=run_s, waiting_usd_per_h=waiting_usd_per_h, domain=domain)  # type: ignore[arg-type]
    except NoFitError:
        return
    everywhere = [*plan.candidates, *plan.overflow]
    for index in in_flight:
        candidate = everywhere[index % len(everywhere)]
        start(candidate.claims, candidate.run_s)

    has_cpu_room = any(c.is_cpu_only and c.capacity.flavor.is_cpu and c.wait_s() == 0 for c in plan.candidates)
    allowed = plan.candidates + ([] if has_cpu_room else plan.overflow)
    waiting = waiting_usd_per_h / 3600.0
    lowest = min(total_score(c, waiting) for c in allowed)
    preferred = [c for c in plan.candidates if c.flavor in plan.preferred and total_score(c, waiting) <= lowest * TIE]

    chosen = plan.choose()
    assert chosen in allowed
    score = total_score(chosen, waiting)
    if preferred:
        assert chosen in preferred
        assert score == min(total_score(c, waiting) for c in preferred)
    else:
        assert score == lowest
    route = plan.route()
    assert route.chosen.flavor == chosen.flavor
    assert len(route.alternatives) == len(everywhere) + len(plan.excluded)


# -- replay ----------------------------------------------------------------------------------------------------------------


def test_replaying_a_load_gives_the_route_of_then_and_leaves_the_lanes_of_now() -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 3.0})
    before = plan.route()
    load = plan.load()
    send(plan, "big", times=10)
    now = plan.load()
    assert plan.replay(load) == before
    assert plan.load() == now
    assert plan.route().chosen.flavor == "small"


def test_calls_that_finish_make_the_plan_as_it_was() -> None:
    lanes = Lanes()
    plan = plan_of(BIG, CPUS, variants=GPU_OR_CPU, run_s={"big": 0.1, "cpu": 0.3}, lanes=lanes)
    idle = plan.route()
    flying = []
    for _ in range(100):
        chosen = plan.choose()
        start(chosen.claims, chosen.run_s)
        flying.append(chosen)
    for chosen in flying:
        finish(chosen.claims, chosen.run_s)
    assert all(lane == pytest.approx((0.0, 0.0, 0.0), abs=1e-9) for lane in plan.load())
    assert plan.route() == idle


@pytest.mark.parametrize(("num_in_flight", "is_second_best"), [(0, False), (1, True), (10, True)])
def test_a_call_is_second_best_when_it_waits_or_goes_elsewhere_because_of_others(num_in_flight: int, is_second_best: bool) -> None:
    plan = plan_of(BIG, SMALL, variants=(ONE_GPU,), run_s={"big": 1.0, "small": 3.0})
    send(plan, "big", times=num_in_flight)
    assert plan.is_second_best(plan.choose()) is is_second_best
