from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.bounds.cost import cost_bound
from fabric.job import JobId, Option
from fabric.scheduler.plan_cost import MAX_LP_OPTIONS, plan_cost
from fabric.scheduler.problem import Plan, PlanJob, Problem

H = 3600.0
PRICES = {"fast": 0.74, "slow": 0.135}
FAST, SLOW = Option(0, "fast", 1, 1.0, 1.0), Option(0, "slow", 1, 1.0, 0.5)


def job(name: str, hours: float, *, deadline_h: float | None = None, **more: object) -> PlanJob:
    """`hours` on the fast flavor, twice as long and at a third of the price on the slow one."""
    fields = {"options": (FAST, SLOW), "work": hours * H, "deadline_s": None if deadline_h is None else deadline_h * H} | more
    return PlanJob(JobId(name), **fields)  # type: ignore[arg-type]


def problem(*jobs: PlanJob, fast: float = 1, slow: float = 1, now_s: float = 0.0) -> Problem:
    return Problem(now_s, "cost", list(jobs), {"fast": fast, "slow": slow}, PRICES)


def flavors(plan: Plan) -> dict[str, str]:
    return {name: option.flavor for name, option in plan.run.items()}


def test_a_job_with_slack_runs_on_the_cheapest_flavor() -> None:
    assert flavors(plan_cost(problem(job("a", 1, deadline_h=10)))) == {"a": "slow"}


def test_a_job_without_a_deadline_runs_on_the_cheapest_flavor_and_leaves_the_dear_one_idle() -> None:
    assert flavors(plan_cost(problem(job("a", 1), job("b", 1)))) in ({"a": "slow"}, {"b": "slow"})


def test_a_job_without_slack_runs_on_the_fast_flavor() -> None:
    assert flavors(plan_cost(problem(job("a", 1, deadline_h=1.2)))) == {"a": "fast"}


def test_a_job_with_slack_leaves_the_fast_flavor_to_an_urgent_one() -> None:
    slack = job("slack", 5, deadline_h=20, held=FAST, options=(FAST,))
    plan = plan_cost(problem(slack, job("urgent", 1, deadline_h=1.2, options=(FAST,))))
    assert plan.run == {"urgent": FAST}
    assert plan.order[0] == ("slack", (FAST,))


def test_an_urgent_job_does_not_push_out_one_that_is_as_urgent_and_came_first_to_save_only_one() -> None:
    plans = [plan_cost(problem(job("a", 1, deadline_h=1.05, held=FAST), job("b", 1, deadline_h=1.05)))]
    assert list(flavors(plans[0]).values()).count("fast") == 1


def test_where_not_all_can_be_met_the_long_job_is_given_up_for_many_short_ones() -> None:
    short = [job(f"s{number}", 1, deadline_h=1.15 * (number + 1)) for number in range(4)]
    plan = plan_cost(problem(job("long", 20, deadline_h=21), *short, slow=0))
    assert plan.run == {"s0": FAST}


def test_a_lease_is_kept_when_moving_does_not_pay() -> None:
    """The rest would be cheaper on the slow flavor, but not by what the restart and the lost work cost."""
    running = job("a", 0.2, deadline_h=50, held=FAST, restart_s=1500.0, lost_work=H)
    assert plan_cost(problem(running)).run == {"a": FAST}


def test_a_lease_moves_when_moving_pays() -> None:
    assert flavors(plan_cost(problem(job("a", 20, deadline_h=90, held=FAST, restart_s=60.0)))) == {"a": "slow"}


def test_a_job_that_cannot_move_keeps_its_lease_whoever_comes() -> None:
    plan = plan_cost(problem(job("a", 20, held=FAST, is_movable=False), job("urgent", 1, deadline_h=1.1)))
    assert plan.run["a"] == FAST
    assert flavors(plan).get("urgent") != "fast"


def test_a_job_that_is_almost_done_is_left_alone() -> None:
    plan = plan_cost(problem(job("a", 0.01, deadline_h=30, held=FAST), job("urgent", 1, deadline_h=1.2)))
    assert plan.run["a"] == FAST


def test_doubtful_work_is_planned_with_a_margin_of_one_sigma() -> None:
    """Three hours on the slow flavor would just do, unless the job is half as long again."""
    certain, doubtful = job("a", 1.5, deadline_h=3.4), job("a", 1.5, deadline_h=3.4, log_sd=0.8)
    assert flavors(plan_cost(problem(certain))) == {"a": "slow"}
    assert flavors(plan_cost(problem(doubtful))) == {"a": "fast"}


def test_a_flavor_without_a_price_counts_as_the_dearest() -> None:
    unpriced = replace(problem(job("a", 1, deadline_h=10, options=(FAST._replace(flavor="new", rate=1.5), SLOW))))
    unpriced.capacity = {"new": 1, "slow": 1}
    assert flavors(plan_cost(unpriced)) == {"a": "slow"}


def test_a_gang_is_started_whole_or_not_at_all() -> None:
    gang = Option(0, "fast", 4, 4.0, 4.0)
    jobs = [job("gang", 4, deadline_h=1.2, options=(gang,)), *(job(f"s{number}", 1, deadline_h=20, options=(FAST,)) for number in range(4))]
    assert plan_cost(problem(*jobs, fast=4)).run == {"gang": gang}


def test_an_elastic_job_takes_the_size_that_its_deadline_needs_and_no_larger() -> None:
    sizes = (FAST, Option(0, "fast", 2, 2.0, 1.6), Option(0, "fast", 4, 4.0, 2.4))
    assert plan_cost(problem(job("a", 1.5, deadline_h=1.1, options=sizes), fast=4)).run == {"a": sizes[1]}
    assert plan_cost(problem(job("a", 1.5, deadline_h=9, options=sizes), fast=4)).run == {"a": sizes[0]}


def test_a_job_that_has_waited_beyond_patience_takes_the_dear_flavor_too() -> None:
    """The cheap one is full of jobs that will be late if they lose it."""
    busy = job("busy", 40, deadline_h=182, options=(SLOW,), held=SLOW, submitted_s=90 * H)
    plan = plan_cost(problem(busy, job("old", 1, submitted_s=0.0), now_s=100 * H))
    assert flavors(plan) == {"busy": "slow", "old": "fast"}


def test_a_late_job_is_still_done() -> None:
    assert flavors(plan_cost(problem(job("late", 3, deadline_h=1), now_s=5 * H)))


def test_a_job_of_a_blink_is_run_and_not_lost_in_rounding() -> None:
    assert flavors(plan_cost(problem(job("blink", 1e-8), job("long", 500, held=FAST, deadline_h=501))))["blink"] == "slow"


def test_a_gang_without_a_deadline_gets_its_turn_once_its_patience_is_over() -> None:
    gang = Option(0, "fast", 4, 4.0, 4.0)
    small = [job(f"s{number}", 30, options=(FAST,), held=FAST if number < 4 else None, submitted_s=190 * H) for number in range(8)]
    plan = plan_cost(problem(job("gang", 4, options=(gang,), submitted_s=100 * H), *small, fast=4, now_s=200 * H))
    assert plan.run == {"gang": gang}


def test_what_fits_nowhere_is_left_out() -> None:
    plan = plan_cost(problem(job("a", 1, options=(Option(0, "fast", 9, 9.0, 9.0),)), job("b", 1, options=())))
    assert plan.run == {}
    assert plan.order == []


def test_everything_that_waits_is_in_the_order() -> None:
    jobs = [job(f"j{number}", 1 + number, deadline_h=10 + 5 * number) for number in range(9)]
    plan = plan_cost(problem(*jobs))
    assert {name for name, _ in plan.order} | set(plan.run) == {one.job_id for one in jobs}
    assert not {name for name, _ in plan.order} & set(plan.run)
    assert all(ways for _, ways in plan.order)
    assert plan.review_s is not None and plan.review_s > plan.now_s


def test_thousands_of_jobs_are_planned_in_one_pass_within_capacity() -> None:
    jobs = [job(f"j{number}", 1 + number % 7, deadline_h=3 + number % 50) for number in range(MAX_LP_OPTIONS)]
    plan = plan_cost(problem(*jobs, fast=50, slow=50))
    assert_feasible(problem(*jobs, fast=50, slow=50), plan)
    assert len(plan.run) > 50


@pytest.mark.parametrize("restart_s", [0.0, 60.0])
def test_deadlines_that_can_be_met_are_met_near_the_least_cost(restart_s: float) -> None:
    """Nine jobs that all arrive at once, tight together; run until done on virtual time."""
    jobs = [job(f"j{number}", 1 + number % 3, deadline_h=(2.5 + number) * 1.15, restart_s=restart_s) for number in range(9)]
    finish_s, usd = run_to_end(jobs, fast=2, slow=2)
    bound = cost_bound(jobs, {"fast": 2, "slow": 2}, PRICES)
    assert bound.late_frac == 0
    assert all(finish_s[one.job_id] <= (one.deadline_s or math.inf) for one in jobs)
    assert bound.usd - 1e-9 <= usd <= 1.1 * bound.usd


def test_the_bound_without_deadlines_is_the_cheapest_flavor_of_each_job() -> None:
    bound = cost_bound([job("a", 1), job("b", 2)], {"fast": 1, "slow": 1}, PRICES)
    assert bound.usd == pytest.approx(3 * 2 * 0.135)


def test_the_bound_pays_for_the_fast_flavor_as_far_as_the_deadline_needs_it() -> None:
    """One hour of work by 1.5 h: half an hour fast and one hour slow."""
    assert cost_bound([job("a", 1, deadline_h=1.5)], {"fast": 1, "slow": 1}, PRICES).usd == pytest.approx(0.5 * 0.74 + 0.135)


def test_the_bound_says_how_much_must_be_late() -> None:
    bound = cost_bound([job("a", 1, deadline_h=0.5)], {"fast": 1, "slow": 0}, PRICES)
    assert bound.late_frac == pytest.approx(0.5)
    assert bound.usd == pytest.approx(0.74)


def test_the_bound_of_very_many_jobs_leaves_capacity_out_and_stays_below_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(f"j{number}", 1 + number % 3, deadline_h=1.1 * (1 + number % 3) + number / 5) for number in range(12)]
    exact = cost_bound(jobs, {"fast": 5, "slow": 2}, PRICES)
    monkeypatch.setattr("fabric.bounds.cost._MAX_COLUMNS", 0)
    weak = cost_bound(jobs, {"fast": 5, "slow": 2}, PRICES)
    assert 0.5 * exact.usd < weak.usd < exact.usd
    assert cost_bound(jobs, {"fast": 12, "slow": 12}, PRICES).usd == pytest.approx(weak.usd)


OPTIONS = st.builds(
    lambda flavor, units, rate: Option(0, flavor, units, float(units), rate),
    st.sampled_from(["fast", "slow", "absent"]),
    st.sampled_from([1, 2, 3, 8]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0]),
)


@st.composite
def jobs(draw: st.DrawFn, number: int) -> PlanJob:
    options = tuple(draw(st.lists(OPTIONS, min_size=0, max_size=4, unique=True)))
    running = [option for option in options if option.flavor != "absent" and option.rate > 0]
    held = draw(st.sampled_from([None, *running]))
    return PlanJob(
        JobId(f"j{number}"),
        options,
        draw(st.sampled_from([0.0, 1.0, 500.0, 4e4, 1e7])),
        submitted_s=draw(st.sampled_from([0.0, 9e4])),
        weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
        log_sd=draw(st.sampled_from([0.0, 0.5])),
        deadline_s=draw(st.sampled_from([None, 1.0, 9.9e4, 1.1e5, 1.4e5, 1e7])),
        held=held,
        restart_s=draw(st.sampled_from([0.0, 60.0])),
        warmup_left_s=30.0 if held and draw(st.booleans()) else 0.0,
        lost_work=draw(st.sampled_from([0.0, 100.0])),
        is_movable=draw(st.booleans()),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    found = [draw(jobs(number)) for number in range(draw(st.integers(0, 7)))]
    return problem(*found, fast=draw(st.sampled_from([0, 1, 4])), slow=draw(st.sampled_from([1, 8])), now_s=1e5)


def assert_feasible(asked: Problem, plan: Plan) -> None:
    used: dict[str, float] = {}
    by_id = {one.job_id: one for one in asked.jobs}
    for name, option in plan.run.items():
        assert option in by_id[name].options
        used[option.flavor] = used.get(option.flavor, 0.0) + option.units
    assert all(units <= asked.capacity[flavor] + 1e-9 for flavor, units in used.items())


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_plan_is_feasible_and_the_same_each_time(asked: Problem) -> None:
    plan = plan_cost(asked)
    assert_feasible(asked, plan)
    again = plan_cost(asked)
    assert (again.run, again.order, again.review_s, again.finish_s) == (plan.run, plan.order, plan.review_s, plan.finish_s)


def run_to_end(jobs: list[PlanJob], **capacity: float) -> tuple[dict[str, float], float]:
    """Serve plans exactly until all is done: finish times and dollars."""
    now_s, usd, finish_s = 0.0, 0.0, {}
    left = {one.job_id: one for one in jobs}
    for _ in range(500):
        if not left:
            return finish_s, usd
        plan = plan_cost(problem(*left.values(), now_s=now_s, **capacity))
        ends = [plan.review_s] if plan.review_s else []
        for name, one in left.items():
            option = plan.run.get(name)
            if option is not None and one.held != option:
                left[name] = one = replace(one, warmup_left_s=one.restart_s)
            left[name] = one = replace(one, held=option)
            if option is not None:
                ends.append(now_s + one.warmup_left_s + one.work / option.rate)
        step_s = min(ends) - now_s
        for name, one in list(left.items()):
            if one.held is None:
                continue
            usd += PRICES[one.held.flavor] * one.held.units * step_s / H
            done = max(0.0, step_s - one.warmup_left_s) * one.held.rate
            left[name] = replace(one, work=one.work - done, warmup_left_s=max(0.0, one.warmup_left_s - step_s))
            if one.work - done <= 1e-6:
                finish_s[name] = now_s + step_s
                del left[name]
        now_s += step_s
    raise AssertionError("not done after 500 plans")
