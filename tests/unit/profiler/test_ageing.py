"""What was measured long ago counts for less; what two fabrics measured goes together."""

from __future__ import annotations

import pytest

from fabric.types import Fingerprint, Resources, Run, Variant
from pools.flavors import load_catalogue
from profiler.estimate import HALF_LIFE_S, Estimator, Measured, TaskProfile
from profiler.needs import Needs

CATALOGUE = load_catalogue()
CPU = CATALOGUE["cpu"]
ON_CPU = Variant("f", "cpu", Resources(), "aa")
DAY_S = 86400.0
NOW_S = 1.8e9


def measured_on_cpu(times: int = 20) -> Estimator:
    made = Estimator(CATALOGUE)
    made.describe("work", Fingerprint("other"), (ON_CPU,))
    for _ in range(times):
        made.record(Run("c", "work", 0, "f", "cpu", "n", 2.0, 2.0, 0))
    made.age(NOW_S)
    made.dirty.clear()
    return made


def log_sd(made: Estimator) -> float:
    return made.estimate("work", 0, CPU, ON_CPU).log_sd


def test_old_runs_are_doubted_more_and_new_ones_outweigh_them_sooner() -> None:
    fresh, old = measured_on_cpu(), measured_on_cpu()
    for days in range(1, 181):
        old.age(NOW_S + days * DAY_S)
    assert old.dirty == {"work"}
    assert log_sd(old) > log_sd(fresh)
    for made in (fresh, old):
        made.record(Run("c", "work", 0, "f", "cpu", "n", 1.0, 1.0, 0))
    assert old.estimate("work", 0, CPU, ON_CPU).run_s < fresh.estimate("work", 0, CPU, ON_CPU).run_s


def test_ageing_does_not_depend_on_how_often_it_is_done() -> None:
    daily, once = measured_on_cpu(), measured_on_cpu()
    for days in range(1, 31):
        daily.age(NOW_S + days * DAY_S)
    once.age(NOW_S + 30 * DAY_S)
    weights = [made.profiles["work"].measured[(0, "f", "cpu")].weight for made in (daily, once)]
    assert weights[0] == pytest.approx(weights[1]) == pytest.approx(10.0)


def test_a_clock_that_jumps_widens_the_doubt_and_nothing_else() -> None:
    made = measured_on_cpu()
    before = made.estimate("work", 0, CPU, ON_CPU)
    made.age(NOW_S - 1000 * DAY_S)
    assert made.estimate("work", 0, CPU, ON_CPU) == before
    made.age(NOW_S + 100 * HALF_LIFE_S)
    after = made.estimate("work", 0, CPU, ON_CPU)
    assert after.log_sd > before.log_sd
    assert after.run_s == pytest.approx(before.run_s, rel=0.1)
    assert made.profiles["work"].measured[(0, "f", "cpu")].weight == pytest.approx(5.0), "one jump is two half-lives at most"


def test_of_a_row_that_both_measured_the_one_with_more_runs_stays() -> None:
    made = measured_on_cpu(times=5)
    few, many = Measured(2.0, 3.0, 0.1, 2, 0), Measured(9.0, 0.5, 0.1, 9, 7)
    assert made.merge([TaskProfile("work", Fingerprint("cv"), {"f": ON_CPU}, {(0, "f", "cpu"): few}, {"f": Needs([(1, 10)])})]) == 0
    assert made.estimate("work", 0, CPU, ON_CPU).num_runs == 5
    theirs = TaskProfile(
        "work", Fingerprint("cv"), {"f": ON_CPU}, {(0, "f", "cpu"): many, (1, "f", "cpu"): few}, {"f": Needs([(1, 5), (1, 6)])}
    )
    assert made.merge([theirs]) == 2
    assert made.merge([theirs]) == 0, "the same file twice changes nothing"
    assert made.estimate("work", 0, CPU, ON_CPU).num_runs == 9
    profile = made.profiles["work"]
    assert (profile.fingerprint.domain, profile.needs["f"].runs) == ("other", [(1, 5), (1, 6)])


def test_runs_of_other_code_are_left_out() -> None:
    made = measured_on_cpu()
    other = Variant("f", "cpu", Resources(), "bb")
    assert made.merge([TaskProfile("work", Fingerprint(), {"f": other}, {(0, "f", "cpu"): Measured(50, 9.0, 0.1, 99, 0)})]) == 0
    assert made.estimate("work", 0, CPU, ON_CPU).num_runs == 20


def test_a_task_that_is_new_here_comes_whole() -> None:
    made = Estimator(CATALOGUE)
    theirs = measured_on_cpu().profiles["work"]
    assert made.merge([theirs]) == 1
    assert made.profiles["work"] == theirs
