"""Where a model is served: at least cost in time, elsewhere where there is no room, and back again."""

import dataclasses
import json
from collections.abc import Mapping

import pytest

from fabric.capacity import FlavorCapacity, capacities
from fabric.claims import ClaimPlan, Room, plan_claims
from fabric.model_form import render_model
from fabric.model_runs import Sample, rows_of
from fabric.offers import CPU, ModelPrior, num_free, offers
from fabric.plane.reporting import with_claims
from fabric.types import Estimate, Fingerprint, Flavor, Lease, Node, Offer, PoolSnapshot, Resources, Variant
from profiler.estimate import Estimator, TaskProfile
from profiler.roofline import Cost
from profiler.shell import _run
from serve_apps import placing
from serve_apps.directory.form import model_form
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.table import ModelEntry
from serve_apps.moving import Movers, Standing
from serve_apps.place_model import Wish, placement_json
from serve_apps.placing import Mover, Need, choose, num_replicas_on, p95_ms, rank


def offer(flavor: str, run_ms: float, usd_per_h: float | None, *, free: int = 8, doubt: float = 0.0, **more: object) -> Offer:
    estimate = Estimate(run_ms / 1e3, doubt, 0 if doubt else 50)
    fields: dict[str, object] = {"is_preferred": False, "is_borrowed": False, "resources": Resources(0.1), "kind": CPU, **more}
    return Offer(
        flavor=flavor,
        tier="cold" if flavor.startswith("cpu") else "hot",
        estimate=estimate,
        source="roofline" if doubt else "measured",
        usd_per_h=usd_per_h,
        num_free=free,
        label_selector={"flavor": flavor},
        **fields,  # type: ignore[arg-type]
    )


SLOW, FAST, DEAR = offer("cpu", 40.0, 0.01), offer("t4", 4.0, 0.35), offer("a100", 1.0, 3.0)


@pytest.mark.parametrize(
    ("found", "need", "taken", "reason"),
    [
        pytest.param([DEAR, FAST, SLOW], Need(None), "cpu", placing.CHEAPEST, id="any time will do: the cheapest"),
        pytest.param([DEAR, FAST, SLOW], Need(100.0), "cpu", placing.CHEAPEST_IN_TIME, id="the cheapest is in time"),
        pytest.param([DEAR, FAST, SLOW], Need(20.0), "t4", placing.CHEAPEST_IN_TIME, id="the cheapest is too slow"),
        pytest.param([DEAR, FAST, SLOW], Need(0.5), "a100", placing.FASTEST, id="none is in time: the fastest"),
        pytest.param(
            [FAST, offer("cpu", 40.0, 0.1)], Need(100.0, 2000.0), "t4", placing.CHEAPEST_IN_TIME, id="a rate may need many slow ones"
        ),
        pytest.param([FAST], Need(20.0), "t4", placing.ONLY_FIT, id="there is but one"),
        pytest.param(
            [offer("cpu", 40.0, 0.01, doubt=0.9), FAST],
            Need(100.0),
            "t4",
            placing.CHEAPEST_IN_TIME,
            id="what is not measured counts as slow",
        ),
        pytest.param([offer("cpu", 40.0, None), FAST], Need(None), "t4", placing.CHEAPEST, id="an unknown price is never taken for free"),
        pytest.param(
            [offer("a", 5.0, 1.0), offer("b", 5.0, 1.01, is_preferred=True)], Need(50.0), "b", placing.DOMAIN_PREFERENCE, id="among equals"
        ),
        pytest.param(
            [offer("a100", 40.0, 0.001, is_borrowed=True), SLOW], Need(100.0), "cpu", placing.CHEAPEST_IN_TIME, id="host CPUs come last"
        ),
        pytest.param([SLOW._replace(num_free=0), FAST], Need(100.0), "t4", placing.FALLBACK, id="no room falls back"),
        pytest.param(
            [SLOW._replace(num_free=1), FAST], Need(100.0, num_replicas=2), "t4", placing.FALLBACK, id="room for one is none for two"
        ),
        pytest.param([SLOW._replace(num_free=0), FAST._replace(num_free=0)], Need(100.0), "cpu", placing.NO_ROOM, id="no room anywhere"),
    ],
)
def test_a_model_goes_where_it_is_in_time_at_least_cost(found: list[Offer], need: Need, taken: str, reason: str) -> None:
    if need.rate_per_s:
        found = [one._replace(num_free=1000) for one in found]
    choice = choose(found, need)
    assert (choice.taken.offer.flavor, choice.reason) == (taken, reason)


def test_a_rate_asks_for_replicas_and_so_for_money() -> None:
    assert num_replicas_on(SLOW, Need(None, rate_per_s=100.0)) == 6
    assert [one.usd_per_h for one in rank([SLOW], Need(None, rate_per_s=100.0))] == [pytest.approx(0.06)]


def test_the_choice_is_told_in_rays_terms_and_in_words() -> None:
    gpu = offer("t4", 4.0, 0.35, resources=Resources(0.1, num_gpus=1.0))
    choice = choose([SLOW, offer("cpu2", 50.0, 0.02), gpu._replace(num_free=0)], Need(100.0))
    placement = choice.placement
    assert placement.label_selector == {"flavor": "cpu"}
    assert placement.fallback_strategy == ({"label_selector": {"flavor": "cpu2"}},)
    assert choice.explain() == "cpu (cold): CheapestInTime; p95 80 ms (measured), $0.01 per hour"
    fallen = choose([SLOW._replace(num_free=0), FAST], Need(100.0))
    assert fallen.explain() == "t4 (hot): Fallback; p95 8 ms (measured), $0.35 per hour; cpu would be better and has no room"


def test_a_placement_is_kept_as_json_with_its_reason_and_all_places() -> None:
    gpu = offer("t4", 4.0, 0.35, resources=Resources(0.1, num_gpus=1.0), kind="gpu")
    kept = placement_json(choose([SLOW, gpu], Need(20.0)))
    assert json.loads(json.dumps(kept)) == kept
    assert (kept["flavor"], kept["kind"], kept["reason"], kept["ray_options"]) == ("t4", "gpu", "CheapestInTime", {"num_gpus": 1.0})
    assert [(one["flavor"], one["is_in_time"]) for one in kept["places"]] == [("t4", True), ("cpu", False)]
    assert kept["fallback_strategy"] == []


def test_accelerators_are_looked_at_only_with_a_latency_target() -> None:
    assert Wish("resnet", 0.1).kinds == ("cpu",)
    assert Wish("resnet", 0.1, latency_target_ms=50.0).kinds == ("cpu", "gpu")


def test_doubt_makes_a_prediction_slower() -> None:
    assert p95_ms(offer("x", 10.0, 1.0)) == pytest.approx(20.0)
    assert p95_ms(offer("x", 10.0, 1.0, doubt=0.5)) > 40.0


HERE = ("t4", CPU)
NEED = Need(100.0, num_replicas=2)


def test_a_model_comes_back_when_the_better_place_has_had_room_for_a_while() -> None:
    mover = Mover(moved_s=0.0)
    full = [SLOW._replace(num_free=0), FAST]
    assert all(mover.should_move(HERE, full, NEED, float(at)) is None for at in range(0, 1000, 5))
    moves = {at: move for at in range(1000, 1300, 5) if (move := mover.should_move(HERE, [SLOW, FAST], NEED, float(at)))}
    first = min(moves)
    assert first == pytest.approx(1000 + placing.BETTER_FOR_S, abs=5)
    assert (moves[first].reason, moves[first].choice.taken.offer.flavor) == (placing.CAME_BACK, "cpu")
    assert len(moves) == 1


def test_room_that_comes_and_goes_moves_nothing() -> None:
    mover = Mover(moved_s=0.0)
    for at in range(0, 3000, 10):
        room = 8 if (at // 60) % 2 else 0
        assert mover.should_move(HERE, [SLOW._replace(num_free=room), FAST], NEED, float(at)) is None


def test_a_model_that_has_just_moved_stays() -> None:
    mover = Mover(moved_s=1000.0)
    assert all(mover.should_move(HERE, [SLOW, FAST], NEED, 1000.0 + at) is None for at in range(0, int(placing.STAY_S), 10))


def test_a_small_saving_is_no_reason_to_move() -> None:
    mover = Mover(moved_s=-1e6)
    cheaper = offer("cpu", 40.0, 0.32)
    assert all(mover.should_move(HERE, [cheaper, FAST], NEED, float(at)) is None for at in range(0, 1000, 10))


def test_replicas_that_do_not_fit_fall_back_soon_and_whatever_it_costs() -> None:
    mover = Mover(moved_s=0.0)
    moves = [mover.should_move(("cpu", CPU), [SLOW._replace(num_free=0), FAST], NEED, float(at), num_missing=1) for at in range(0, 30, 5)]
    assert [move is not None for move in moves] == [False] * 4 + [True] + [False]
    move = next(one for one in moves if one is not None)
    assert (move.reason, move.choice.taken.offer.flavor) == (placing.FALLBACK, "t4")


def test_replicas_that_only_take_long_to_start_stay() -> None:
    mover = Mover(moved_s=0.0)
    assert all(mover.should_move(("cpu", CPU), [SLOW, FAST], NEED, float(at), num_missing=2) is None for at in range(0, 300, 5))


def test_a_model_whose_nodes_are_gone_is_deployed_again_elsewhere() -> None:
    settings = {"num_cpus": 0.1, "min_replicas": 2, "latency_target_ms": 100.0, "tier": None}
    record = DeployRecord("resnet", "1", "ann", 0.0, settings, state="ready", placement={"flavor": "cpu", "kind": CPU})
    asked: list[Wish] = []

    def fabric_offers(wish: Wish, _prior: ModelPrior) -> list[Offer]:
        asked.append(wish)
        return [FAST]

    movers = Movers(fabric_offers)
    moves = {at: movers.look([Standing(record, num_running=0)], float(at)) for at in range(0, 60, 10)}
    told = [(at, one.version, move.reason) for at, found in moves.items() for one, move in found]
    assert told == [(20, "1", placing.GONE)]
    assert asked[0] == Wish("resnet", 0.1, None, 100.0, 2)


def test_a_place_that_is_gone_is_left() -> None:
    mover = Mover(moved_s=0.0)
    assert mover.should_move(("a100", "gpu"), [FAST], NEED, 10.0) is None
    move = mover.should_move(("a100", "gpu"), [FAST], NEED, 40.0)
    assert move is not None
    assert move.reason == placing.GONE


# -- offers ------------------------------------------------------------------------------------------------------------------

CATALOGUE = {
    "cpu": Flavor("cpu", "cold", "cpu", "cpu", "CPU", peak_flops={"fp32": 40e9}, bandwidth_bytes_per_s=4e9, usd_per_h=0.05),
    "t4": Flavor(
        "t4",
        "warm",
        "gpu",
        "t4",
        "GPU",
        peak_flops={"fp32": 8e12, "fp16": 65e12},
        bandwidth_bytes_per_s=320e9,
        usd_per_h=0.35,
        tensor_cores=320,
    ),
}


def fabric(used: Mapping[str, float] | None = None) -> dict[str, FlavorCapacity]:
    nodes = [
        Node("a", "h1", "cold", "cpu", {"CPU": 16.0}, used or {}),
        Node("b", "h2", "warm", "t4", {"CPU": 8.0, "GPU": 2.0}),
    ]
    return capacities([PoolSnapshot(node.tier, 0, (node,)) for node in nodes], CATALOGUE)


VARIANTS = [Variant(CPU, CPU, Resources(0.5)), Variant("gpu", "gpu", Resources(0.5))]
RESNET = ModelPrior(Cost(flops=8e9, moved_bytes=2e8, num_kernels=120), Fingerprint("cv"))


def test_every_flavor_makes_an_offer_for_each_way_to_compute() -> None:
    found = {
        (one.flavor, one.kind): one for one in offers(VARIANTS, fabric(), CATALOGUE, TaskProfile("model:r", Fingerprint("cv")), RESNET)
    }
    assert set(found) == {("cpu", CPU), ("t4", CPU), ("t4", "gpu")}
    assert found[("t4", CPU)].is_borrowed
    assert found[("t4", CPU)].estimate == found[("cpu", CPU)].estimate
    assert found[("t4", "gpu")].resources == Resources(0.5, num_gpus=1.0)
    assert found[("t4", "gpu")].is_preferred
    assert found[("t4", "gpu")].estimate.run_s < 0.1 * found[("cpu", CPU)].estimate.run_s
    assert {one.source for one in found.values()} == {"roofline"}
    assert found[("t4", "gpu")].usd_per_h == pytest.approx(0.35)
    assert found[("cpu", CPU)].usd_per_h == pytest.approx(0.025)


def test_a_tier_that_is_named_is_kept() -> None:
    profile = TaskProfile("model:r", Fingerprint("cv"))
    assert {one.tier for one in offers(VARIANTS, fabric(), CATALOGUE, profile, RESNET, tier="cold")} == {"cold"}


def test_without_flops_the_domain_alone_predicts() -> None:
    found = offers(VARIANTS, fabric(), CATALOGUE, TaskProfile("model:r", Fingerprint("cv")), ModelPrior())
    assert {one.source for one in found} == {"domain"}
    assert all(one.estimate.run_s > 0 for one in found)


def test_measured_runs_of_a_replica_replace_the_prediction_and_correct_the_others() -> None:
    estimator = Estimator(CATALOGUE)
    before = {one.kind: one for one in offers(VARIANTS, fabric(), CATALOGUE, estimator.profile("model:r"), RESNET)}
    for row in rows_of([(1.2, 4096)] * 40, "r", CPU, "ann", "default"):
        estimator.record(_run("a", "cpu", *row))
    after = {(one.flavor, one.kind): one for one in offers(VARIANTS, fabric(), CATALOGUE, estimator.profile("model:r"), RESNET)}
    assert after[("cpu", CPU)].source == "measured"
    assert after[("cpu", CPU)].estimate.run_s == pytest.approx(1.2, rel=0.01)
    assert after[("t4", "gpu")].source == "roofline"
    assert before["gpu"].estimate.num_runs == 0


def test_what_a_models_file_said_is_kept_with_it() -> None:
    kept = json.loads(json.dumps(placement_json(choose([SLOW], Need()), RESNET)))["prior"]
    assert ModelPrior.from_json(kept).cost == RESNET.cost
    assert ModelPrior.from_json(kept).fingerprint.domain == "cv"
    assert ModelPrior.from_json(None) == ModelPrior()


def test_room_is_what_nobody_uses() -> None:
    resources = Resources(0.5)
    assert num_free(fabric()["cpu"], resources) == 32
    assert num_free(fabric({"CPU": 15.2})["cpu"], resources) == 1
    assert num_free(fabric({"CPU": 16.0})["cpu"], resources) == 0


def test_of_many_runs_an_even_sample_is_reported() -> None:
    sample = Sample(16)
    for at in range(10_000):
        sample.add((float(at), -1))
    kept = sample.take()
    assert len(kept) == 16
    assert 2000 < sum(value for value, _ in kept) / 16 < 8000
    assert sample.take() == []


def test_a_shown_model_says_why_it_stands_there_and_why_it_was_scaled() -> None:
    place = placement_json(choose([SLOW, FAST], Need(20.0, num_replicas=2)))
    record = DeployRecord("resnet", "1", "ann", 100.0, {"autoscale": None, "replicas": 2}, state="ready", placement=place)
    scaled = {"at": 150.0, "from": 2, "to": 4, "reason": "AboveTarget", "metric": "cpu_utilization", "value": 131.0, "target": 70.0}
    shown = render_model(model_form(ModelEntry("resnet", "1", {}), [record], {}, {"1": [scaled]}), now_s=160.0)
    assert "runs on   hot/t4: t4 (hot): CheapestInTime; p95 8 ms (measured), $0.7 per hour" in shown
    assert "10 s ago: 2 -> 4 replicas: cpu_utilization was 131 %, above the target of 70 %" in shown


# -- room --------------------------------------------------------------------------------------------------------------------


def pool(nodes: list[Node], leases: tuple[Lease, ...] = ()) -> PoolSnapshot:
    return PoolSnapshot("cold", 0, tuple(nodes), leases)


FULL = Node("full", "h1", "cold", "cpu", {"CPU": 4.0}, {"CPU": 4.0})
HALF = Node("half", "h2", "cold", "cpu", {"CPU": 4.0}, {"CPU": 2.0})
ROOM = Room("resnet", "cold", "cpu", Resources(1.0), 3)


def test_room_is_claimed_where_a_replica_waits_the_shortest_and_released_when_nobody_waits() -> None:
    plan = plan_claims([ROOM], [pool([FULL, HALF])])
    assert [(tier, lease.node_id, dict(lease.demand)) for tier, lease in plan.grant] == [("cold", "half", {"CPU": 1.0})] * 3
    leases = tuple(lease for _, lease in plan.grant)
    assert plan_claims([ROOM], [pool([FULL, HALF], leases)]) == ClaimPlan((), ())
    released = plan_claims([], [pool([FULL, HALF], (*leases, Lease("j", "job-1", "half", {"CPU": 1.0})))])
    assert (released.grant, {lease_id for _, lease_id in released.release}) == ((), {lease.lease_id for lease in leases})


def test_a_claim_moves_off_a_node_that_takes_no_new_work_and_never_exceeds_one() -> None:
    leases = tuple(lease for _, lease in plan_claims([ROOM], [pool([HALF])]).grant)
    moved = plan_claims([ROOM], [pool([FULL, dataclasses.replace(HALF, health="cordoned")], leases)])
    assert {lease.node_id for _, lease in moved.grant} == {"full"}
    many = plan_claims([dataclasses.replace(ROOM, num_replicas=9)], [pool([FULL, HALF])])
    assert len(many.grant) == 8


def test_what_is_claimed_counts_as_used_for_jobs() -> None:
    leases = tuple(lease for _, lease in plan_claims([ROOM], [pool([HALF])]).grant)
    assert with_claims(HALF, HALF.used, leases) == {"CPU": 4.0}
    assert with_claims(FULL, FULL.used, leases) == {"CPU": 4.0}


def test_a_model_waits_for_room_where_it_is_missing_replicas_and_where_it_would_rather_be() -> None:
    mover = Mover(moved_s=-placing.STAY_S)
    mover.should_move(("cpu", CPU), [SLOW._replace(num_free=0), FAST._replace(num_free=0)], NEED, 0.0, num_missing=1)
    assert mover.wanted is not None
    assert (mover.wanted.offer.flavor, mover.wanted.num_replicas) == ("cpu", 1)
    mover.should_move(HERE, [SLOW._replace(num_free=0), FAST], NEED, 10.0)
    assert mover.wanted is not None
    assert (mover.wanted.offer.flavor, mover.wanted.num_replicas) == ("cpu", 2)
    mover.should_move(("cpu", CPU), [SLOW, FAST], NEED, 20.0)
    assert mover.wanted is None
