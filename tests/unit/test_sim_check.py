"""The checker finds what a cheating or broken simulation would do; the figures are those of the leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from fabric.job import Shape
from fabric.sim.check import problems
from fabric.sim.events import LeaseLine
from fabric.sim.fairness import worst_rho
from fabric.sim.figures import Figures, figures_of, kept_frac, quantile
from fabric.sim.trace import TraceJob

CAPACITY = {"v100": 2, "k80": 2}
PRICES = {"v100": 1.0, "k80": 0.1}
RESTART_S = 60.0


def job(line: int, gpus: int = 1, arrival_s: float = 0.0, deadline_s: float | None = None) -> TraceJob:
    return TraceJob(line, f"{line}", "f", Shape("", 1, 0.0, num_bundles=gpus), 1000.0, arrival_s, {"v100": 1.0, "k80": 0.25}, deadline_s)


JOBS = [job(0, gpus=2), job(1, arrival_s=100.0, deadline_s=2000.0)]
GOOD = [
    LeaseLine(1, "k80", 1, 100.0, 1060.0, 225.0),
    LeaseLine(0, "v100", 2, 0.0, 1060.0, 1000.0),
    LeaseLine(1, "v100", 1, 1060.0, 1895.0, 775.0),
]
ENDS = {0: 1060.0, 1: 1895.0}


def figures(leases: Sequence[LeaseLine] = GOOD) -> Figures:
    return figures_of(JOBS, ENDS, leases, CAPACITY, PRICES)


def found(leases: Sequence[LeaseLine], told: Figures | None = None) -> list[str]:
    return problems(JOBS, leases, CAPACITY, restart_s=RESTART_S, figures=told.as_json() if told else None, usd_per_h=PRICES)


def test_honest_leases_and_their_figures_pass() -> None:
    assert found(GOOD, figures()) == []


def test_figures_are_those_of_the_leases() -> None:
    made = figures()
    assert made.jct_h == pytest.approx((1060 + 1795) / 2 / 3600)
    assert made.jct_p99_h == pytest.approx(1795 / 3600)
    assert made.makespan_s == 1895
    assert made.utilisation == pytest.approx((2 * 1060 + 960 + 835) / (4 * 1895))
    assert made.cost_usd == pytest.approx((2 * 1060 + 835 + 960 * 0.1) / 3600)
    assert (made.restarts, made.misses, made.failed) == (1, 0, 0)
    # Boundaries: 0..1060 crosses 2, 100..1060 crosses 2, 1060..1895 crosses 3; one move.
    assert made.leases_kept_frac == pytest.approx(1 - 1 / 7)


def swap(at: int, **change: object) -> list[LeaseLine]:
    leases = list(GOOD)
    leases[at] = replace(leases[at], **change)  # type: ignore[arg-type]
    return leases


@pytest.mark.parametrize(
    ("leases", "says"),
    [
        (swap(0, flavor="v100", steps=900.0), "3 of 2 v100 in use"),
        (swap(2, steps=700.0), "has done 925 of 1000"),
        (swap(0, steps=300.0), "does 300 steps on k80 where 225 are possible"),
        (swap(1, start_s=50.0), "steps on v100 where 950"),
        (swap(2, start_s=1000.0, flavor="k80"), "starts at 1000.000 s, before 1060"),
        (swap(0, start_s=40.0), "before 100.000 s"),
        (swap(1, gpus=1), "where 0 are possible"),
        (swap(1, flavor="t4"), "in use"),
        ([*GOOD, LeaseLine(9, "k80", 1, 0.0, 1.0, 0.0)], "does not have"),
        (GOOD[:2], "has done 225 of 1000"),
    ],
)
def test_the_checker_sees_every_kind_of_wrong_lease(leases: list[LeaseLine], says: str) -> None:
    assert any(says in each for each in found(leases)), found(leases)


@pytest.mark.parametrize("name", ["jct_h", "jct_p99_h", "makespan_s", "cost_usd", "misses", "utilisation", "restarts", "leases_kept_frac"])
def test_the_checker_sees_every_wrong_figure(name: str) -> None:
    lie: Callable[[float], float] = lambda value: value * 0.99 if value else 1  # noqa: E731
    told = replace(figures(), **{name: lie(getattr(figures(), name))})
    assert [each for each in found(GOOD, told) if each.startswith(name)]


def test_a_late_job_is_a_miss_and_so_is_one_that_never_ends() -> None:
    late = [JOBS[0], replace(JOBS[1], deadline_s=1894.0)]
    assert figures_of(late, ENDS, GOOD, CAPACITY, None).misses == 1
    assert figures_of(late, {0: 1060.0}, GOOD[1:2], CAPACITY, None).misses == 1


def test_without_every_price_the_cost_is_not_known() -> None:
    assert figures_of(JOBS, ENDS, GOOD, CAPACITY, None).cost_usd is None


def test_a_lease_that_is_never_moved_is_kept() -> None:
    assert kept_frac([LeaseLine(0, "v100", 1, 0.0, 3600.0, 1.0)]) == 1.0
    assert kept_frac([LeaseLine(0, "v100", 1, 0.0, 10.0, 1.0)]) == 1.0, "no boundary crossed"
    halves = [LeaseLine(0, "v100", 1, 0.0, 360.0, 1.0), LeaseLine(0, "v100", 1, 360.0, 720.0, 1.0)]
    assert kept_frac(halves) == 0.5


def test_a_quantile_is_a_value_that_was_seen() -> None:
    values = [float(n) for n in range(1, 201)]
    assert (quantile(values, 0.99), quantile(values, 0.5), quantile([3.0], 0.99), quantile([], 0.99)) == (198.0, 100.0, 3.0, 0.0)


def test_fairness_is_one_for_a_job_that_has_the_cluster_to_itself_and_two_for_one_that_takes_twice_its_share() -> None:
    alone = job(0)
    assert worst_rho([alone], {0: 1000.0}, CAPACITY) == pytest.approx(1.0)
    # Two at once, each a share of one V100: the second waits for the first although it need not.
    assert worst_rho([job(0), job(1)], {0: 1000.0, 1: 2000.0}, {"v100": 2, "k80": 0}) == pytest.approx(2.0)


def test_a_share_smaller_than_the_job_is_the_best_mix_of_flavors() -> None:
    # A hundredth of two V100s and two K80s for a job of one accelerator: 0.02 of each.
    jobs = [job(line) for line in range(100)]
    ends = dict.fromkeys(range(100), 1000.0 / (0.02 * 1.0 + 0.02 * 0.25))
    assert worst_rho(jobs, ends, CAPACITY) == pytest.approx(1.0)
