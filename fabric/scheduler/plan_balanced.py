"""The default planner: nearly the least mean completion time, with an early last completion and nobody left behind.

A list is worth the weighted sum of its completion times and, times a share of all weight, its last one: long jobs and
gangs get what suits them best early enough. A job weighs more the longer it has waited for its size, so none starves.
"""

from __future__ import annotations

from fabric.scheduler.jct_model import Model, model
from fabric.scheduler.jct_search import search, tries
from fabric.scheduler.plan_jct import plan_of
from fabric.scheduler.problem import Plan, Problem

TAIL_SHARE = 0.3
# Once a job has been here for so many times its own fastest run, its weight has doubled; it goes on growing.
PATIENCE = 10.0
LEAST_RUN_S = 600.0


def plan_balanced(problem: Problem) -> Plan:
    """Least weighted mean of completion times plus a share of the last one, patience charged."""
    m = model(problem)
    if not m.jobs:
        return Plan(problem.now_s, {})
    _age(m, problem.now_s)
    m.tail = TAIL_SHARE * sum(m.weight)
    return plan_of(problem, m, search(m, tries(m), problem.warm, problem.now_s))


def _age(m: Model, now_s: float) -> None:
    for n, job in enumerate(m.jobs):
        fastest_s = max(LEAST_RUN_S, min(m.work[n] / way.rate for way in m.ways[n]))
        m.weight[n] *= 1.0 + max(0.0, now_s - job.submitted_s) / (PATIENCE * fastest_s)
