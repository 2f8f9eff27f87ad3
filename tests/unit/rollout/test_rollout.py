"""How a challenger comes to serve a model, step by step, and what ends it."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.errors import RejectedError
from serve_apps.directory.observed import Observed, Sum, bucket_of
from serve_apps.rollout.block import Health
from serve_apps.rollout.decision import Decision
from serve_apps.rollout.rollout import Rollout
from serve_apps.rollout.spec import Canary, RolloutSpec

READY = Health(1, 1)


@dataclass
class Life:
    """A rollout under simulated traffic, looked at every second."""

    spec: RolloutSpec
    per_s: int = 200
    seed: int = 0
    errors: float = 0.0
    slower: float = 1.0
    disagree: float = 0.0
    drift: float = 0.0
    conversion: tuple[float, float] = (0.1, 0.1)
    usd_per_h: tuple[float, float] = (0.0, 0.0)
    now_s: float = 0.0
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = numpy.random.default_rng(self.seed)
        self.rollout = Rollout.begin(self.spec, champion="2", challenger="3", now_s=0.0)
        self.sums = [Observed(), Observed()]

    def look(self, health: Health = READY) -> Decision:
        self.now_s += 1.0
        before = self.decisions[-1] if self.decisions else self.rollout.decision()
        num1 = int(self.rng.binomial(self.per_s, before.shares["3"] / 10_000))
        copies = int(self.rng.binomial(self.per_s - num1, before.shadow_share / 10_000))
        drift = self.rng.normal(self.drift, 0.01, copies)
        self.sums[0] += self.requests(self.per_s - num1, 0.001, 1.0, self.conversion[0]) + Observed(
            num_compared=copies,
            num_agreed=copies - int(self.rng.binomial(copies, self.disagree)),
            drift=Sum(copies, float(drift.sum()), float((drift**2).sum())),
        )
        self.sums[1] += self.requests(num1, 0.001 + self.errors, self.slower, self.conversion[1])
        priced = Health(health.num_ready, health.num_wanted, health.num_deaths, health.start_error, 0, 0, *reversed(self.usd_per_h))
        self.decisions.append(self.rollout.look(self.now_s, *self.sums, priced))
        return self.decisions[-1]

    def requests(self, num: int, errors: float, slower: float, conversion: float) -> Observed:
        failed = int(self.rng.binomial(num, errors))
        counts: dict[int, int] = {}
        for latency_ms in self.rng.lognormal(3, 0.3, num - failed) * slower:
            counts[bucket_of(latency_ms)] = counts.get(bucket_of(latency_ms), 0) + 1
        won = float(self.rng.binomial(num, conversion))
        return Observed(counts, failed, metrics={"conversion": Sum(num, won, won)} if num else {})

    def until_ended(self, most_s: int = 900) -> Decision:
        while not self.decisions or (not self.decisions[-1].is_ended and self.now_s < most_s):
            self.look()
        return self.decisions[-1]

    def until(self, state: str, most_s: int = 900) -> Decision:
        while not self.decisions or (self.decisions[-1].state != state and self.now_s < most_s):
            self.look()
        assert self.decisions[-1].state == state
        return self.decisions[-1]


def quick(**given: Any) -> RolloutSpec:
    return Canary(**{"steps": "5,50", "soak": 10, "min_samples": 20, **given})


def test_a_good_version_goes_through_every_step_and_is_promoted() -> None:
    life = Life(quick())
    assert life.until_ended().state == "promoted"
    assert [fact["percent"] for fact in life.rollout.history] == [5.0, 50.0, 100.0, 100.0]
    assert life.decisions[-1].shares == {"2": 0, "3": 10_000}
    shares = [decision.shares["3"] for decision in life.decisions]
    assert shares == sorted(shares)


def test_at_100_percent_the_champion_keeps_some_requests_to_compare_with() -> None:
    life = Life(quick())
    life.until_ended()
    assert {"2": 100, "3": 9_900} in [decision.shares for decision in life.decisions]


@pytest.mark.parametrize(
    ("fault", "guard"),
    [
        ({"slower": 1.5}, "latency_p95<=1.2x"),
        ({"errors": 0.05}, "error_rate<=+0.5%"),
        ({"disagree": 0.1}, "agreement>=0.98"),
        ({"drift": 0.1}, "drift<=0.05"),
        ({"conversion": (0.5, 0.3)}, "metric:conversion>=-2%"),
    ],
)
def test_a_version_that_breaks_a_guard_is_rolled_back_with_the_numbers(fault: dict[str, Any], guard: str) -> None:
    life = Life(quick(guards=[guard]), **fault)
    decision = life.until_ended()
    assert decision.state == "rolled_back"
    assert decision.shares == {"2": 10_000, "3": 0}
    assert decision.reason.startswith(f"{guard} is violated: ")
    assert decision.fact is not None
    assert decision.fact["figures"][0]["verdict"] == "violated"
    json.dumps(decision.fact)
    assert decision.shadow_share == 0


def test_no_good_version_of_many_is_rolled_back() -> None:
    states = [Life(quick(alpha=0.05, steps="20", soak=5), per_s=60, seed=seed).until_ended(60).state for seed in range(15)]
    assert states.count("rolled_back") == 0


def test_a_version_that_cannot_start_leaves_traffic_where_it_was() -> None:
    life = Life(quick())
    life.look(Health(0, 1))
    decision = life.look(Health(0, 1, start_error="out of memory"))
    assert (decision.state, decision.shares) == ("failed", {"2": 10_000, "3": 0})
    assert "out of memory" in decision.reason


def test_a_version_that_never_gets_ready_fails_in_time() -> None:
    life = Life(quick(start_timeout=3))
    states = [life.look(Health(0, 1)).state for _ in range(5)]
    assert states == ["starting"] * 3 + ["failed"] * 2


@pytest.mark.parametrize(
    ("health", "words"),
    [(Health(1, 2, num_deaths=2), "keep dying: 2 deaths"), (Health(0, 2, num_deaths=1), "no replica of the challenger is left")],
)
def test_replicas_that_die_end_a_rollout_at_the_next_look(health: Health, words: str) -> None:
    life = Life(quick())
    life.until("stepping")
    assert life.look(Health(1, 2, num_deaths=1)).state == "stepping"
    decision = life.look(health)
    assert decision.state == "rolled_back"
    assert words in decision.reason


def test_copies_come_first_where_that_is_asked_for() -> None:
    life = Life(quick(shadow_first="20s", guards=["agreement>=0.9"]))
    decision = life.until("shadow")
    assert decision.shares["3"] == 0
    assert 0 < decision.shadow_share <= 10_000
    life.until("stepping")
    assert life.now_s >= 20
    assert 0 < life.decisions[-1].shadow_share <= 5_000


def test_wrong_answers_end_a_rollout_before_a_user_sees_one() -> None:
    life = Life(quick(shadow_first="30s", guards=["agreement>=0.98"]), disagree=0.2)
    assert life.until_ended().state == "rolled_back"
    assert life.sums[1].num_requests == 0


def test_too_few_requests_pause_a_rollout_until_they_come() -> None:
    life = Life(quick(steps="5", guards=["error_rate<=+5%"]), per_s=2)
    decision = life.until("paused")
    assert "too few requests to judge" in decision.reason
    life.per_s = 400
    assert life.until_ended().state == "promoted"


def test_a_metric_that_nobody_posts_holds_the_rollout_and_says_so() -> None:
    life = Life(quick(guards=["metric:sales>=-2%"]))
    decision = life.until("paused")
    assert decision.reason == "too few samples to judge metric:sales>=-2%: 0 of 20"
    for _ in range(50):
        assert life.look().shares["3"] == 500


def test_paused_by_hand_stays_until_resumed_and_is_still_watched() -> None:
    life = Life(quick())
    life.until("stepping")
    assert life.rollout.pause(life.now_s, "ada").reason == "paused by ada"
    for _ in range(40):
        assert life.look().shares["3"] == 500
    assert life.rollout.resume(life.now_s).state == "stepping"
    life.rollout.pause(life.now_s)
    life.errors = 0.3
    assert life.until_ended().state == "rolled_back"


def test_promote_and_abort_by_hand_end_it_at_once() -> None:
    for verb, state, share in (("promote", "promoted", 10_000), ("abort", "aborted", 0)):
        life = Life(quick())
        life.until("stepping")
        decision = getattr(life.rollout, verb)(life.now_s, "ada")
        assert (decision.state, decision.shares["3"], decision.reason) == (state, share, f"{state} by ada")
        assert life.look().fact is None
        with pytest.raises(RejectedError) as caught:
            life.rollout.abort(life.now_s)
        assert caught.value.code == "rollout_ended"


def test_a_challenger_that_starts_can_be_aborted_and_not_promoted() -> None:
    life = Life(quick())
    life.look(Health(0, 1))
    with pytest.raises(RejectedError) as caught:
        life.rollout.promote(1.0)
    assert caught.value.code == "rollout_not_ready"
    assert life.rollout.abort(1.0).state == "aborted"


def test_a_cheaper_place_is_promoted_and_a_dearer_one_rolled_back_once_it_has_the_load() -> None:
    for usd_per_h, state in (((4.0, 2.0), "promoted"), ((4.0, 8.0), "rolled_back")):
        life = Life(quick(guards=["latency_p95<=1.2x", "cost_per_1000<=1x"], soak=30), usd_per_h=usd_per_h, per_s=100)
        decision = life.until_ended()
        assert decision.state == state, decision.reason
        assert decision.percent == (100.0 if state == "promoted" else 0.0)


def test_the_same_sums_twice_change_nothing() -> None:
    life = Life(quick())
    life.until("stepping")
    for _ in range(5):
        life.look()
    before = life.rollout.as_json()
    again = life.rollout.look(life.now_s, *life.sums, READY)
    assert again.fact is None
    assert life.rollout.as_json() == before


def test_sums_that_fall_are_not_compared() -> None:
    life = Life(quick())
    life.until("stepping")
    life.look()
    decision = life.rollout.look(life.now_s + 1, Observed({3: 1}), Observed(num_errors=500), READY)
    assert decision.state == "stepping"
    decision = life.rollout.look(life.now_s + 2, Observed({3: 2}), Observed(num_errors=0), READY)
    assert decision.state == "stepping"


def test_time_in_which_nobody_watched_is_no_soak() -> None:
    life = Life(quick(soak=60))
    life.until("stepping")
    life.rollout.look(life.now_s + 10_000, *life.sums, READY)
    assert life.rollout.soaked_s <= 5.0


@given(st.integers(0, 200), st.sampled_from([0.0, 0.03]), st.lists(st.integers(1, 40), max_size=3))
@settings(max_examples=6, deadline=None)
def test_read_back_at_any_moment_it_decides_as_if_nothing_had_happened(seed: int, errors: float, cuts: list[int]) -> None:
    spec = quick(
        steps="20", soak=5, guards=["latency_p95<=1.2x", "error_rate<=+0.5%", "agreement>=0.9", "drift<=0.5", "metric:conversion>=-50%"]
    )
    whole, cut = (Life(spec, per_s=80, seed=seed, errors=errors) for _ in range(2))
    for look in range(45):
        first, second = whole.look(), cut.look()
        assert first == second
        assert sum(first.shares.values()) == 10_000
        if look in cuts:
            cut.rollout = Rollout.from_json(json.loads(json.dumps(cut.rollout.as_json())))


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 5), st.sampled_from(["look", "pause", "resume"])), max_size=40
    )
)
@settings(max_examples=40, deadline=None)
def test_shares_sum_to_the_whole_and_never_fall_but_to_nothing(
    looks: list[tuple[int, int, int, str]],
) -> None:
    rollout = Rollout.begin(quick(soak=2, min_samples=1), champion="2", challenger="3", now_s=0.0)
    now_s, share, sums = 0.0, 0, [Observed(), Observed()]
    for num0, num1, errors, verb in looks:
        now_s += 1.0
        if verb != "look" and rollout.state not in ("starting", "failed", "rolled_back", "promoted"):
            getattr(rollout, verb)(now_s)
        sums = [sums[0] + Observed({80: num0}), sums[1] + Observed({80: num1}, errors)]
        decision = rollout.look(now_s, *sums, READY)
        assert sum(decision.shares.values()) == 10_000
        assert decision.shares["3"] >= share or decision.state == "rolled_back"
        share = decision.shares["3"]
