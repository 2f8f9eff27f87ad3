"""What the tuner makes of service times: it takes all unless less is better, stays in the budget, forgets, and waits for bursts only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from serve_apps.execution.replay import Rule, RuleChoice, tail_s
from serve_apps.execution.run_time import RunTimes
from serve_apps.execution.tuner import BatchTuner

MS = 0.001


def taught(run_ms: Callable[[int], float], max_rows: int = 64, budget_ms: float = 50.0, noise: float = 0.05) -> BatchTuner:
    """A tuner that has seen batches of all sizes that it would take."""
    tuner, source = BatchTuner(max_rows, budget_ms * MS), random.Random(1)
    for _ in range(1500):
        rows, _ = tuner.choose(source.randint(1, max_rows), 0.0, 0.0)
        tuner.note_run(rows, run_ms(rows) * MS * source.lognormvariate(0.0, noise))
    return tuner


def test_a_model_with_a_large_fixed_cost_takes_all_that_waits() -> None:
    tuner = taught(lambda rows: 5.0 + 0.1 * rows)
    assert [tuner.choose(waiting, 0.0, 0.0)[0] for waiting in (1, 7, 40, 55)] == [1, 7, 40, 55]
    assert tuner.choose(1000, 0.0, 0.0)[0] >= 60


def test_a_model_that_gains_nothing_from_batches_gets_small_ones() -> None:
    assert taught(lambda rows: 2.0 * rows).max_take <= 4


def test_a_model_that_works_in_steps_of_eight_is_given_eight_of_twelve() -> None:
    tuner = taught(lambda rows: 3.0 * math.ceil(rows / 8))
    assert [tuner.choose(waiting, 0.0, 0.0)[0] for waiting in (5, 8, 12)] == [5, 8, 8]


def test_no_batch_is_larger_than_where_rows_grow_dear() -> None:
    tuner = taught(lambda rows: 1.0 + 0.3 * min(rows, 16) + 0.9 * max(0, rows - 16))
    assert 13 <= tuner.choose(60, 0.0, 0.0)[0] <= 18


def test_no_batch_is_expected_to_outrun_the_budget() -> None:
    tuner = taught(lambda rows: 9.0 + rows, budget_ms=20.1, noise=0.0)
    assert tuner.max_take == 9  # 18 ms, of the nine tenths of 20.1 that one run may take
    assert taught(lambda rows: 100.0 * rows, budget_ms=20.0).max_take == 1  # one row always runs


def test_sizes_are_tried_step_by_step() -> None:
    tuner = BatchTuner(64, 1.0)
    tuner.note_run(1, 0.001)
    assert tuner.max_take == 2
    tuner.note_run(2, 0.001)
    assert tuner.max_take == 4


def test_what_was_slow_long_ago_is_tried_again() -> None:
    tuner = taught(lambda rows: 20.0 + 3.0 * rows)
    assert tuner.max_take < 10
    for _ in range(9000):
        rows, _ = tuner.choose(64, 0.0, 0.0)
        tuner.note_run(rows, (5.0 + 0.1 * rows) * MS)
    assert tuner.max_take >= 60


def test_run_times_never_fall_with_more_rows_and_one_pause_changes_little() -> None:
    times = RunTimes()
    for rows in (1, 2, 3, 4, 8):
        for _ in range(20):
            times.note(rows, (1.0 if rows != 3 else 0.5) * MS * rows)
    times.note(8, 5.0)
    table = times.table(16)
    assert table == sorted(table)
    assert table[8] < 12 * MS
    assert table[16] > table[8]


def test_what_was_learnt_of_all_sizes_is_doubted_when_the_machine_changes() -> None:
    times = RunTimes()
    for run in range(2000):
        times.note(1 + run % 8, (1.0 + run % 8) * MS)
    for run in range(150):
        times.note(1 + run % 8, 3.0 * (1.0 + run % 8) * MS)
    assert times.table(8)[8] > 2.0 * 8 * MS


BURSTS = [(burst * 0.2 + number * 0.0002, 1) for burst in range(20) for number in range(12)]
STEADY = [(number * 0.004, 1) for number in range(250)]


@pytest.mark.parametrize(("arrivals", "is_waiting"), [(BURSTS, True), (STEADY, False)], ids=["bursts", "steady"])
def test_an_idle_model_waits_where_requests_come_in_bursts(arrivals: list[tuple[float, int]], is_waiting: bool) -> None:
    run_s = [(5.0 + 0.1 * rows) * MS for rows in range(65)]
    choice = RuleChoice("at once")
    rules = {"at once": Rule(range(65)), "later": Rule(range(65), 0.0025), "much later": Rule(range(65), 0.01)}
    choice.note({name: tail_s(arrivals, run_s, rule) for name, rule in rules.items()})
    assert choice.name == ("later" if is_waiting else "at once")


def test_a_rule_changes_only_for_a_clear_difference_and_is_left_when_it_no_longer_pays_or_fits() -> None:
    choice = RuleChoice("full")
    choice.note({"full": 1.0, "small": 0.98})
    assert choice.name == "full"
    for _ in range(10):
        choice.note({"full": 1.0, "small": 0.9, "tiny": 0.89})
    assert choice.name == "tiny"
    choice.note({"full": 1.0, "small": 0.9})
    assert choice.name == "small"
    for _ in range(20):
        choice.note({"full": 1.0, "small": 1.1})
    assert choice.name == "full"


def test_a_replay_of_small_batches_takes_what_the_rule_takes() -> None:
    assert tail_s([(0.0, 1)] * 4, [0.0, 1.0, 1.5, 1.7, 1.8], Rule([0, 1, 2, 2, 2])) == 3.0
    assert tail_s([(0.0, 1)] * 4, [0.0, 1.0, 1.5, 1.7, 1.8], Rule(range(5))) == 1.8


def test_the_wait_ends_when_the_oldest_has_waited_or_the_batch_is_full() -> None:
    tuner = BatchTuner(4, 0.05)
    for rows in (1, 2, 4):
        tuner.note_run(rows, 0.001)
    tuner.rule = Rule(tuner.rule.take, wait_s=0.01)
    assert tuner.choose(2, 1.0, 1.004) == (0, 1.01)
    assert tuner.choose(2, 1.0, 1.01) == (2, 0.0)
    assert tuner.choose(4, 1.0, 1.0) == (4, 0.0)
