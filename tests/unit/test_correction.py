"""A probe moves the forecast by as much as it is sure of, and a contradiction makes nobody surer."""

from __future__ import annotations

import math
import random

import pytest

from profiler.correction import Probe, corrected, probe_of
from profiler.transfer import Forecast

PRIOR = Forecast(math.log(2.0), 0.4)


def steps(num: int, second: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [second * math.exp(rng.gauss(0.0, 0.05)) for _ in range(num)]


def test_a_probe_moves_the_estimate_and_shrinks_the_doubt_the_more_steps_it_has() -> None:
    one, many = (corrected(PRIOR, probe_of(steps(num, 3.0))) for num in (1, 50))
    assert math.exp(many.mean_log) == pytest.approx(3.0, rel=0.03)
    assert many.log_sd < one.log_sd < PRIOR.log_sd
    assert many.log_sd < 0.03


def test_a_probe_that_was_shorter_than_one_step_says_that_it_takes_longer() -> None:
    after = corrected(PRIOR, probe_of([], unfinished_s=2.5))
    assert math.exp(after.mean_log) > 2.5
    assert after.log_sd < PRIOR.log_sd
    unsurprising = corrected(PRIOR, probe_of([], unfinished_s=0.01))
    assert unsurprising.mean_log == pytest.approx(PRIOR.mean_log, abs=1e-6)


def test_a_step_that_outlives_all_that_was_thought_possible_is_not_taken_to_be_nearly_done() -> None:
    after = corrected(PRIOR, probe_of([], unfinished_s=1000.0))
    assert math.exp(after.mean_log) > 1500.0
    assert after.log_sd >= 0.7


@pytest.mark.parametrize("step_s", [[], [0.0], [-1.0], [math.nan], [math.inf, -math.inf]])
def test_steps_that_no_clock_can_mean_teach_nothing(step_s: list[float]) -> None:
    assert probe_of(step_s) is None
    assert corrected(PRIOR, probe_of(step_s)) == PRIOR
    assert probe_of([*step_s, 2.0]) == probe_of([2.0])


def test_a_clock_that_jumps_within_a_step_does_not_count() -> None:
    clean, jumped = probe_of(steps(20, 2.0)), probe_of([*steps(20, 2.0), 3600.0])
    assert clean is not None
    assert jumped is not None
    assert jumped.log_s == pytest.approx(clean.log_s, abs=0.02)


def test_a_probe_that_contradicts_the_forecast_leaves_more_doubt_than_one_that_bears_it_out() -> None:
    sure = Forecast(0.0, 0.05)
    agrees, contradicts = (corrected(sure, Probe(log_s, 0.05, 3)) for log_s in (0.02, 1.0))
    assert contradicts.log_sd > 5 * agrees.log_sd


def test_what_a_probe_says_covers_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        probe = probe_of(steps(14, 2.0, seed))
        assert probe is not None
        inside += abs(probe.log_s - math.log(2.0)) < probe.log_sd
    assert inside / 200 > 0.68
