"""The planner for mean completion time: the best priority list found, and what it deals out now.

It plans for the jobs that it sees, as if no others came, and is asked again at every change. Invariants: the plan fits
the capacity; a lease is given up only for a list whose whole future, restarts and lost work charged, is better.
"""

from __future__ import annotations

import numpy as np

from fabric.scheduler.jct_future import Ran
from fabric.scheduler.jct_model import Model, model
from fabric.scheduler.jct_search import Found, halves, search, tries
from fabric.scheduler.problem import Plan, Problem, WarmStart

# A doubtful job that has used up this part of what was expected of it is worth another look.
REVIEW_SHARE = 0.25
LEAST_REVIEW_S, LEAST_REVIEW_RESTARTS = 60.0, 5.0
DOUBTFUL_LOG_SD = 0.3


def plan_jct(problem: Problem) -> Plan:
    """Least weighted mean completion time."""
    m = model(problem)
    return plan_of(problem, m, search(m, tries(m), problem.warm, problem.now_s)) if m.jobs else Plan(problem.now_s, {})


def plan_of(problem: Problem, m: Model, found: Found) -> Plan:
    """The plan that a list stands for."""
    ids, order, ran = [job.job_id for job in m.jobs], found.order.tolist(), found.ran
    prefs, holds, ends = found.prefs.tolist(), ran.first.tolist(), np.flatnonzero(ran.finish_s < np.inf).tolist()
    rows = {n: (ids[n], tuple(m.options[n][nth] for nth in prefs[n] if nth >= 0)) for n in order if ends or holds[n] < 0}
    return Plan(
        problem.now_s,
        {ids[n]: m.options[n][holds[n]] for n in order if holds[n] >= 0},
        [rows[n] for n in order if holds[n] < 0],
        _review_s(problem, m, ran),
        {ids[n]: problem.now_s + float(ran.finish_s[n]) for n in ends},
        # A list that was not searched for has nothing to go on from but its prices.
        warm=WarmStart(
            list(rows.values()) if ends else [],
            {f: (price, lean) for f, price, lean in zip(m.flavors, *halves(found.figures), strict=True)},
        ),
    )


def _review_s(problem: Problem, m: Model, ran: Ran) -> float | None:
    """When to look again although nothing happens: others wait for one that may prove much longer than expected."""
    holding = np.flatnonzero(ran.first >= 0).tolist()
    doubtful = [float(ran.first_ends_s[n]) for n in holding if m.jobs[n].log_sd >= DOUBTFUL_LOG_SD]
    if not doubtful or len(holding) == len(m.jobs):
        return None
    least_s = max(LEAST_REVIEW_S, LEAST_REVIEW_RESTARTS * max(m.restart_s))
    return problem.now_s + max(least_s, REVIEW_SHARE * min(doubtful))
