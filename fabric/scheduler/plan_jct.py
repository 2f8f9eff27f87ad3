"""The planner for mean completion time."""

from __future__ import annotations

from fabric.scheduler.jct_model import model
from fabric.scheduler.jct_search import search, tries
from fabric.scheduler.problem import Plan, Problem


def plan_jct(problem: Problem) -> Plan:
    m = model(problem)
    if not m.jobs:
        return Plan(problem.now_s, {})
    found = search(m, tries(m))
    run = {m.jobs[n].job_id: m.options[n][way.index] for n, way, _ in found.rolled.first}
    order = [(m.jobs[n].job_id, tuple(m.options[n][way.index] for way in found.prefs[n])) for n in found.order]
    finish = {m.jobs[n].job_id: problem.now_s + s for n, s in found.rolled.finish_s.items()}
    return Plan(problem.now_s, run, order, None, finish)
