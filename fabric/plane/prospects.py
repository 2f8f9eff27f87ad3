"""What a job may look forward to: a row for every way that it may run, and which of them the core would choose.

Rows are found by rehearsal on a copy of the core. `run_s` includes the policy's restart time, as the core counts it, so that wait
and run add up to the finish. Invariant: the chosen way is the first that the rehearsal started.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from fabric.job import JobEstimate, JobSpec, Option
from fabric.plane.fits import NO_NODES, limit_of, shortfall
from fabric.plane.rehearsal import Rehearsal, Start
from fabric.plane.watching import key_of
from fabric.scheduler import planning
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core
from fabric.scheduler.optimise import solve
from fabric.scheduler.record import JobRecord
from fabric.show import duration
from fabric.states import JobState

MOST_PLANNED = 16
"""With so many jobs in all, the optimiser is asked as the core would ask it; with more, it would take too long to wait for."""
SOON_S = 1.0


def plan(
    core: Core, spec: JobSpec, estimate: JobEstimate | None, summary: Mapping[str, Any], twins: Collection[str], now_s: float
) -> dict[str, Any]:
    """The form of `fabric.job_answers.PLAN_KEYS` for a job that is not submitted; the core is left as it was."""
    asked = {"name": spec.name, "user": spec.user, "queue": spec.queue, "asks": str(summary.get("asks", ""))}
    rehearsal = Rehearsal(core, now_s)
    alive = tuple(other for other in spec.after if other in rehearsal.book.jobs)
    rehearsal.submit(dataclasses.replace(spec, after=alive), estimate)
    job = rehearsal.watch(spec.job_id)
    rows, first = rehearsed(rehearsal, job, twins, is_planning=core.is_planning)
    if first is None:
        code, detail = reason(job)
        return {"job": asked, "ways": public(rows), "chosen": None, "reason": code or "Resources", "detail": detail, "now_s": now_s}
    chosen = next(number for number, row in enumerate(rows) if row["key"] == key_of(first.option))
    code, detail = _why(rehearsal, job, rows, chosen, is_planned=core.is_planning)
    return {"job": asked, "ways": public(rows), "chosen": chosen, "reason": code, "detail": detail, "now_s": now_s}


def public(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is only for us."""
    return [{name: value for name, value in row.items() if name != "key"} for row in rows]


def rehearsed(
    rehearsal: Rehearsal, job: JobRecord, twins: Collection[str], *, is_planning: bool = False
) -> tuple[list[dict[str, Any]], Start | None]:
    """A row for each way of the watched job, the soonest finish first, what can never be last; and the start that the core would
    make."""
    ways = rehearsal.book.ways.resolve(job.spec, job.estimate, job.excluded)
    refused = refusals(rehearsal, job)
    if is_planning:
        _ask(rehearsal)
    rehearsal.run()
    first = next(iter(rehearsal.starts.values()), None)
    rows = [_row(rehearsal, job, way, twins, refused) for way in _shown(rehearsal, ways)]
    rows.sort(key=lambda row: (row["finish_s"] is None, row["finish_s"] or 0.0, row["cost_usd"] or 0.0))
    return rows, first


def refusals(rehearsal: Rehearsal, job: JobRecord) -> dict[tuple[int, str, int], tuple[str, str]]:
    """Why it could not start each way right now, as (code, detail); what is left out could."""
    found = {}
    for way in rehearsal.admission.wanted:
        if (why := rehearsal.admission.probe(job, way)) is not None:
            found[key_of(way)] = why
    return found


def way_row(rehearsal: Rehearsal, job: JobRecord, way: Option, twins: Collection[str]) -> dict[str, Any]:
    """One way with what does not depend on when it starts; nothing is said yet of its verdict."""
    book = rehearsal.book
    flavor = book.catalogue[way.flavor]
    run_s = run_s_of(rehearsal, job, way)
    has_price = way.flavor in book.standing.prices
    return {
        "key": key_of(way),
        "flavor": way.flavor,
        "tier": flavor.tier,
        "twin": way.flavor in twins,
        "num_bundles": way.num_bundles,
        "units": way.units,
        "wait_s": None,
        "run_s": run_s,
        "run_log_sd": job.estimate.log_sd if job.estimate is not None and run_s is not None else None,
        "finish_s": None,
        "cost_usd": run_s * book.standing.usd_per_s(way) if has_price and run_s is not None else None,
        "verdict": "NoFit",
        "reason": "Resources",
        "detail": "",
    }


def run_s_of(rehearsal: Rehearsal, job: JobRecord, way: Option) -> float | None:
    """Predicted seconds from a start to the end; None where nothing is known."""
    if way.rate <= 0:
        return None
    left = job.work - job.done_at(rehearsal.begin_s, rehearsal.book.policy.restart_s)
    return rehearsal.book.policy.restart_s + max(0.0, left) / way.rate


def _ask(rehearsal: Rehearsal) -> None:
    """Let the optimiser look at the job among all others, as the core would at once."""
    core, book = rehearsal.core, rehearsal.book
    problem, asked = planning.problem_of(book, core.pace.warm)
    if 0 < len(problem.jobs) <= MOST_PLANNED:
        planning.take(solve(problem), asked, book, core.admission)


def _shown(rehearsal: Rehearsal, ways: tuple[Option, ...]) -> list[Option]:
    """Without the flavors that have no node here, where others have; of sizes that can never be, the least."""
    stocks = rehearsal.book.machines.stocks
    here = [way for way in ways if way.flavor in stocks] or list(ways)
    possible = {key_of(way) for way in rehearsal.admission.wanted}
    least: dict[tuple[int, str], Option] = {}
    for way in here:
        least.setdefault(way[:2], way)
    return [way for way in here if key_of(way) in possible or least[way[:2]] is way]


def _row(
    rehearsal: Rehearsal, job: JobRecord, way: Option, twins: Collection[str], refused: Mapping[tuple[int, str, int], tuple[str, str]]
) -> dict[str, Any]:
    row, start = way_row(rehearsal, job, way, twins), rehearsal.starts.get(key_of(way))
    if start is None and key_of(way) not in {key_of(wanted) for wanted in rehearsal.admission.wanted}:
        row["reason"], row["detail"] = _never(rehearsal, job, way)
        return row
    if start is None:
        row["reason"], row["detail"] = refused.get(key_of(way), ("Priority", "others go first"))
        limit = limit_of(rehearsal.core, job, way)
        row["detail"] = limit or row["detail"]
        return row
    queued_s = start.at_s - rehearsal.begin_s
    wake_s = rehearsal.book.machines.wake_s(way.flavor) if key_of(way) in rehearsal.admission.waking else 0.0
    row["wait_s"] = wait_s = queued_s + wake_s
    row["finish_s"] = wait_s + row["run_s"] if row["run_s"] is not None else None
    if start.is_preempting:
        row["verdict"], row["reason"], row["detail"] = "Preempt", "Priority", "jobs of lower value leave for it"
    elif queued_s < SOON_S:
        row["verdict"], row["reason"] = "Fit", ""
        row["detail"] = f"a node is started first, about {duration(wake_s)}" if wake_s else row["detail"]
    else:
        row["reason"], row["detail"] = refused.get(key_of(way), reason(job) if reason(job)[0] else ("Priority", "others go first"))
    if late := _lateness(job, row, rehearsal.begin_s):
        row["detail"] = ", ".join(part for part in (row["detail"], late) if part)
    return row


def _never(rehearsal: Rehearsal, job: JobRecord, way: Option) -> tuple[str, str]:
    """Why this way is not even looked at."""
    if rehearsal.book.can_ever(job, way):
        cls = job.cls or rehearsal.book.standing.lowest
        return "BadConstraints", f"class {cls.name} keeps to the nodes that it prefers ({rehearsal.book.policy.fallback})"
    detail = shortfall(rehearsal.core, job.spec.shapes[way.shape], way.flavor, job.memory_factor)
    return "NoNodes" if detail.startswith(NO_NODES) else "Resources", detail


def _lateness(job: JobRecord, row: Mapping[str, Any], now_s: float) -> str:
    """What the deadline says to this finish."""
    if job.spec.deadline_s is None or row["finish_s"] is None:
        return ""
    left_s = job.spec.deadline_s - now_s
    if row["finish_s"] > left_s:
        return f"misses its deadline by {duration(row['finish_s'] - left_s)}"
    if row["wait_s"] + row["run_s"] * math.exp(row["run_log_sd"] or 0.0) > left_s:
        return "may miss its deadline"
    return ""


def _why(rehearsal: Rehearsal, job: JobRecord, rows: list[dict[str, Any]], chosen: int, *, is_planned: bool) -> tuple[str, str]:
    """Why the core takes this way, as (code, words)."""
    row, cls = rows[chosen], job.cls or rehearsal.book.standing.lowest
    others = [other for other in rows if other["finish_s"] is not None and other is not row]
    if not others:
        return "OnlyFit", "no other way can run it"
    prefers = rehearsal.book.ways.prefers
    if cls.selectors and prefers(cls, row["flavor"]) and not all(prefers(cls, other["flavor"]) for other in others):
        return "Preferred", f"class {cls.name} prefers {row['flavor']}"
    soonest = min(others, key=lambda other: other["finish_s"])
    ends_first = row["finish_s"] is not None and row["finish_s"] <= soonest["finish_s"] + SOON_S
    if ends_first:
        return "EndsFirst", f"no other way ends before {duration(row['finish_s'])} from now"
    objective = rehearsal.book.policy.objective
    if is_planned and job.state is JobState.PENDING and row["wait_s"] > SOON_S:
        return "Planned", f"the plan for all jobs (objective {objective}) gives {soonest['flavor']} to others"
    return "RoomFirst", f"it has room first; {soonest['flavor']} would end {duration(row['finish_s'] - soonest['finish_s'])} sooner"
