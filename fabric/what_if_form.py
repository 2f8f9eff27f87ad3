"""The JSON form of a what-if, and how it looks to people: the last jobs replayed under two policies. Pure.

    what-if  {id, state, progress, error, since_s, by, began_s, took_s, jobs, left_out, left_out_why: {reason: jobs}, recorded: {jct_h,
              makespan_s}, current: side, proposed: side}
    side     {jobs, jct_h, jct_p99_h, makespan_s, cost_usd, utilisation_frac, misses, restarts}

`state` is `running`, `done` or `failed`; `progress` goes from 0 to 1; `error` is `{code, message, hint}`. `jobs` were replayed on both
sides, `left_out` of those that were submitted in `since_s` were not. `recorded` is how it went. What is not known (yet) is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.show import duration, usd

SIDE_KEYS = ("jobs", "jct_h", "jct_p99_h", "makespan_s", "cost_usd", "utilisation_frac", "misses", "restarts")
WHAT_IF_KEYS = (
    "id", "state", "progress", "error", "since_s", "by", "began_s", "took_s", "jobs", "left_out", "left_out_why", "recorded", "current",
    "proposed",
)  # fmt: skip
WHY_LEFT_OUT = {
    "not_succeeded": "did not succeed, or not yet",
    "unknown_queue": "are of a queue that one of the policies does not have",
    "no_room": "would not fit on the nodes",
    "too_many": "came before the newest that are replayed",
}
LABELS = {
    "jct_h": "mean completion time",
    "jct_p99_h": "99th percentile",
    "makespan_s": "makespan",
    "cost_usd": "cost",
    "utilisation_frac": "utilisation",
    "misses": "deadlines missed",
    "restarts": "restarts",
}


def render_what_if(form: Mapping[str, Any]) -> str:
    return text_of(what_if_blocks(form))


def what_if_blocks(form: Mapping[str, Any]) -> list[Block]:
    """Both sides and the difference, and what was left out. Of one that is done."""
    sides = [form["current"], form["proposed"]]
    rows = [
        [label, *(_shown(name, side[name]) for side in sides), _change(*(side[name] for side in sides))] for name, label in LABELS.items()
    ]
    columns = ["figure", "in force", "proposed", "change"]
    told = f"{form['jobs']:,} jobs of {duration(form['since_s'])}, replayed under the policy in force and under the proposed one"
    blocks: list[Block] = [Lines([told]), Table(columns, rows, columns[1:], is_framed=True)]
    if form["recorded"] is not None:
        jct, makespan = (_shown(name, form["recorded"][name]) for name in ("jct_h", "makespan_s"))
        blocks.append(Lines([f"as it went: mean completion time {jct}, makespan {makespan}"]))
    if form["left_out"]:
        whys = (f"{num:,} {WHY_LEFT_OUT.get(why, why)}" for why, num in form["left_out_why"].items())
        blocks.append(Lines([f"left out {form['left_out']:,} job{'s' * (form['left_out'] != 1)}: {', '.join(whys)}"]))
    return blocks


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_h"):
        return duration(3600 * value)
    if name.endswith("_s"):
        return duration(value)
    if name.endswith("_usd"):
        return usd(value)
    return f"{100 * value:.1f} %" if name.endswith("_frac") else f"{value:,}"


def _change(before: float | None, after: float | None) -> str:
    """In percent of what it was."""
    if before is None or after is None:
        return "-"
    if before == after:
        return "="
    return f"{100 * (after / before - 1):+.1f} %" if before else f"+{after:g}"
