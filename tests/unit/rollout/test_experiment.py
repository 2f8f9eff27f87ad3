"""A/B experiments: who is better, and when that is certain; how they and rollouts look to people."""

import json

import numpy
import pytest

from fabric.errors import RejectedError, UserError
from serve_apps.directory.observed import Observed, Sum
from serve_apps.rollout.block import Health
from serve_apps.rollout.experiment import Experiment, parse_arms
from serve_apps.rollout.form import render_experiment, render_rollout, render_rollouts, rollout_form
from serve_apps.rollout.rollout import Rollout
from serve_apps.rollout.spec import Canary


def experiment(rates: dict[str, float], *, looks: int = 100, seed: int = 0, alpha: float = 0.05, higher: bool = True) -> Experiment:
    """A hundred values of each arm between two looks."""
    rng = numpy.random.default_rng(seed)
    arms = parse_arms({name: 100 / len(rates) for name in rates})
    made = Experiment(arms, "conversion", 0.0, alpha=alpha, is_higher_better=higher)
    observed = {name: Observed(metrics={"conversion": Sum(7, 7.0, 7.0)}) for name in rates}  # of before
    for look in range(looks):
        made.look(float(look), observed)
        for name, rate in rates.items():
            won = float(rng.binomial(100, rate))
            observed[name] += Observed(metrics={"conversion": Sum(100, won, won)})
        if made.state != "running":
            break
    return made


def test_the_better_arm_wins_once_that_is_certain() -> None:
    made = experiment({"champion": 0.1, "challenger": 0.15})
    assert (made.state, made.winner) == ("concluded", "challenger")
    difference = made.figures()[1].difference
    assert difference is not None
    assert difference[0] > 0


def test_of_a_metric_that_should_be_low_the_lower_wins() -> None:
    assert experiment({"champion": 0.1, "challenger": 0.2}, higher=False).winner == "champion"


def test_equal_arms_are_rarely_told_apart_however_often_one_looks() -> None:
    states = [experiment({"a": 0.05, "b": 0.05}, seed=seed).state for seed in range(100)]
    assert states.count("concluded") <= 5


def test_of_three_arms_the_leader_must_beat_both() -> None:
    assert experiment({"a": 0.1, "b": 0.2, "c": 0.2}, looks=20).state == "running"
    assert experiment({"a": 0.1, "b": 0.2, "c": 0.3}).winner == "c"


def test_too_few_values_conclude_nothing() -> None:
    made = experiment({"a": 0.0, "b": 1.0}, looks=2)
    assert made.state == "running"
    assert "100 of 200" in made.reason


def test_a_stopped_experiment_has_no_winner_and_cannot_be_stopped_twice() -> None:
    made = experiment({"a": 0.1, "b": 0.1}, looks=10)
    fact = made.stop(9.0, "ada")
    assert (fact["to"], fact["winner"], fact["reason"]) == ("stopped", "", "stopped by ada")
    with pytest.raises(RejectedError):
        made.stop(9.0)


def test_an_experiment_comes_back_from_json() -> None:
    made = experiment({"a": 0.1, "b": 0.1}, looks=10)
    assert Experiment.from_json(json.loads(json.dumps(made.as_json()))) == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("champion=50,challenger=40", "sum to 90, not to 100"),
        ("champion=100", "weight '100'"),
        ("champion=50,champion=50", "each named once"),
        ("champion,challenger", "no weight"),
        ("=50,b=50", "arm ''"),
        ("a=-1,b=101", "weight '-1'"),
        ("a=nan,b=50", "weight 'nan'"),
    ],
)
def test_weights_that_do_not_sum_to_100_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_arms(text)
    assert caught.value.code == "bad_experiment"


def test_weights_become_shares_of_ten_thousand() -> None:
    made = Experiment(parse_arms("a=33.333,b=33.333,c=33.334"), "m", 0.0)
    assert sum(made.shares().values()) == 10_000
    assert Experiment(parse_arms("a=90,b=10"), "m", 0.0).shares() == {"a": 9_000, "b": 1_000}


def test_an_experiment_is_shown_with_its_intervals() -> None:
    shown = render_experiment(experiment({"champion": 0.1, "challenger": 0.15}).form("resnet"))
    assert "resnet: conversion, concluded: challenger is better" in shown
    assert "minus champion" in shown


def test_a_rollout_is_shown_with_its_guards_and_its_traffic() -> None:
    rollout = Rollout.begin(Canary("25", "latency_p95<=1.2x"), champion="2", challenger="3", now_s=0.0)
    rollout.look(1.0, Observed({80: 1000}), Observed(), Health(1))
    rollout.look(2.0, Observed({80: 2000}), Observed({80: 300}), Health(1))
    form = rollout_form(rollout, model="resnet")
    assert json.loads(json.dumps(form))["guards"][0]["guard"] == "latency_p95<=1.2x"
    shown = render_rollout(form, now_s=62.0)
    assert "resnet: 2 -> 3, stepping: 25 % of the requests" in shown
    assert "[25 %], 100 %" in shown
    assert "3 ██████████░" in shown
    assert "latency_p95<=1.2x" in shown
    assert "3.19 ms" in shown
    assert "25 %" in render_rollouts([form])
    assert "no rollout" in render_rollouts([])
