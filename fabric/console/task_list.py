"""Pure: tasks as a list, and windows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric.errors import UnknownNameError
from fabric.profiling.forecast import stored_runs
from fabric.types import name_of
from profiler.estimate import TaskProfile


@dataclass(frozen=True, slots=True)
class TaskRow:
    """`key`: name and hash of the code; two versions of a task are two rows. `flavors`: flavor -> (runs of any size, seconds of a run at
    the size that ran most often, None where it never ran at that there)."""

    task: str
    key: str
    domain: str
    phase: str
    runs: int
    flavors: Mapping[str, tuple[int, float | None]]

    @property
    def fastest_s(self) -> float:
        return min((run_s for _, run_s in self.flavors.values() if run_s is not None), default=float("inf"))

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "key": self.key,
            "domain": self.domain,
            "phase": self.phase,
            "runs": self.runs,
            "flavors": {flavor: {"runs": runs, "run_s": run_s} for flavor, (runs, run_s) in self.flavors.items()},
        }


_SORTS: Mapping[str, Callable[[TaskRow], Any]] = {
    "task": lambda row: row.key,
    "domain": lambda row: row.domain,
    "phase": lambda row: row.phase,
    "runs": lambda row: row.runs,
    "run_s": lambda row: row.fastest_s,
}


def task_rows(profiles: Iterable[TaskProfile]) -> list[TaskRow]:
    """What ran most often comes first."""
    rows = [_row(profile) for profile in profiles]
    rows.sort(key=lambda row: (-row.runs, row.key))
    return rows


def task_window(
    rows: Sequence[TaskRow], *, text: str, sort: str, descending: bool, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """The rows, and how many match. Raises: UnknownNameError (`unknown_sort`)."""
    if sort and sort not in _SORTS:
        raise UnknownNameError.of("sort", sort, _SORTS)
    word = text.lower()
    found = [row for row in rows if word in "\n".join((row.key, row.domain, row.phase, *row.flavors)).lower()]
    if sort:
        found.sort(key=_SORTS[sort], reverse=descending)
    elif descending:
        found.reverse()
    return [row.as_json() for row in found[offset : offset + limit]], len(found)


def _row(profile: TaskProfile) -> TaskRow:
    runs: dict[str, int] = {}
    for (_, _, flavor), seen in profile.measured.items():
        runs[flavor] = runs.get(flavor, 0) + seen.num_runs
    times = stored_runs(profile)
    flavors = {flavor: (num, times[flavor].run_s if flavor in times else None) for flavor, num in sorted(runs.items())}
    work = profile.fingerprint
    return TaskRow(name_of(profile.task), profile.task, work.domain, work.phase, sum(runs.values()), flavors)
