"""The one JSON form of a job and of a listing of jobs, and how both look to people. Pure.

The keys of a job are the fields of `JobView`, with `is_twin` as `twin`; `state` is a word, a figure that is not known is null, and
times are wall-clock seconds since the epoch. Lengths of time end in `_s`, too. API, Python client and command line show nothing
else. Plans, usage and explanations are in `fabric.job_answers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.fitted import elided
from fabric.job import Form, JobId
from fabric.job_ids import short_id
from fabric.show import duration, usd
from fabric.states import JobState

WHY = {
    "Resources": "nothing that may run it has room",
    "Priority": "others go first",
    "QuotaExhausted": "its queue holds all that it may",
    "UserLimit": "its user holds all that one user may",
    "Dependency": "a job that it comes after has not succeeded yet",
    "DependencyFailed": "a job that it comes after did not succeed",
    "BudgetExceeded": "its budget does not cover another attempt",
    "BadConstraints": "nothing in this fabric can run it",
    "BackOff": "waits before it is tried again",
    "Planning": "a better plan is being made",
    "Reserved": "what is free is kept for a job before it",
    "Waking": "its nodes are being started",
    "Timeout": "an attempt ran longer than it may",
    "OutOfMemory": "it ran out of memory, with more of it too",
    "NodeLost": "its nodes were lost too often",
    "Error": "its program failed",
    "Cancelled": "it was cancelled",
}
"""What a reason code says, for people. A code that is not here is shown alone."""


@dataclass(frozen=True, slots=True)
class JobView:
    """Everything that a listing shows of a job, at one moment.

    `why` is a reason code, `detail` its figures in a few words. `asks` is what it may run on, as written (`A100:4 or V100:8`);
    `flavor`, `num_bundles`, `units` (accelerators, or vCPUs) and `nodes` what its attempt holds, or held last. `done` and `total`
    are work in `unit`s over all attempts; `remaining_s` has a doubt of `remaining_log_sd` (standard deviation of its
    logarithm). `position` counts from 1 among the jobs that wait. `cost_usd` is of all attempts until now.
    """

    id: JobId
    name: str
    user: str
    queue: str
    priority: str
    form: Form
    state: JobState
    submitted_s: float
    why: str = ""
    detail: str = ""
    asks: str = ""
    command: str = ""
    attempt: int = 0
    flavor: str = ""
    tier: str = ""
    is_twin: bool = False
    num_bundles: int = 0
    units: float = 0.0
    nodes: tuple[str, ...] = ()
    started_s: float | None = None
    ended_s: float | None = None
    deadline_s: float | None = None
    budget_usd: float | None = None
    done: float | None = None
    total: float | None = None
    unit: str = ""
    remaining_s: float | None = None
    remaining_log_sd: float | None = None
    cost_usd: float | None = None
    position: int | None = None
    expected_start_s: float | None = None
    exit_code: int | None = None
    after: tuple[JobId, ...] = ()
    array_id: JobId | None = None
    family: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


_KEYS = {name: "twin" if name == "is_twin" else name for name in (each.name for each in dataclasses.fields(JobView))}
JOB_KEYS = tuple(_KEYS.values())
LISTING_KEYS = ("jobs", "states", "now_s")


def job_json(view: JobView) -> dict[str, Any]:
    """One job's part of the form."""
    found = {key: plain(getattr(view, name)) for name, key in _KEYS.items()}
    found["state"] = view.state.value
    return found


def listing_json(views: Iterable[JobView], now_s: float) -> dict[str, Any]:
    """`{jobs, states, now_s}`; `states` counts the jobs that are listed by state."""
    jobs = [job_json(view) for view in views]
    return {"jobs": jobs, "states": dict(sorted(Counter(job["state"] for job in jobs).items())), "now_s": now_s}


def plain(value: Any) -> Any:
    """Tuples as lists, and no infinities: JSON has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


# -- for people ------------------------------------------------------------------------------------------------------------


def format_listing(document: Mapping[str, Any], *, hide: Sequence[str] = ()) -> str:
    return text_of(listing_blocks(document, hide=hide))


def listing_blocks(document: Mapping[str, Any], *, hide: Sequence[str] = ()) -> list[Block]:
    """The form as a table; `hide` names columns that are the same in every row."""
    now_s, jobs = document["now_s"], document["jobs"]
    if not jobs:
        return [Lines(["no jobs"])]
    columns = [column for column in ("id", "job", "user", "queue", "state", "on", "age", "note") if column not in hide]
    rows = [{column: cell(job, now_s) for column, cell in _CELLS.items()} for job in jobs]
    counts = ", ".join(f"{count} {state.lower()}" for state, count in document["states"].items())
    told = Lines([f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {counts}"])
    return [Table(columns, [[row[column] for column in columns] for row in rows], ("age",), _MOST), told]


def format_job(job: Mapping[str, Any], now_s: float) -> str:
    return text_of([Lines(job_lines(job, now_s))])


def job_lines(job: Mapping[str, Any], now_s: float) -> list[str]:
    """One job, a line for each thing that is known of it."""
    ran = _ran_s(job, now_s)
    lines = [
        f"{job['name']} ({job['id']}): {job['state']}{_because(job)}",
        f"user {job['user']}, queue {job['queue']}, class {job['priority'] or '-'}; submitted {ago(job['submitted_s'], now_s)}",
        f"asks for {job['asks'] or 'CPUs'}{_limits(job, now_s)}",
    ]
    if job["command"]:
        lines.append(f"runs {elided(job['command'], 88)}")
    if job["flavor"]:
        twin = " (twin)" if job["twin"] else ""
        lines.append(f"attempt {job['attempt']} on {_place(job)}{twin}, ran {duration(ran)}, cost {usd(job['cost_usd'])}")
    elif ran is not None:
        lines.append(f"ran {duration(ran)}, cost {usd(job['cost_usd'])}")
    if progress := _progress(job):
        lines.append(f"progress {progress}{_left(job)}")
    if job["state"] == "PENDING" and job["expected_start_s"] is not None:
        lines.append(f"expected to start in {duration(max(0.0, job['expected_start_s'] - now_s))}")
    return lines


def ago(then_s: float | None, now_s: float) -> str:
    """`5 m 3 s ago`, or how far it is: `in 2 h 4 m`; `now` within a second."""
    if then_s is None:
        return "-"
    if abs(now_s - then_s) < 1.0:
        return "now"
    return f"{duration(now_s - then_s)} ago" if then_s <= now_s else f"in {duration(then_s - now_s)}"


def brief(seconds: float | None) -> str:
    """A length of time for a narrow column: `12s`, `5m`, `2h04m`, `3d4h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def _place(job: Mapping[str, Any]) -> str:
    units = job["units"] / max(1, job["num_bundles"])
    times = f"x{job['num_bundles']}" if job["num_bundles"] > 1 else ""
    return f"{job['flavor']}:{units:g}{times}"


def _note(job: Mapping[str, Any], now_s: float) -> str:
    state = job["state"]
    if state == "PENDING":
        place = f" #{job['position']}" if job["position"] is not None else ""
        start_s = job["expected_start_s"]
        when = f", starts in {brief(start_s - now_s)}" if start_s is not None else ""
        return f"{job['why'] or 'Queued'}{place}{when}"
    if state in ("ADMITTED", "RUNNING", "PREEMPTING"):
        return ", ".join(part for part in (_progress(job), _left(job).removeprefix(", ")) if part) or (job["why"] or "-")
    if state == "SUCCEEDED":
        return f"took {brief(_ran_s(job, now_s))}"
    code = f"exit {job['exit_code']}" if job["exit_code"] is not None else ""
    return ": ".join(part for part in (job["why"], job["detail"] or code) if part) or "-"


def _progress(job: Mapping[str, Any]) -> str:
    done, total, unit = job["done"], job["total"], job["unit"]
    if done is None:
        return ""
    if total:
        return f"{100 * min(1.0, done / total):.0f} %"
    return f"{done:g} {unit or 'steps'}" if done else ""


def _left(job: Mapping[str, Any]) -> str:
    return f", {brief(job['remaining_s'])} left" if job["remaining_s"] is not None and job["state"] == "RUNNING" else ""


def _limits(job: Mapping[str, Any], now_s: float) -> str:
    limits = [f"deadline {ago(job['deadline_s'], now_s)}"] if job["deadline_s"] is not None else []
    limits += [f"budget {usd(job['budget_usd'])}"] if job["budget_usd"] is not None else []
    limits += [f"after {', '.join(short_id(each) for each in job['after'])}"] if job["after"] else []
    return "".join(f"; {limit}" for limit in limits)


def _because(job: Mapping[str, Any]) -> str:
    if not job["why"]:
        return ""
    words = f" ({WHY[job['why']]})" if job["why"] in WHY else ""
    return f", {job['why']}{words}{': ' + elided(job['detail'], 300) if job['detail'] else ''}"


def _ran_s(job: Mapping[str, Any], now_s: float) -> float | None:
    return None if job["started_s"] is None else (job["ended_s"] or now_s) - job["started_s"]


def clock(wall_s: float) -> str:
    """A moment, in this machine's time zone: `2026-11-24 03:20:11`."""
    return datetime.fromtimestamp(wall_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


_MOST = {"id": 8, "job": 22, "user": 10, "queue": 12, "state": 10, "on": 16, "age": 6}
_CELLS = {
    "id": lambda job, _: short_id(job["id"]),
    "job": lambda job, _: job["name"],
    "user": lambda job, _: job["user"],
    "queue": lambda job, _: job["queue"],
    "state": lambda job, _: job["state"],
    "on": lambda job, _: _place(job) if job["flavor"] else job["asks"] or "cpu",
    "age": lambda job, now_s: brief(now_s - job["submitted_s"]),
    "note": _note,
}
