"""What the console knows of jobs: applies the journal's facts, decides nothing, and answers windows of it.

Invariants: `seq` is the number of the newest fact that is applied; a model that was restored equals one that followed along, but for
the words that say why a job waits, which are the scheduler's to tell.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fabric.console.job_row import STATES, JobRow
from fabric.console.job_table import JobTable
from fabric.console.job_window import JobOrder
from fabric.console.lease_book import LeaseBook
from fabric.console.timeline import Index
from fabric.journal import Entry
from fabric.types import Flavor

MOST_CHANGED = 200
"""More changed jobs than this are not named one by one."""
_log = logging.getLogger(__name__)
_TOLD = ("why", "detail", "done", "total", "unit", "remaining_s", "remaining_log_sd", "expected_start_s", "priority")


class ReadModel:
    """Jobs, leases and marks. Not for several threads: hold `Follower.lock`."""

    def __init__(self, catalogue: Mapping[str, Flavor]) -> None:
        self.catalogue = catalogue
        prices = {name: flavor.usd_per_h / flavor.units for name, flavor in catalogue.items() if flavor.usd_per_h is not None}
        self.table = JobTable(prices)
        self.book = LeaseBook()
        self.order = JobOrder(self.table)
        self.index = Index(self.book)
        self.seq = 0
        self.newest_s = 0.0
        self.summaries: dict[str, Mapping[str, Any]] = {}
        self._changed: set[int] = set()

    def apply(self, entry: Entry) -> None:
        """One fact. What is not about a job that is known, or cannot be read, changes nothing but `seq`."""
        try:
            number = self.table.apply(entry.kind, entry.body, entry.wall_s)
            if number is not None:
                self._changed.add(number)
                self.book.apply(entry.kind, entry.body, entry.wall_s, number)
        except (LookupError, TypeError, ValueError):
            # The page goes on with all that is about others; the scheduler says what is wrong with its journal.
            _log.exception("fact passed over seq=%d kind=%s", entry.seq, entry.kind)
        self.seq, self.newest_s = max(self.seq, entry.seq), max(self.newest_s, entry.wall_s)

    def hear(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """What only the scheduler knows of jobs, see `JobTable.hear`."""
        self.table.hear(listed)

    def changed(self) -> set[int]:
        """The numbers of the jobs that changed since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def unknown_summaries(self, numbers: Iterable[int]) -> list[str]:
        """The ids of jobs whose `{command, asks}` are still on disk."""
        return [row.id for row in map(self.table.rows.__getitem__, numbers) if row.id not in self.summaries]

    def view(self, number: int, twins: frozenset[str], now_s: float) -> dict[str, Any]:
        """A job in the form of `fabric.job_form.job_json`."""
        row, flavor = self.table.rows[number], self.catalogue.get(self.table.rows[number].flavor)
        summary = self.summaries.get(row.id, {})
        shown = _plain_view(row)
        shown |= {
            "asks": str(summary.get("asks", "")),
            "command": str(summary.get("command", "")),
            "tier": flavor.tier if flavor is not None else "",
            "twin": row.flavor in twins,
            "cost_usd": row.cost_usd(self.table.prices, now_s),
            "position": self.order.place(number),
        }
        told = self.table.told.get(number)
        if told is not None and told["state"] == shown["state"] and told["attempt"] == row.attempt:
            shown |= {key: told[key] for key in _TOLD}
        return shown


def _plain_view(row: JobRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "user": row.user,
        "queue": row.queue,
        "priority": row.priority,
        "form": row.form,
        "state": STATES[row.state],
        "submitted_s": row.submitted_s,
        "why": row.why,
        "detail": row.detail,
        "attempt": row.attempt,
        "flavor": row.flavor,
        "num_bundles": row.num_bundles,
        "units": row.units,
        "nodes": list(row.nodes),
        "started_s": row.started_s,
        "ended_s": row.ended_s,
        "deadline_s": row.deadline_s,
        "budget_usd": row.budget_usd,
        "done": None,
        "total": None,
        "unit": "",
        "remaining_s": None,
        "remaining_log_sd": None,
        "expected_start_s": None,
        "exit_code": row.exit_code,
        "after": list(row.after),
        "array_id": row.array_id,
        "family": row.family,
        "tags": dict(row.tags or {}),
    }
