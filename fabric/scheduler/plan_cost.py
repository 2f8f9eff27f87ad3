"""The planner for the objective `cost`: the cheapest schedule that meets the deadlines.

It re-solves a linear program over all known work whenever it is asked, and serves its first slot exactly. Idle dear flavors stay idle when
a cheap one will do in time; a job with slack gives its place up to an urgent one when moving costs nothing, and otherwise when it pays.
No clock and no randomness: budgets are counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fabric.job import JobId, Option
from fabric.scheduler.cost_greedy import pick
from fabric.scheduler.cost_needs import Need, Situation, assess
from fabric.scheduler.cost_program import FIRST_SLOT_S, Fluid, plan_fluid
from fabric.scheduler.cost_round import LEAST_SHARE, SOONEST_S, serve
from fabric.scheduler.problem import Plan, Problem

MAX_LP_OPTIONS = 1200
"""Ways of all jobs together up to which the linear program is solved (400 jobs on three flavors: 0.1 s)."""
RESTARTS_PER_TURN = 20.0
"""Where restarts take time, a turn on a shared accelerator lasts this many of them: at most 5 % is lost."""


def plan_cost(problem: Problem) -> Plan:
    """Plan for `problem`; never over capacity. Jobs that fit nowhere appear neither in `run` nor in `order`.

    Up to 400 jobs on three flavors by linear program, more by one greedy pass. `review_s` is set while anything waits or shares.
    """
    found = assess(problem)
    plan = Plan(problem.now_s, dict(found.fixed))
    plan.finish_s = {job_id: problem.now_s + left_s for job_id, left_s in found.fixed_s.items() if np.isfinite(left_s)}
    if not found.needs:
        return plan
    restart_s = max(need.job.restart_s for need in found.needs)
    least_s = max(SOONEST_S, RESTARTS_PER_TURN * restart_s)
    fluid = None
    if sum(len(need.options) for need in found.needs) <= MAX_LP_OPTIONS:
        busy = [(option.flavor, option.units, found.fixed_s[job_id]) for job_id, option in found.fixed.items()]
        fluid = plan_fluid(found.needs, found.free, busy, max(FIRST_SLOT_S, least_s))
    if fluid is None:
        _greedy(plan, found, max(FIRST_SLOT_S, least_s))
    else:
        _shared(plan, found, fluid, least_s)
    return plan


def _shared(plan: Plan, found: Situation, fluid: Fluid, least_s: float) -> None:
    rounded = serve(fluid, found.free, least_s)
    plan.run.update(rounded.run)
    plan.review_s = plan.now_s + rounded.review_s
    ways = _ways(fluid)
    waiting = [(first, -need.urgency, number) for number, (need, (first, _, _)) in enumerate(zip(fluid.needs, ways, strict=True))]
    left = dict(found.free)
    for option in rounded.run.values():
        left[option.flavor] -= option.units
    for _, _, number in sorted(waiting):
        need, (_, last_s, options) = fluid.needs[number], ways[number]
        if need.job.job_id not in plan.run and last_s > 0 and options[0].units <= left[options[0].flavor] + 1e-9:
            plan.run[need.job.job_id] = _as_held(need, options[0])  # room that rounding has left over
            left[options[0].flavor] -= options[0].units
        elif need.job.job_id not in plan.run:
            plan.order.append((need.job.job_id, options))
        if last_s > 0:
            plan.finish_s[need.job.job_id] = plan.now_s + last_s


def _as_held(need: Need, option: Option) -> Option:
    """The option as it was granted, if it is the one that is held: naming it keeps the lease."""
    held = need.job.held
    return held if held is not None and held[:4] == option[:4] else option


def _ways(fluid: Fluid) -> list[tuple[int, float, tuple[Option, ...]]]:
    """Of each need: its first slot, when its last share ends (0: never), and the options it uses, soonest first."""
    lengths, edges = fluid.lengths, fluid.edges
    uses: list[list[tuple[int, float, int]]] = [[] for _ in fluid.needs]
    for place in np.flatnonzero(fluid.share > LEAST_SHARE):
        uses[fluid.need_of[place]].append((int(fluid.slot_of[place]), -float(fluid.share[place]), int(fluid.option_of[place])))
    ways = []
    for need, used in zip(fluid.needs, uses, strict=True):
        if not used:
            ways.append((len(lengths), 0.0, _cheapest_first(need)))
            continue
        last = max(slot for slot, _, _ in used)
        part = -sum(share for slot, share, _ in used if slot == last)
        chosen = dict.fromkeys(option for _, _, option in sorted(used))
        ways.append((min(used)[0], float(edges[last] + min(part, 1.0) * lengths[last]), tuple(need.options[option] for option in chosen)))
    return ways


def _greedy(plan: Plan, found: Situation, review_s: float) -> None:
    chosen: dict[JobId, Option] = pick(found.needs, found.free)
    plan.run.update(chosen)
    plan.review_s = plan.now_s + review_s
    for need in sorted(found.needs, key=lambda need: (-need.urgency, need.job.submitted_s, need.job.job_id)):
        option = chosen.get(need.job.job_id)
        if option is None:
            plan.order.append((need.job.job_id, _cheapest_first(need)))
        else:
            run_s = next(s for one, s in zip(need.options, need.seconds, strict=True) if one[:4] == option[:4])
            plan.finish_s[need.job.job_id] = plan.now_s + run_s


def _cheapest_first(need: Need) -> tuple[Option, ...]:
    """Ways that are in time, cheapest first; where none is, the fastest first."""
    ranked: Sequence[int] = sorted(range(len(need.options)), key=lambda number: (need.usd[number], number))
    in_time = [number for number in ranked if need.seconds[number] <= need.due_s]
    if not in_time:
        in_time = sorted(ranked, key=lambda number: need.seconds[number])
    return tuple(need.options[number] for number in in_time)
