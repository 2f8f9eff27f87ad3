"""The planner for `makespan`."""
from __future__ import annotations
import math
import numpy as np
from fabric.scheduler.lp import solve
from fabric.scheduler.makespan_model import Ways, step_program, ways_of
from fabric.scheduler.makespan_dive import dive
from fabric.scheduler.problem import Plan, Problem

STEP_FRAC = 0.05
STEP_RESTART = 2.0
LEAST_STEP_S = 10.0
SLACK_FRAC = 1e-3
NODES = 50
STAT = []
import time

def plan_makespan(problem: Problem) -> Plan:
    t0 = time.perf_counter()
    ways = ways_of(problem)
    num = len(ways.job)
    can = np.ones(num, dtype=bool)
    relaxed = solve(step_program(ways, 0.0, np.zeros(num, dtype=bool), 1.0))
    T0 = relaxed.x[2 * num]
    restart = max(j.restart_s for j in problem.jobs)
    step = max(LEAST_STEP_S, STEP_FRAC * T0, STEP_RESTART * math.sqrt(2 * restart * T0))
    step = min(step, max(0.5 * T0, 1.0))
    t1 = time.perf_counter()
    c = dive(step_program(ways, step, can, T0), ways, 200, SLACK_FRAC*step)
    t2 = time.perf_counter()
    run = {problem.jobs[ways.job[k]].job_id: ways.options[k] for k in c.ways}
    STAT.append((problem.now_s, len(problem.jobs), T0 + problem.now_s, c.objective + step + problem.now_s, t1 - t0, t2 - t1))
    return Plan(problem.now_s, run, review_s=problem.now_s + step, bound=problem.now_s + T0)
