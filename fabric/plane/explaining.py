"""Why a job waits or where it runs, who is ahead, when it starts, and what would start it sooner. Leaves the core as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fabric.job_form import JobView, job_json
from fabric.plane.ahead import ahead_rows, name_of
from fabric.plane.counterfactuals import EstimateOf, Expected, counterfactual_rows
from fabric.plane.event_text import event_rows
from fabric.plane.looking_back import MeasuredOf, never_measured, ways_then, with_measured
from fabric.plane.prospects import public, rehearsed, way_row
from fabric.plane.rehearsal import Rehearsal, Start
from fabric.plane.watching import key_of
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState


def explanation(
    core: Core,
    job: JobRecord,
    view_of: Callable[[JobRecord], JobView],
    story: Sequence[Mapping[str, Any]],
    twins: Collection[str],
    now_s: float,
    *,
    estimate_of: EstimateOf | None = None,
    measured_of: MeasuredOf = never_measured,
) -> dict[str, Any]:
    """The form of `fabric.job_answers.EXPLANATION_KEYS`. `view_of` shows a job as listings do; `story`: its facts, oldest first;
    `estimate_of` predicts a job that asks for something else; `measured_of` tells what jobs of its family took."""
    form: dict[str, Any] = {
        "job": job_json(view_of(job)),
        "ahead": [],
        "num_ahead": 0,
        "expected_start_s": None,
        "expected_start_low_s": None,
        "expected_start_high_s": None,
        "ways": [],
        "counterfactuals": [],
        "events": event_rows(story, lambda job_id: name_of(core, job_id)),
        "now_s": now_s,
    }
    if job.state is JobState.PENDING:
        form |= _waiting(core, job, view_of, twins, now_s, estimate_of)
    elif job.is_holding:
        form["ways"] = _held(core, job, twins, now_s)
    else:
        estimate = job.estimate if estimate_of is None else estimate_of(job.spec)
        form["ways"] = ways_then(core, job, form["job"]["flavor"], story, twins, estimate)
    form["ways"] = public(with_measured(form["ways"], job.spec, measured_of, core.book.policy.restart_s))
    return form


def _waiting(
    core: Core,
    job: JobRecord,
    view_of: Callable[[JobRecord], JobView],
    twins: Collection[str],
    now_s: float,
    estimate_of: EstimateOf | None,
) -> dict[str, Any]:
    rehearsal = Rehearsal(core, now_s)
    rows, first = rehearsed(rehearsal, rehearsal.watch(job.spec.job_id), twins)
    ahead, num_ahead = ahead_rows(core, job, view_of, now_s)
    counterfactuals = counterfactual_rows(core, job, _expected(rows, first), now_s, estimate_of)
    return {
        "ahead": ahead,
        "num_ahead": num_ahead,
        "expected_start_s": None if first is None else first.at_s,
        "expected_start_low_s": None if first is None else first.low_s,
        "expected_start_high_s": None if first is None else first.high_s,
        "ways": rows,
        "counterfactuals": counterfactuals,
    }


def _expected(rows: Sequence[Mapping[str, Any]], first: Start | None) -> Expected:
    row = next((row for row in rows if first is not None and row["key"] == key_of(first.option)), None)
    return Expected(None, None) if row is None else Expected(row["finish_s"], row["cost_usd"])


def _held(core: Core, job: JobRecord, twins: Collection[str], now_s: float) -> list[dict[str, Any]]:
    """Where it runs, with what is left of it there, and what the other ways would take if it began there now."""
    rehearsal = Rehearsal(core, now_s)
    copy, held = rehearsal.book.jobs[job.spec.job_id], job.grant.option if job.grant is not None else None
    rows: list[dict[str, Any]] = []
    for way in rehearsal.book.ways_of(copy):
        row = way_row(rehearsal, copy, way, twins)
        if held is not None and key_of(way) == key_of(held):
            left_s = copy.remaining_s(rehearsal.begin_s, rehearsal.book.policy.restart_s)
            usd_per_s = rehearsal.book.standing.usd_per_s(way)
            row |= {"run_s": left_s, "wait_s": 0.0, "finish_s": left_s, "verdict": "Fit", "reason": ""}
            row["cost_usd"] = left_s * usd_per_s if row["cost_usd"] is not None else None
            rows.insert(0, row)
        else:
            rows.append(row)
    return rows
