"""Decides which calls of a machine have to end: those that hold more memory than they asked for, or run past their time. Pure.

A call is told first, at every look, so that it can end with an error of its own and its worker goes on; one that is still over after
`GRACE_S` (it sits in native code, or took no notice) is killed with its worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

GRACE_S = {"oom": 0.5, "timeout": 2.0}


@dataclass(frozen=True, slots=True)
class Seen:
    """One running call at one look. `cap_bytes`, `deadline_s`: 0 where there is none."""

    pid: int
    number: int
    cap_bytes: int
    used_bytes: int
    deadline_s: float


class End(NamedTuple):
    """A call that has to end, and why."""

    pid: int
    number: int
    outcome: Literal["oom", "timeout"]
    used_bytes: int
    is_kill: bool


class Caps:
    """Remembers whom it told, and when."""

    def __init__(self) -> None:
        self._told_s: dict[tuple[int, int], float] = {}

    def look(self, now_s: float, calls: Iterable[Seen]) -> list[End]:
        ends, told = [], self._told_s
        self._told_s = {}
        for call in calls:
            outcome = _over(now_s, call)
            if outcome is None:
                continue
            key = (call.pid, call.number)
            first_s = self._told_s[key] = told.get(key, now_s)
            ends.append(End(*key, outcome, call.used_bytes, now_s - first_s >= GRACE_S[outcome]))
        return ends


def _over(now_s: float, call: Seen) -> Literal["oom", "timeout"] | None:
    if call.cap_bytes and call.used_bytes > call.cap_bytes:
        return "oom"
    return "timeout" if call.deadline_s and now_s > call.deadline_s else None
