"""The planners for mean completion time (`jct`, `balanced`) and the bound beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.bounds.jct import mean_jct_bound
from fabric.job import JobId, Option
from fabric.scheduler.jct_future import run
from fabric.scheduler.jct_model import doubt, model
from fabric.scheduler.jct_search import indexed, search, tries
from fabric.scheduler.plan_balanced import plan_balanced
from fabric.scheduler.plan_jct import plan_jct
from fabric.scheduler.problem import Plan, PlanJob, Problem

PLANNERS = [plan_jct, plan_balanced]
CAPACITY = {"fast": 2.0, "slow": 4.0}
RATES = st.just(0.0) | st.floats(1e-6, 50.0)
both = pytest.mark.parametrize("plan", PLANNERS)


def way(flavor: str, rate: float, units: float = 1.0, shape: int = 0) -> Option:
    return Option(shape, flavor, max(1, int(units)), units, rate)


def job(name: str, work: float, *options: Option, **more: object) -> PlanJob:
    return PlanJob(JobId(name), options, work, **more)  # type: ignore[arg-type]


def problem(*jobs: PlanJob, capacity: dict[str, float] | None = None, now_s: float = 0.0) -> Problem:
    return Problem(now_s, "jct", list(jobs), capacity or CAPACITY)


def used(plan: Plan) -> dict[str, float]:
    use: dict[str, float] = {}
    for option in plan.run.values():
        use[option.flavor] = use.get(option.flavor, 0.0) + option.units
    return use


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    flavors = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True))
    capacity = {f: float(draw(st.integers(0, 6))) for f in flavors}
    free, jobs = dict(capacity), []
    for n in range(draw(st.integers(0, 12))):
        made = st.builds(way, st.sampled_from(["a", "b", "c"]), RATES, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(0, 2))
        options = draw(st.lists(made, max_size=4, unique_by=lambda o: o[:3]))
        held = next((o for o in options if o.rate > 0 and free.get(o.flavor, 0.0) >= o.units), None) if draw(st.booleans()) else None
        if held is not None:
            free[held.flavor] -= held.units
        more = {
            "submitted_s": draw(st.floats(0, 1000)),
            "log_sd": draw(st.sampled_from([0.0, 1.0, 3.0])),
            "restart_s": draw(st.sampled_from([0.0, 60.0])),
            "lost_work": draw(st.sampled_from([0.0, 10.0])),
            "weight": draw(st.sampled_from([0.0, 1.0, 5.0])),
            "is_movable": draw(st.booleans()),
        }
        jobs.append(job(f"j{n}", draw(st.floats(0.0, 1e6)), *options, held=held, **more))
    return Problem(1000.0, "jct", jobs, capacity)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_plan_fits_the_capacity_and_uses_offered_ways_and_leaves_what_may_not_move(asked: Problem) -> None:
    by_id = {one.job_id: one for one in asked.jobs}
    for planner in PLANNERS:
        plan = planner(asked)
        assert all(amount <= asked.capacity[flavor] + 1e-6 for flavor, amount in used(plan).items())
        for job_id, option in plan.run.items():
            assert option in by_id[job_id].options
            assert option.rate > 0
        for one in asked.jobs:
            if one.held is not None and not one.is_movable:
                assert plan.run[one.job_id] == one.held
        assert not {job_id for job_id, _ in plan.order} & set(plan.run)


@settings(max_examples=20, deadline=None)
@given(problems())
def test_the_same_problem_gives_the_same_plan(asked: Problem) -> None:
    assert plan_jct(asked) == plan_jct(asked)


@settings(max_examples=30, deadline=None)
@given(problems())
def test_nothing_that_can_run_waits_beside_an_empty_cluster(asked: Problem) -> None:
    can_run = any(o.rate > 0 and o.units <= asked.capacity.get(o.flavor, 0.0) for one in asked.jobs for o in one.options)
    assert bool(plan_jct(asked).run) == can_run


@both
def test_a_job_without_a_way_is_left_out_and_stops_nobody(plan) -> None:
    made = plan(problem(job("none", 10.0), job("wide", 10.0, way("fast", 1.0, units=8)), job("ok", 10.0, way("fast", 1.0))))
    assert set(made.run) == {"ok"}
    assert made.order == []


@both
def test_no_jobs_no_plan(plan) -> None:
    assert plan(problem()).run == {}


@both
def test_leases_are_kept_when_nothing_is_gained(plan) -> None:
    ways = (way("fast", 1.0), way("slow", 1.0))
    running = [job(f"r{n}", 1000.0 + n, *ways, held=ways[n % 2]) for n in range(4)]
    made = plan(problem(*running))
    assert made.run == {one.job_id: one.held for one in running}


@pytest.mark.parametrize(("restart_s", "is_moved"), [(0.0, True), (60.0, True), (5_000.0, False)])
def test_a_job_moves_to_a_faster_flavor_only_when_that_pays_for_the_restart(restart_s: float, is_moved: bool) -> None:
    ways = (way("fast", 2.0), way("slow", 1.0))
    made = plan_jct(problem(job("j", 4000.0, *ways, held=ways[1], restart_s=restart_s)))
    assert made.run[JobId("j")] is ways[0 if is_moved else 1]


def test_work_that_no_checkpoint_keeps_counts_against_a_move() -> None:
    ways = (way("fast", 2.0), way("slow", 1.0))
    made = plan_jct(problem(job("j", 4000.0, *ways, held=ways[1], lost_work=6000.0)))
    assert made.run[JobId("j")] is ways[1]


@pytest.mark.parametrize(("restart_s", "first"), [(0.0, "short"), (60.0, "short"), (1_000.0, "long")])
def test_a_short_job_takes_the_place_of_a_long_one_only_when_that_pays(restart_s: float, first: str) -> None:
    only = way("fast", 1.0)
    long = job("long", 1_500.0, only, held=only, restart_s=restart_s)
    made = plan_jct(problem(long, job("short", 600.0, only, restart_s=restart_s), capacity={"fast": 1.0}))
    assert set(made.run) == {first}


def test_a_flavor_goes_to_the_job_that_gains_most_from_it() -> None:
    a = job("a", 1000.0, way("fast", 1.1), way("slow", 1.0))
    b = job("b", 1000.0, way("fast", 5.0), way("slow", 1.0))
    made = plan_jct(problem(a, b, capacity={"fast": 1.0, "slow": 1.0}))
    assert (made.run[JobId("a")].flavor, made.run[JobId("b")].flavor) == ("slow", "fast")


def test_sizes_in_different_units_are_each_judged_by_their_own_rate() -> None:
    wide, narrow = way("fast", 300.0, units=2, shape=1), way("fast", 200.0, units=1)
    made = plan_jct(problem(job("a", 1e5, narrow, wide), job("b", 1e5, narrow, wide)))
    assert made.run == {"a": narrow, "b": narrow}
    assert plan_jct(problem(job("a", 1e5, narrow, wide))).run == {"a": wide}


def test_balanced_ends_everything_sooner_than_the_least_mean_does_at_a_small_price() -> None:
    one = way("fast", 1.0)
    asked = problem(job("long", 9_000.0, one), *(job(f"s{n}", 1_500.0, one) for n in range(6)))
    least, balanced = plan_jct(asked).finish_s.values(), plan_balanced(asked).finish_s.values()
    assert max(balanced) < 0.9 * max(least)
    assert sum(balanced) < 1.15 * sum(least)


def test_balanced_lets_a_long_job_that_has_waited_long_enough_go_first() -> None:
    one = way("fast", 1.0)
    old = job("old", 3_600.0, one, submitted_s=0.0)
    new = [job(f"n{n}", 1_200.0, one, submitted_s=1e6) for n in range(8)]
    assert JobId("old") in plan_balanced(problem(old, *new, capacity={"fast": 1.0}, now_s=1e6)).run


@both
@pytest.mark.parametrize(
    ("deadline_s", "goes_first"),
    [(None, False), (310.0, True), (100_000.0, False), (250.0, False)],
    ids=["none", "just in time", "far away", "lost already"],
)
def test_a_longer_job_goes_first_only_where_its_deadline_is_near_and_can_be_met(
    plan: Callable[[Problem], Plan], deadline_s: float | None, goes_first: bool
) -> None:
    one = way("fast", 1.0)
    jobs = [job("long", 300.0, one, deadline_s=deadline_s), job("short", 100.0, one)]
    made = plan(problem(*jobs, capacity={"fast": 1.0}))
    assert ("long" in made.run) == goes_first


def test_the_predicted_completions_are_those_of_the_list() -> None:
    one = way("fast", 2.0)
    made = plan_jct(problem(job("a", 100.0, one, restart_s=10.0), job("b", 400.0, one, restart_s=10.0), capacity={"fast": 1.0}, now_s=5.0))
    assert made.finish_s == pytest.approx({"a": 5.0 + 60.0, "b": 5.0 + 60.0 + 210.0})


def test_the_search_is_never_worse_than_the_index_rule() -> None:
    jobs = [job(f"j{n}", 100.0 * (n * 7 % 11 + 1), way("fast", 1.0 + n % 3), way("slow", 1.0, units=1 + n % 4)) for n in range(14)]
    m = model(problem(*jobs))
    assert search(m, tries(m)).ran.cost <= run(m.table, *indexed(m, [0.0] * 4), np.inf).cost


def test_doubt_makes_a_size_count_for_less_and_certainty_changes_nothing() -> None:
    assert doubt(0.0) == 1.0
    assert 0.8 < doubt(1.0) < 0.95
    assert doubt(3.0) < doubt(2.0) < doubt(1.0)


def test_a_doubtful_running_job_is_looked_at_again_while_others_wait() -> None:
    one = way("fast", 1.0)
    jobs = [job(f"j{n}", 4_000.0 + n, one, log_sd=1.0) for n in range(3)]
    review_s = plan_jct(problem(*jobs)).review_s
    assert review_s is not None
    assert 60.0 <= review_s < 4_000.0
    assert plan_jct(problem(*(replace(one, log_sd=0.0) for one in jobs))).review_s is None


def test_a_large_problem_gets_an_index_rule_that_fills_the_cluster() -> None:
    jobs = [job(f"j{n:04}", 100.0 + n * 37 % 1009, way("fast", 3.0), way("slow", 1.0)) for n in range(1_500)]
    made = plan_jct(problem(*jobs, capacity={"fast": 300.0, "slow": 500.0}))
    assert used(made) == {"fast": 300.0, "slow": 500.0}
    assert len(made.order) == 700
    assert max(jobs[int(name[1:])].work for name in made.run) < 1.1 * 800


def test_the_bound_is_exact_for_one_job_and_below_every_plan() -> None:
    one = way("fast", 2.0)
    assert mean_jct_bound(problem(job("a", 100.0, one))) == pytest.approx(50.0)
    jobs = [job(f"j{n}", 600.0 * (n + 1), way("fast", 2.0), way("slow", 1.0, units=2)) for n in range(8)]
    bound = mean_jct_bound(problem(*jobs))
    finish_s = plan_jct(problem(*jobs)).finish_s
    assert bound is not None
    assert 0.6 * sum(finish_s.values()) / 8 < bound <= sum(finish_s.values()) / 8


def test_the_bound_counts_from_each_job_s_submission() -> None:
    one = way("fast", 1.0)
    late = [job(f"j{n}", 100.0, one, submitted_s=1000.0 * n) for n in range(4)]
    assert mean_jct_bound(problem(*late)) == pytest.approx(100.0)
    assert mean_jct_bound(problem(job("no", 1.0))) is None
