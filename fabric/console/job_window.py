"""Pure: a window of the list of jobs, filtered and sorted over columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from fabric.console.job_row import ADMITTED, PENDING, PREEMPTING, STATES, SUCCEEDED, JobRow
from fabric.console.job_table import JobTable, Mask
from fabric.errors import UnknownNameError

Ints = npt.NDArray[np.int64]
SORTS = ("name", "user", "queue", "state", "submitted_s", "started_s", "ended_s", "flavor", "units", "attempt", "priority")


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must hold. `text` is looked for in name, user, queue, id and family, whatever its letters' size."""

    states: Collection[str] = ()
    queue: str | None = None
    user: str | None = None
    text: str = ""


def matching(table: JobTable, wanted: Filter, seen: Mask | None) -> Mask:
    """[jobs], leaving the states aside."""
    mask: Mask = np.ones(len(table.rows), bool) if seen is None else seen.copy()
    if wanted.queue:
        mask &= table.columns.view("queue") == table.queues.known(wanted.queue)
    if wanted.user:
        mask &= table.columns.view("user") == table.users.known(wanted.user)
    if wanted.text:
        mask &= holding_text(table, wanted.text)
    return mask


def holding_text(table: JobTable, text: str) -> Mask:
    text = text.lower()
    return np.fromiter((text in haystack for haystack in table.haystacks), bool, len(table.haystacks))


class JobOrder:
    """The default order of all jobs, kept until one changes: holders, then what waits by its place, then what ended, newest first."""

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._version = -1
        self._order: Ints = np.zeros(0, np.int64)
        self._places: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def order(self) -> Ints:
        if self._version != self._table.version:
            columns = self._table.columns
            state, place, ended_s = (columns.view(name) for name in ("state", "place", "ended_s"))
            part = np.where(state >= SUCCEEDED, 2, np.where(state == PENDING, 1, 0))
            within = np.where(part == 1, place, -ended_s)
            self._order = np.lexsort((columns.view("submitted_s"), within, part))
            waiting = self._order[part[self._order] == 1]
            self._places = np.zeros(len(state), np.int64)
            self._places[waiting] = np.arange(1, len(waiting) + 1)
            self._version = self._table.version
        return self._order

    def place(self, number: int) -> int | None:
        """From 1 among the jobs that wait; None: it does not wait."""
        self.order()
        return int(self._places[number]) or None

    def window(
        self, wanted: Filter, seen: Mask | None, sort: str, descending: bool, offset: int, limit: int
    ) -> tuple[list[int], int, dict[str, int]]:
        """(numbers of the jobs, how many match, jobs by state whatever state is asked for). Raises: UnknownNameError (`unknown_sort`)."""
        mask = matching(self._table, wanted, seen)
        states = self._table.counts(mask)
        if wanted.states:
            mask &= np.isin(self._table.columns.view("state"), [STATES.index(state) for state in wanted.states])
        order = self.order()
        found = order[mask[order]]
        if sort:
            found = self._sorted(found, sort, descending)
        elif descending:
            found = found[::-1]
        return found[offset : offset + limit].tolist(), len(found), states

    def _sorted(self, found: Ints, sort: str, descending: bool) -> Ints:
        if sort not in SORTS:
            raise UnknownNameError.of("sort", sort, SORTS)
        if sort in ("submitted_s", "ended_s"):
            values = self._table.columns.view(sort)[found]
            return found[np.argsort(-values if descending else values, kind="stable")]
        rows = self._table.rows
        key = _KEYS.get(sort) or attrgetter(sort)
        return np.array(sorted(found.tolist(), key=lambda number: key(rows[number]), reverse=descending), np.int64)


_KEYS: Mapping[str, Callable[[JobRow], Any]] = {
    "started_s": lambda row: row.started_s or 0.0,
    "state": lambda row: (not ADMITTED <= row.state <= PREEMPTING, row.state),
}
