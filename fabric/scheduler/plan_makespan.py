"""The planner for `makespan`: the last job should end as soon as it can.

A linear program says how long each job should run on each flavor; then the ways to hold for one step are chosen whole, such
that the least possible end of what is left afterwards is soonest. Moves are paid for by what they cost, so running jobs keep
their leases unless a move shortens the whole. Effort is bounded by counts, never by a clock.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fabric.job import JobId, Option
from fabric.scheduler.lp import LinearProgram, solve
from fabric.scheduler.makespan_dive import Choice, dive
from fabric.scheduler.makespan_fill import MAX_WAYS, fill, queue, relax, relax_classes
from fabric.scheduler.makespan_model import Indices, Ways, need_s, step_program, ways_of
from fabric.scheduler.problem import Plan, Problem

STEP_FRAC = 0.05
"""Length of a step where moves are free, as a share of what is left."""
STEP_RESTART = 2.0
LEAST_STEP_S = 10.0
MAX_FIXES = 200
MAX_STEP_WAYS = 1_500
"""Above this many ways the step is not weighed as a whole: jobs keep what they hold and room is filled by the queue."""
SEARCH_WAYS_FREE = 300
SEARCH_WAYS = 60
"""Up to so many ways a branch-and-bound of `NODES` nodes follows the dive; with charges it is much harder."""
NODES = 20
LOSS_FRAC = 1e-3
LOSS_FRAC_CHARGED = 1e-2
"""Seconds of the end that a decision may lose per second of the step before more effort is spent on it."""


def plan_makespan(problem: Problem) -> Plan:
    """The plan at `problem.now_s`; `bound` is the time before which no plan can end all that is known."""
    ways = ways_of(problem)
    if not ways.options:
        return Plan(problem.now_s, {})
    shares, end_s, bound_s = (relax_classes if len(ways.job) > MAX_WAYS else relax)(ways)
    step_s = _step_s(ways, end_s)
    waiting = queue(ways, shares, end_s)
    chosen = _choose(ways, step_s, end_s)
    picked = fill(ways, waiting, end_s) if chosen is None or not len(chosen) else chosen.tolist()
    run: dict[JobId, Option] = {}
    finish_s: dict[JobId, float] = {}
    for way in picked:
        job_id = ways.jobs[ways.job[way]].job_id
        run[job_id] = ways.options[way]
        finish_s[job_id] = problem.now_s + float(ways.warm_s[way] + ways.full_s[way])
    order = [(ways.jobs[job].job_id, tuple(ways.options[way] for way in good)) for job, good in waiting]
    order = [(job_id, options) for job_id, options in order if job_id not in run]
    review_s = problem.now_s + step_s if order or not _is_settled(ways, picked) else None
    return Plan(problem.now_s, run, order, review_s, finish_s, problem.now_s + bound_s)


def _step_s(ways: Ways, end_s: float) -> float:
    """How far one decision looks: long enough that a move that pays later is seen to pay, short against what is left.

    The root is the usual balance of a cost per change against a loss that grows with the square of the time between changes.
    """
    charge_s = float(ways.charge_s.max(initial=0.0))
    step_s = max(LEAST_STEP_S, STEP_FRAC * end_s, STEP_RESTART * math.sqrt(2.0 * charge_s * end_s))
    return min(step_s, max(0.5 * end_s, 1.0))


def _is_settled(ways: Ways, picked: list[int]) -> bool:
    """Every job runs in its quickest way: nothing can get better before the situation changes."""
    best_s = np.full(len(ways.jobs), np.inf)
    np.minimum.at(best_s, ways.job, need_s(ways))
    return all(need_s(ways)[way] <= best_s[ways.job[way]] for way in picked)


def _choose(ways: Ways, step_s: float, end_s: float) -> Indices | None:
    """The ways to hold during the step; None where there are too many to weigh them together."""
    num = len(ways.job)
    can_run = np.ones(num, dtype=np.bool_)
    if num > MAX_STEP_WAYS:
        return None
    program = step_program(ways, step_s, can_run, end_s)
    is_free = not ways.charge_s.any()
    loss_s = step_s * (LOSS_FRAC if is_free else LOSS_FRAC_CHARGED)
    choice = dive(program, ways, MAX_FIXES, LOSS_FRAC * step_s)
    if num <= (SEARCH_WAYS_FREE if is_free else SEARCH_WAYS):
        choice = _search(program, num, choice, loss_s)
    return None if choice is None else choice.ways


def _search(program: LinearProgram, num: int, choice: Choice | None, loss_s: float) -> Choice | None:
    """The dive's choice where it is within `loss_s` of the model's optimum, else the better of it and a branch-and-bound."""
    root = solve(replace(program, integer=None))
    if root is None or (choice is not None and choice.objective <= root.objective + loss_s):
        return choice
    found = solve(program, max_nodes=NODES, gap=max(1e-9, loss_s / max(abs(root.objective), 1e-9)))
    if found is None or (choice is not None and choice.objective <= found.objective):
        return choice
    return Choice(np.flatnonzero(found.x[num : 2 * num] > 0.5), found.objective)
