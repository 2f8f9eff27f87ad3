"""The optimiser: answers a `Problem` with a `Plan` by the planner of its objective. Pure, so that it can run in a process of its own.

A planner's module is imported when it is first asked, so that a process that only admits never loads the solver.
"""

from __future__ import annotations

from importlib import import_module

from fabric.scheduler.problem import Plan, Problem


def solve(problem: Problem) -> Plan:
    """The plan for `problem.objective`; `plan_<objective>` in the module of that name. Raises: BugError from the solver."""
    name = f"plan_{problem.objective}"
    plan: Plan = getattr(import_module(f"fabric.scheduler.{name}"), name)(problem)
    return plan
