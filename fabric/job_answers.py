"""The JSON forms of a plan and of a job's explanation, and how they look to people. Pure.

    plan         {job: {name, user, queue, asks}, ways: [way], chosen, reason, detail, now_s}
    way          {flavor, tier, twin, num_bundles, units, wait_s, run_s, run_log_sd, finish_s, cost_usd, verdict, reason, detail}
    explanation  {job, ahead: [{id, name, user, queue, asks, state, remaining_s}], num_ahead, expected_start_s,
                  expected_start_low_s, expected_start_high_s, ways: [way], counterfactuals: [counterfactual], events: [event], now_s}
    counterfactual  {change, start_s, finish_delta_s, cost_delta_usd}
    event        {wall_s, kind, by, text}

A way of an explanation has `measured: {runs, run_s, run_log_sd}` too, what jobs of the same family took there, or null; of a job that has
ended `run_s` is what was predicted when its first attempt was given its way, and of other ways what is predicted now.

`chosen` is the number of a way, from 0, or null. `wait_s`, `finish_s` and a counterfactual's `start_s` count from now; expected starts and
`wall_s` are wall-clock seconds. `verdict` is `Fit`, `Preempt` or `NoFit`, `reason` its code. A counterfactual's `change` ends the
sentence "starts … " (`on tier=warm`, `if it asks for ≤ 20 GB`); its deltas are against now. What is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.fitted import elided
from fabric.job_form import WHY, ago, brief, clock, job_lines
from fabric.show import duration, percent_band, usd

PLAN_KEYS = frozenset({"job", "ways", "chosen", "reason", "detail", "now_s"})
_FIGURES = {"wait_s", "run_s", "run_log_sd", "finish_s", "cost_usd"}
WAY_KEYS = frozenset({"flavor", "tier", "twin", "num_bundles", "units", "verdict", "reason", "detail"} | _FIGURES)
_EXPECTED = {"expected_start_s", "expected_start_low_s", "expected_start_high_s"}
EXPLAINED_WAY_KEYS = WAY_KEYS | {"measured"}
EXPLANATION_KEYS = frozenset({"job", "ahead", "num_ahead", "ways", "counterfactuals", "events", "now_s"} | _EXPECTED)
AHEAD_KEYS = frozenset({"id", "name", "user", "queue", "asks", "state", "remaining_s"})
COUNTERFACTUAL_KEYS = frozenset({"change", "start_s", "finish_delta_s", "cost_delta_usd"})
EVENT_KEYS = frozenset({"wall_s", "kind", "by", "text"})
SHOWN_AHEAD = 5
SOON_S = 1.0
MINUS = "−"


def render_plan(form: Mapping[str, Any]) -> str:
    return text_of(plan_blocks(form))


def plan_blocks(form: Mapping[str, Any]) -> list[Block]:
    """A row for each way, the chosen one marked, and why it is."""
    job, chosen = form["job"], form["chosen"]
    asks = f"{job['name']} for {job['user']} in {job['queue']}, asks for {job['asks'] or 'CPUs'}"
    if chosen is None:
        end = f"cannot start: {_reason(form)}"
    else:
        way = form["ways"][chosen]
        start = "starts now" if (way["wait_s"] or 0.0) < SOON_S else f"starts in {duration(way['wait_s'])}"
        end = f"chosen: {_on(way)}, {start}, {usd(way['cost_usd'])}: {_reason(form)}"
    return [Lines([asks]), _ways(form["ways"], chosen), Lines([end])]


def render_job_explanation(form: Mapping[str, Any]) -> str:
    return text_of(job_explanation_blocks(form))


def job_explanation_blocks(form: Mapping[str, Any]) -> list[Block]:
    """Why a job waits or where it runs, who is ahead, when it starts, what would start it sooner, and how it came there."""
    job, now_s = form["job"], form["now_s"]
    blocks: list[Block] = [Lines(job_lines(job, now_s))]
    if job["state"] == "PENDING":
        blocks += [_ahead(form), Lines([_start(form)]), Lines(_counterfactuals(form["counterfactuals"]))]
    if form["ways"]:
        held = next((i for i, way in enumerate(form["ways"]) if job["flavor"] and way["flavor"] == job["flavor"]), None)
        blocks.append(_ways(form["ways"], held, mark="here" if job["state"] in ("ADMITTED", "RUNNING", "PREEMPTING") else "last"))
    blocks.append(Lines(_events(form["events"], now_s)))
    return [block for block in blocks if not (isinstance(block, Lines) and not block.lines)]


def _ways(ways: Sequence[Mapping[str, Any]], chosen: int | None, *, mark: str = "chosen") -> Table:
    rows = [_way(way, mark if i == chosen else "") for i, way in enumerate(ways)]
    columns = ["tier", "flavor", "wait", "run", "±", "finish", "cost", "note"]
    return Table(columns, rows, ("wait", "run", "±", "finish", "cost"), {"tier": 8, "flavor": 26}, marked=chosen)


def _way(way: Mapping[str, Any], mark: str) -> list[str]:
    verdict = "" if way["verdict"] == "Fit" else way["verdict"]
    why = way["reason"] if verdict == "NoFit" or way["detail"] else ""
    said = ": ".join(part for part in (" ".join(part for part in (verdict, why) if part), way["detail"]) if part)
    note = ", ".join(part for part in (mark, said) if part)
    if way["verdict"] == "NoFit" and way["finish_s"] is None:
        return [way["tier"], _on(way), "-", "-", "-", "-", "-", note]
    band = "-" if way["run_log_sd"] is None else percent_band(way["run_log_sd"])
    wait = "now" if way["wait_s"] is not None and way["wait_s"] < SOON_S else duration(way["wait_s"])
    return [way["tier"], _on(way), wait, duration(way["run_s"]), band, duration(way["finish_s"]), usd(way["cost_usd"]), note]


def _on(way: Mapping[str, Any]) -> str:
    times = f"x{way['num_bundles']}" if way["num_bundles"] > 1 else ""
    twin = " twin" if way["twin"] else ""
    return f"{way['flavor']}:{way['units'] / max(1, way['num_bundles']):g}{times}{twin}"


def _reason(form: Mapping[str, Any]) -> str:
    words = form["detail"] or WHY.get(form["reason"], "")
    return f"{form['reason']}{f' ({words})' if words else ''}"


def _ahead(form: Mapping[str, Any]) -> Block:
    ahead, total = form["ahead"], form["num_ahead"]
    if not total:
        return Lines(["no job is ahead of it"])
    rows = [
        [each["name"], each["user"], each["queue"], each["asks"] or "cpu", each["state"], brief(each["remaining_s"])]
        for each in ahead[:SHOWN_AHEAD]
    ]
    columns = ["ahead of it", "user", "queue", "asks", "state", "left"]
    most = {"ahead of it": 28, "user": 14, "queue": 14, "asks": 18, "state": 10, "left": 6}
    return Table(columns, rows, ["left"], most, after=f"… and {total - len(rows)} more" if total > len(rows) else "")


def _start(form: Mapping[str, Any]) -> str:
    start_s, now_s = form["expected_start_s"], form["now_s"]
    if start_s is None:
        return "expected start: not known"
    low_s, high_s = form["expected_start_low_s"], form["expected_start_high_s"]
    band = "" if low_s is None or high_s is None else f", between {brief(low_s - now_s)} and {brief(high_s - now_s)} from now"
    return f"expected start: {ago(start_s, now_s) if start_s > now_s else 'now'} ({clock(start_s)}{band})"


def _counterfactuals(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for each in found:
        start_s = each["start_s"]
        start = "starts now" if start_s is None or start_s < SOON_S else f"starts in {duration(start_s)}"
        deltas = []
        if each["finish_delta_s"] is not None:
            deltas.append(f"{_signed(each['finish_delta_s'])}{duration(abs(each['finish_delta_s']))}")
        if each["cost_delta_usd"] is not None:
            deltas.append(f"{_signed(each['cost_delta_usd'])}{usd(abs(each['cost_delta_usd']))}")
        lines.append(f"{start} {each['change']}{': ' + ', '.join(deltas) if deltas else ''}")
    return lines


def _signed(value: float) -> str:
    return MINUS if value < 0 else "+"


def _events(events: Sequence[Mapping[str, Any]], now_s: float) -> list[str]:
    return [f"{brief(now_s - event['wall_s']):>6} ago  {elided(event['text'] or event['kind'], 84)}" for event in events]
