"""The planner for the makespan and its lower bound: always feasible, near the bound, and no needless moves."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.bounds.makespan import makespan_bound
from fabric.job import JobId, Option
from fabric.scheduler import makespan_fill
from fabric.scheduler import plan_makespan as module
from fabric.scheduler.plan_makespan import plan_makespan
from fabric.scheduler.problem import Plan, PlanJob, Problem

FLAVORS = ("a", "b", "c")


def _job(name: str, work: float, rates: dict[str, float], units: int = 1, **more: object) -> PlanJob:
    options = tuple(Option(0, flavor, units, float(units), rate) for flavor, rate in rates.items())
    return PlanJob(JobId(name), options, work, **more)  # type: ignore[arg-type]


def _problem(jobs: list[PlanJob], **capacity: float) -> Problem:
    return Problem(0.0, "makespan", jobs, capacity)


def _end_s(problem: Problem, most_plans: int = 2_000) -> tuple[float, int]:
    """(end, moves) when the plans are followed exactly; asks again at every end of a job and at `review_s`."""
    jobs = {job.job_id: job for job in problem.jobs}
    now_s, moves = problem.now_s, 0
    for _ in range(most_plans):
        if not jobs:
            return now_s, moves
        plan = plan_makespan(Problem(now_s, "makespan", list(jobs.values()), problem.capacity))
        for job_id, job in jobs.items():
            option = plan.run.get(job_id)
            if option != job.held:
                moves += job.held is not None
                warm_s = job.restart_s if option is not None else 0.0
                jobs[job_id] = replace(job, held=option, warmup_left_s=warm_s)
        ends = [now_s + job.warmup_left_s + job.work / job.held.rate for job in jobs.values() if job.held is not None]
        later_s = min([*ends, *([plan.review_s] if plan.review_s is not None else [])])
        jobs = {job_id: _after(job, later_s - now_s) for job_id, job in jobs.items()}
        jobs = {job_id: job for job_id, job in jobs.items() if job.work > 1e-6}
        now_s = later_s
    raise AssertionError("the plans never end the work")


def _after(job: PlanJob, seconds: float) -> PlanJob:
    if job.held is None:
        return job
    worked_s = max(0.0, seconds - job.warmup_left_s)
    return replace(job, work=job.work - worked_s * job.held.rate, warmup_left_s=max(0.0, job.warmup_left_s - seconds))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    capacity = {flavor: float(draw(st.integers(0, 9))) for flavor in FLAVORS}
    room, jobs = dict(capacity), []
    for n in range(draw(st.integers(0, 12))):
        ways = draw(st.lists(st.tuples(st.sampled_from(FLAVORS), st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])), max_size=4, unique=True))
        options = tuple(
            Option(shape, flavor, 1, units, draw(st.floats(0.01, 100.0, allow_nan=False))) for shape, (flavor, units) in enumerate(ways)
        )
        held = draw(st.sampled_from([None, *options]))
        if held is not None and held.units <= room[held.flavor]:
            room[held.flavor] -= held.units
        else:
            held = None
        restart_s = draw(st.sampled_from([0.0, 60.0]))
        job = PlanJob(
            JobId(f"j{n}"),
            options if draw(st.booleans()) else tuple(option for option in options if option != held),
            draw(st.floats(1e-3, 1e6)),
            held=held,
            restart_s=restart_s,
            warmup_left_s=draw(st.floats(0.0, restart_s)) if held is not None else 0.0,
            lost_work=draw(st.sampled_from([0.0, 10.0])),
            is_movable=draw(st.booleans()),
        )
        jobs.append(job)
    return Problem(1_000.0, "makespan", jobs, capacity)


def _assert_feasible(problem: Problem, plan: Plan) -> None:
    jobs = {job.job_id: job for job in problem.jobs}
    used = dict.fromkeys(problem.capacity, 0.0)
    for job_id, option in plan.run.items():
        assert option in jobs[job_id].options or option == jobs[job_id].held
        used[option.flavor] += option.units
    assert all(used[flavor] <= problem.capacity[flavor] + 1e-9 for flavor in used)
    for job in problem.jobs:
        if job.held is not None and not job.is_movable:
            assert plan.run[job.job_id] == job.held
    waiting = [job_id for job_id, _ in plan.order]
    assert len(set(waiting)) == len(waiting)
    assert not set(waiting) & set(plan.run)
    assert all(options and set(options) <= set(jobs[job_id].options) | {jobs[job_id].held} for job_id, options in plan.order)
    can_run = {job.job_id for job in problem.jobs if any(o.units <= problem.capacity[o.flavor] for o in (*job.options, *_held(job)))}
    assert set(plan.run) | set(waiting) == can_run
    assert not can_run or plan.run
    assert plan.review_s is None or plan.review_s > problem.now_s


def _held(job: PlanJob) -> tuple[Option, ...]:
    return () if job.held is None else (job.held,)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_every_plan_is_feasible_complete_and_the_same_again(problem: Problem) -> None:
    plan = plan_makespan(problem)
    _assert_feasible(problem, plan)
    assert plan == plan_makespan(problem)


@settings(max_examples=20, deadline=None)
@given(problems())
def test_the_way_for_large_problems_is_feasible_too(problem: Problem) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_WAYS", 0)
        patch.setattr(module, "MAX_STEP_WAYS", 0)
        _assert_feasible(problem, plan_makespan(problem))


def _mixed(seed: int, count: int, units: tuple[int, ...] = (1, 1, 1, 2, 4), restart_s: float = 0.0) -> list[PlanJob]:
    rng = random.Random(seed)
    kinds = [(1.0, 0.6, 0.2), (1.0, 0.3, 0.1), (1.0, 0.9, 0.7)]
    return [
        _job(f"j{n}", rng.uniform(500, 5_000), dict(zip(FLAVORS, rng.choice(kinds), strict=True)), rng.choice(units), restart_s=restart_s)
        for n in range(count)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_free_moves_of_single_unit_jobs_end_within_one_percent_of_the_bound(seed: int) -> None:
    problem = _problem(_mixed(seed, 10, units=(1,)), a=2, b=2, c=2)
    bound_s = makespan_bound(problem.jobs, problem.capacity)
    end_s, _ = _end_s(problem)
    assert bound_s is not None
    assert bound_s - 1e-3 <= end_s <= 1.01 * bound_s


@pytest.mark.parametrize("seed", [1, 2])
def test_charged_moves_end_near_the_bound_with_few_moves(seed: int) -> None:
    problem = _problem(_mixed(seed, 14, restart_s=20.0), a=4, b=4, c=4)
    bound_s = makespan_bound(problem.jobs, problem.capacity)
    end_s, moves = _end_s(problem)
    assert bound_s is not None
    assert bound_s - 1e-3 <= end_s <= 1.06 * bound_s
    assert moves <= 3 * len(problem.jobs)


def _load_s(jobs: list[PlanJob], choice: tuple[int, ...], flavor: int) -> float:
    return sum(job.work / job.options[at].rate for job, at in zip(jobs, choice, strict=True) if at == flavor)


def test_small_instances_are_at_least_as_good_as_the_best_without_preemption() -> None:
    for seed in range(2):
        problem = _problem(_mixed(seed, 5, units=(1,)), a=1, b=1, c=1)
        choices = itertools.product(range(3), repeat=5)
        best_s = min(max(_load_s(problem.jobs, choice, flavor) for flavor in range(3)) for choice in choices)
        assert _end_s(problem)[0] <= best_s * 1.005 + 1.0


def test_a_running_job_keeps_its_lease_when_a_move_gains_less_than_it_costs() -> None:
    slow = _job("held", 1_000.0, {"a": 1.05, "b": 1.0}, restart_s=60.0)
    slow.held = slow.options[1]
    assert plan_makespan(_problem([slow], a=1, b=1)).run == {"held": slow.held}


def test_a_running_job_moves_where_that_shortens_the_whole() -> None:
    job = _job("held", 100_000.0, {"a": 5.0, "b": 1.0}, restart_s=60.0)
    job.held = job.options[1]
    assert plan_makespan(_problem([job], a=1, b=1)).run["held"].flavor == "a"


def test_work_that_a_move_would_lose_keeps_a_job_where_it_is() -> None:
    job = _job("held", 1_000.0, {"a": 2.0, "b": 1.0}, lost_work=50_000.0)
    job.held = job.options[1]
    assert plan_makespan(_problem([job], a=1, b=1)).run["held"].flavor == "b"


def test_the_long_job_gets_the_fast_flavor() -> None:
    jobs = [_job("long", 10_000.0, {"a": 4.0, "b": 1.0}), _job("short", 100.0, {"a": 4.0, "b": 1.0})]
    run = plan_makespan(_problem(jobs, a=1, b=1)).run
    assert (run["long"].flavor, run["short"].flavor) == ("a", "b")


def test_an_elastic_job_takes_the_whole_flavor_when_alone() -> None:
    options = tuple(Option(0, "a", units, float(units), units**0.9) for units in (1, 2, 4))
    assert plan_makespan(_problem([PlanJob(JobId("wide"), options, 1_000.0)], a=4)).run["wide"].units == 4


def test_thousands_of_jobs_fill_the_cluster_longest_first() -> None:
    jobs = _mixed(7, 2_000)
    problem = _problem(jobs, a=100, b=100, c=100)
    assert sum(len(job.options) for job in jobs) > makespan_fill.MAX_WAYS
    plan = plan_makespan(problem)
    _assert_feasible(problem, plan)
    assert sum(option.units for option in plan.run.values()) >= 295
    works = {job.job_id: job.work / max(option.rate for option in job.options) for job in jobs}
    assert min(works[job_id] for job_id in plan.run) > 0.3 * max(works.values())


def test_without_jobs_or_without_room_there_is_nothing_to_run() -> None:
    assert plan_makespan(_problem([], a=1)).run == {}
    assert plan_makespan(_problem([_job("wide", 1.0, {"a": 1.0}, units=4)], a=2)).run == {}


def test_the_bound_knows_release_dates_gangs_and_starts() -> None:
    one = {"a": 1.0}
    assert makespan_bound([], {"a": 1.0}, 5.0) == 5.0
    assert makespan_bound([_job("wide", 1.0, one, units=4)], {"a": 2.0}) is None
    assert makespan_bound([_job("x", 100.0, one), _job("y", 100.0, one)], {"a": 1.0}) == pytest.approx(200.0)
    assert makespan_bound([_job("x", 100.0, one, restart_s=60.0)], {"a": 1.0}) == pytest.approx(160.0)
    assert makespan_bound([_job("x", 100.0, one, submitted_s=50.0)], {"a": 1.0}) == pytest.approx(150.0)
    late = [_job("x", 100.0, one, submitted_s=1_000.0), _job("y", 100.0, one, submitted_s=1_050.0)]
    assert makespan_bound(late, {"a": 1.0}) == pytest.approx(1_200.0)
    gangs = [_job(f"g{n}", 100.0, one, units=2) for n in range(3)]
    assert makespan_bound(gangs, {"a": 3.0}) == pytest.approx(300.0)  # by area alone it would be 200
