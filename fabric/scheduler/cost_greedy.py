"""The cost planner for very many jobs, where the linear program would take too long: one pass, most urgent first.

Each job takes the cheapest option that has room and still meets its due time; one that can wait for a cheaper flavor waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fabric.job import JobId, Option
from fabric.scheduler.cost_needs import Need

MUST_RUN = 0.5
"""From this urgency on a job no longer waits for a cheaper flavor."""
NOT_DUE_WEIGHT = 0.6
"""A job without a deadline, or late already, comes behind those that can still be in time, until its pressure has grown."""
SLACK_FRAC = 0.9
DEARER_FRAC = 1.1
"""A job with slack takes an option up to this factor dearer than its cheapest; beyond, it waits."""


def pick(needs: Sequence[Need], room: Mapping[str, float]) -> dict[JobId, Option]:
    """Who runs what now; never over `room`. Costs time in proportion to the number of jobs."""
    left = dict(room)
    run: dict[JobId, Option] = {}
    smallest = min((option.units for need in needs for option in need.options), default=0.0)
    for need in sorted(needs, key=lambda need: (-_rank(need), need.job.submitted_s, need.job.job_id)):
        if all(units < smallest for units in left.values()):
            break
        choice = _choice(need, left)
        if choice is None:
            continue
        option = need.options[choice]
        left[option.flavor] -= option.units
        held = need.job.held
        run[need.job.job_id] = held if choice == need.held and held is not None else option
    return run


def _rank(need: Need) -> float:
    return need.urgency if need.is_due else NOT_DUE_WEIGHT * need.urgency


def _choice(need: Need, left: Mapping[str, float]) -> int | None:
    fits = [number for number, option in enumerate(need.options) if option.units <= left[option.flavor] + 1e-9]
    if not fits:
        return None
    if need.urgency >= MUST_RUN:
        in_time = [number for number in fits if need.seconds[number] <= need.due_s]
        if in_time:
            return min(in_time, key=lambda number: (need.usd[number], number))
        return min(fits, key=lambda number: (need.seconds[number], number))
    in_time = [number for number in range(len(need.options)) if need.seconds[number] <= SLACK_FRAC * need.due_s]
    cheapest = min((need.usd[number] for number in in_time), default=0.0)
    affordable = [number for number in fits if need.usd[number] <= cheapest * DEARER_FRAC and number in in_time]
    return min(affordable, key=lambda number: (need.usd[number], number)) if affordable else None
