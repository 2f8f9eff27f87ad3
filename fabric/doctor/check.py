"""One finding of the doctor, and how findings look.

    {checks: [{where, name, state, detail, cure}], ok, warn, fail}

`state` is `ok`, `warn` (works, but not as well as it could) or `fail` (will not work). What is not ok names its cure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

GOOD_SKEW_S, WORST_SKEW_S = 1.0, 5.0
LEAST_DISK_BYTES = 2**30
LEAST_FILES, GOOD_FILES = 512, 4096
"""A raylet holds some 30 files for each worker; macOS starts with 256, Linux with 1024 (own estimates)."""
State = Literal["ok", "warn", "fail"]
STATES: tuple[State, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Check:
    """`where`: `machine` or `cluster`."""

    where: str
    name: str
    state: State
    detail: str
    cure: str = ""


def skew_s(asked_s: float, there_s: float, heard_s: float) -> float:
    """How far a clock that showed `there_s` at some moment between `asked_s` and `heard_s` is off at the least."""
    return max(0.0, asked_s - there_s, there_s - heard_s)


def report_json(checks: Sequence[Check]) -> dict[str, Any]:
    counts: dict[str, int] = {state: sum(check.state == state for check in checks) for state in STATES}
    return {"checks": [asdict(check) for check in checks], **counts}


def format_checks(checks: Sequence[Check]) -> str:
    """A line for each check, its cure below it, and the count."""
    width = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    where = ""
    for check in checks:
        if check.where != where:
            lines += [*([""] if lines else []), check.where]
            where = check.where
        lines.append(f"  {check.state:<4}  {check.name:<{width}}  {check.detail}")
        if check.cure:
            lines.append(f"        {'':<{width}}  cure: {check.cure}")
    counts = report_json(checks)
    return "\n".join([*lines, "", f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failing"])
