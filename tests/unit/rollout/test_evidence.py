"""Evidence that may be looked at at any time: right about truth, and rarely wrong, however often it is looked at."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.directory.observed import Observed, Sum, bucket_of
from serve_apps.rollout.block import Block, Health
from serve_apps.rollout.evidence import Evidence, nearest_in_null, split_log_odds
from serve_apps.rollout.guards import parse_guard
from serve_apps.rollout.histogram import num_above, quantile_ms
from serve_apps.rollout.means import Estimate, interval, log_evidence, mean_of
from serve_apps.rollout.rate_watch import RateWatch

ALPHA = 0.05


def most(runs: int) -> float:
    """At the bound itself, evidence is wrong nearly as often as it may be: two standard deviations above."""
    return ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def frac_rejected(
    rate0: float, rate1: float, scale: float, shift: float, *, runs: int = 80, is_against: bool = True, seed: int = 7
) -> float:
    """Of runs of 40 blocks, 60 + 20 requests each, looked at after each block."""
    rng, rejected = numpy.random.default_rng(seed), 0
    for _ in range(runs):
        evidence, seen = Evidence(scale, shift, is_against), [0.5, 50.0]
        for _ in range(40):
            bad0, bad1 = rng.binomial(60, rate0), rng.binomial(20, rate1)
            evidence.add(seen[0] / seen[1], (60, bad0), (20, bad1), 0.0 if evidence.logs else 1.0)
            seen = [seen[0] + bad0, seen[1] + 60]
        rejected += evidence.p_value <= ALPHA
    return rejected / runs


@pytest.mark.parametrize(
    ("rate0", "rate1", "scale", "shift"),
    [
        pytest.param(0.05, 0.05, 1.0, 0.0, id="as many slow ones as the champion"),
        pytest.param(0.02, 0.05, 1.0, 0.03, id="as many errors as the guard allows"),
        pytest.param(0.04, 0.06, 1.5, 0.0, id="the allowed multiple"),
        pytest.param(0.0, 0.02, 0.0, 0.02, id="an absolute bound"),
    ],
)
def test_a_version_at_its_bound_is_rarely_blamed_although_it_is_looked_at_all_the_time(
    rate0: float, rate1: float, scale: float, shift: float
) -> None:
    assert frac_rejected(rate0, rate1, scale, shift) <= most(80)
    assert frac_rejected(rate0, rate1, scale, shift, is_against=False) <= most(80)


def test_a_version_beyond_its_bound_is_found_and_one_within_it_is_known_to_be() -> None:
    assert frac_rejected(0.01, 0.08, 1.0, 0.01, runs=15) == 1.0
    assert frac_rejected(0.01, 0.01, 1.0, 0.05, runs=15, is_against=False) == 1.0


def test_slow_minutes_that_hit_both_sides_are_no_evidence() -> None:
    rng, rejected = numpy.random.default_rng(3), 0
    for _ in range(100):
        evidence = Evidence(1.0, 0.0, is_against=True)
        for block in range(60):
            rate = 0.95 if block % 7 == 0 else 0.05
            evidence.add(0.05, (60, rng.binomial(60, rate)), (20, rng.binomial(20, rate)), 0.0 if evidence.logs else 1.0)
        rejected += evidence.p_value <= ALPHA
    assert rejected / 100 <= most(100)


def test_a_slow_spell_that_one_side_reports_a_look_earlier_is_no_evidence() -> None:
    rng, blamed = numpy.random.default_rng(5), 0
    for _ in range(10):
        watch = RateWatch.of(parse_guard("latency_p95<=1.2x"))
        slow = [look % 100 in range(5, 8) for look in range(301)]
        for look in range(300):
            champion, challenger = (
                latencies(rng, 50, 3.0 if is_slow else 1.0)
                for is_slow in (slow[look], slow[look + 1])  # the challenger's come first
            )
            watch.add(Block(champion, challenger, Health(1), 0.5, 0, 0.5, 0.9 if look == 0 else 0.0))
        blamed += watch.verdict(ALPHA) == "violated"
        assert watch.num_samples > 10_000
    assert blamed == 0


def latencies(rng: numpy.random.Generator, num: int, slower: float) -> Observed:
    counts: dict[int, int] = {}
    for latency_ms in rng.lognormal(3, 0.3, num) * slower:
        counts[bucket_of(latency_ms)] = counts.get(bucket_of(latency_ms), 0) + 1
    return Observed(counts)


def test_what_breaks_late_is_found_by_evidence_that_began_late() -> None:
    rng, late = numpy.random.default_rng(1), {}
    for entering in (0.0, 0.001):
        evidence = Evidence(1.0, 0.0, is_against=True)
        for block in range(400):
            rate1 = 0.02 if block < 385 else 0.2
            evidence.add(0.05, (60, rng.binomial(60, 0.05)), (20, rng.binomial(20, rate1)), entering if evidence.logs else 0.6)
        late[entering] = evidence.p_value
    assert late[0.001] < 1e-3 < 0.1 < late[0.0]


def test_nothing_in_the_null_is_nearer_than_what_is_found() -> None:
    def distance(p0: float, p1: float) -> float:
        pairs = ((99, 0.001, p0), (5, 0.02, p1))
        return sum(num * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))) for num, q, p in pairs)

    null0, null1 = nearest_in_null(0.001, 99, numpy.array([0.02]), 5, 1.0, 0.005)
    assert null1[0] == pytest.approx(null0[0] + 0.005)
    found = distance(float(null0[0]), float(null1[0]))
    assert all(found <= distance(p0, p0 + 0.005) + 1e-9 for p0 in numpy.geomspace(1e-5, 0.5, 500))


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_a_bet_on_the_split_is_fair_whatever_happened_in_the_block(num0: int, num1: int, data: st.DataObject) -> None:
    counted = data.draw(st.integers(0, num0 + num1))
    total, expected = math.comb(num0 + num1, num1), 0.0
    for fell1 in range(max(0, counted - num0), min(num1, counted) + 1):
        chance = math.comb(counted, fell1) * math.comb(num0 + num1 - counted, num1 - fell1) / total
        expected += chance * math.exp(split_log_odds((num0, counted - fell1), (num1, fell1), [0.8])[0])
    assert expected == pytest.approx(1.0)


def test_a_quantile_and_the_share_beyond_it_agree() -> None:
    counts: dict[int, float] = {}
    for latency_ms in numpy.random.default_rng(0).lognormal(3, 0.5, 5000):
        counts[bucket_of(float(latency_ms))] = counts.get(bucket_of(float(latency_ms)), 0) + 1
    for tail in (0.5, 0.05, 0.01):
        at_ms = quantile_ms(counts, tail)
        assert at_ms is not None
        assert num_above(counts, at_ms) == pytest.approx(tail * 5000)
    assert quantile_ms({}, 0.05) is None


def sums(values: numpy.ndarray) -> Sum:
    return Sum(len(values), float(values.sum()), float((values**2).sum()))


def test_an_interval_holds_the_mean_at_all_looks_at_once() -> None:
    rng, missed = numpy.random.default_rng(11), 0
    for _ in range(200):
        values = (rng.random(3000) < 0.1).astype(float)
        for num in range(100, 3001, 100):
            estimate = mean_of(sums(values[:num]))
            assert estimate is not None
            low, high = interval(estimate, estimate.variance * num / 1000, ALPHA)
            if not low <= 0.1 <= high:
                missed += 1
                break
    assert missed / 200 <= ALPHA


def test_few_values_say_nothing_of_a_mean() -> None:
    assert mean_of(Sum(49, 10.0, 10.0)) is None


def test_evidence_for_a_mean_above_nothing_grows_with_it() -> None:
    assert log_evidence(0.0, 0.0, 1.0) == pytest.approx(0.0)
    assert log_evidence(-500.0, 100.0, 1.0) < log_evidence(0.0, 100.0, 1.0) < 0 < log_evidence(50.0, 100.0, 1.0)
    assert interval(Estimate(1.0, 0.01), 1.0, 0.05)[0] < 1.0
