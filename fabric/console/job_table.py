"""All jobs, as rows and, for filtering and sorting ten thousand of them at once, as columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fabric.console.grown import Grown, Words
from fabric.console.job_row import STATES, JobRow, submitted_row

NO_PLACE = 2**31 - 1
"""The place of a job that waits and of which nobody has said when it is its turn."""
Mask = npt.NDArray[np.bool_]


class JobTable:
    """`rows[n]` is job number n; numbers are never given twice. `version` grows with every change. `prices`: flavor -> dollars per unit
    and hour."""

    def __init__(self, prices: Mapping[str, float]) -> None:
        self.prices = prices
        self.rows: list[JobRow] = []
        self.numbers: dict[str, int] = {}
        self.users, self.queues = Words(), Words()
        self.columns = Grown(state="i1", user="i4", queue="i4", submitted_s="f8", ended_s="f8", place="i4")
        self.haystacks: list[str] = []
        self.told: dict[int, Mapping[str, Any]] = {}
        self.version = 0

    def take(self, row: JobRow) -> int:
        """A job that is not known yet; its number."""
        number = self.numbers[row.id] = len(self.rows)
        self.rows.append(row)
        self.haystacks.append("\n".join((row.name, row.user, row.queue, row.id, row.family)).lower())
        user, queue = self.users.number(row.user), self.queues.number(row.queue)
        self.columns.add(state=row.state, user=user, queue=queue, submitted_s=row.submitted_s, ended_s=row.ended_s or 0.0, place=NO_PLACE)
        self.version += 1
        return number

    def apply(self, kind: str, body: Mapping[str, Any], at_s: float) -> int | None:
        """One fact of the journal; the number of the job that it is about, if it is about one that is known."""
        if kind == "JobSubmitted":
            spec = body["spec"]
            found = self.numbers.get(spec["job_id"])
            return self.take(submitted_row(spec)) if found is None else found
        number = self.numbers.get(body.get("job_id", ""))
        if number is None:
            return None
        row = self.rows[number]
        row.apply(kind, body, at_s, self.prices)
        if kind == "JobReprioritised":
            self.told.pop(number, None)  # it was told under the other priority
        self.columns.set(number, state=row.state, ended_s=row.ended_s or 0.0)
        self.version += 1
        return number

    def hear(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """What the API's listing tells of jobs that have not ended, in their order: reasons, places, expected starts."""
        self.columns.view("place")[:] = NO_PLACE
        told: dict[int, Mapping[str, Any]] = {}
        for view in listed:
            number = self.numbers.get(view["id"])
            if number is None:
                continue
            told[number] = view
            if view["position"] is not None:
                self.columns.set(number, place=view["position"])
        self.told = told
        self.version += 1

    def counts(self, mask: Mask | None = None) -> dict[str, int]:
        """Jobs by state; states that no job is in are left out."""
        states = self.columns.view("state")
        found = np.bincount(states if mask is None else states[mask], minlength=len(STATES))
        return {name: int(count) for name, count in zip(STATES, found, strict=True) if count}
