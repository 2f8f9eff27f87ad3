"""The facts of a job's story as lines for people. Pure. A fact of an unknown kind is shown by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabric.job_form import WHY
from fabric.job_ids import short_id
from fabric.types import asleep_type

Body = Mapping[str, Any]
NameOf = Callable[[str], str]


def event_rows(story: Sequence[Mapping[str, Any]], name_of: NameOf = short_id) -> list[dict[str, Any]]:
    """`story`: as `JobPlanePort.story`. Answers the rows of `fabric.job_answers.EVENT_KEYS`; `name_of` says a job's name by its id."""
    kept = ("wall_s", "kind", "by")
    return [{**{key: each[key] for key in kept}, "text": _text(each["kind"], each["body"], name_of)} for each in story]


def _text(kind: str, body: Body, name_of: NameOf) -> str:
    if kind == "JobSubmitted":
        return _submitted(body, name_of)
    if kind == "JobPreempted":
        return _preempted(body, name_of)
    return _TEXTS[kind](body) if kind in _TEXTS else ""


def _submitted(body: Body, name_of: NameOf) -> str:
    spec = body.get("spec", {})
    after = ", ".join(name_of(other) for other in spec.get("after", ()))
    memory = f"; memory: {spec['memory_sum']}" if spec.get("memory_sum") else ""
    return f"submitted by {body.get('by', '')} to {spec.get('queue', '')}" + (f", after {after}" if after else "") + memory


def _preempted(body: Body, name_of: NameOf) -> str:
    what = f"attempt {body.get('attempt')} told to leave"
    if body.get("for_job"):
        return f"{what} for {name_of(body['for_job'])}"
    return f"{what}: {_PREEMPTED.get(body.get('reason', ''), body.get('reason', ''))}"


_PREEMPTED = {"Move": "a plan moves it", "Plan": "a plan gives its room to others"}


def _dispatched(body: Body) -> str:
    # A grant and its option are rows of fields or objects, by the release that wrote them.
    grant = body.get("grant", {})
    option, nodes = (grant.get("option"), grant.get("nodes", ())) if isinstance(grant, Mapping) else (None, ())
    where = ", ".join(dict.fromkeys(f"a new {kind}" if (kind := asleep_type(node)) else node for node in nodes))
    return f"attempt {body.get('attempt')} gets {_option(option)}{f' on {where}' if where else ''} ({body.get('reason', '')})"


def _option(option: Any) -> str:
    if isinstance(option, Mapping):
        flavor, num, units = option.get("flavor", ""), option.get("num_bundles", 1), option.get("units", 0.0)
    elif isinstance(option, Sequence) and len(option) >= 4:
        flavor, num, units = option[1:4]
    else:
        return "room"
    return f"{flavor}:{units / max(1, num):g}{f'x{num}' if num > 1 else ''}"


def _ended(body: Body) -> str:
    outcome, message, code = body.get("outcome", ""), body.get("message", ""), body.get("exit_code")
    said = message or (f"exit {code}" if code else "")
    return f"attempt {body.get('attempt')} {_OUTCOMES.get(outcome, outcome)}{f': {said}' if said else ''}"


_OUTCOMES = {
    "ok": "succeeded",
    "error": "failed",
    "oom": "ran out of memory",
    "timeout": "ran longer than it may",
    "lost": "was lost with its node",
    "cancelled": "was cancelled",
    "budget": "has spent its budget",
}


def _closed(body: Body) -> str:
    why = body.get("reason", "")
    return f"closed as {str(body.get('state', '')).lower()}: {body.get('detail') or WHY.get(why, why)}"


def _reprioritised(body: Body) -> str:
    to = f"set to {body['priority']}" if body.get("priority") else "left to the policy"
    return f"class {to} by {body.get('by', '')}"


_TEXTS: Mapping[str, Callable[[Body], str]] = {
    "JobDispatched": _dispatched,
    "JobStarted": lambda body: f"attempt {body.get('attempt')} runs",
    "LeaseRefused": lambda body: f"attempt {body.get('attempt')} got no lease: {body.get('why', '')}",
    "JobVacated": lambda body: f"attempt {body.get('attempt')} has left; what it had done until its last checkpoint is kept",
    "JobEnded": _ended,
    "JobCancelRequested": lambda body: f"cancelled by {body.get('by', '')}",
    "JobReprioritised": _reprioritised,
    "JobClosed": _closed,
}
