"""The policy in force and all before it, as their documents lie in the journal. A bad one leaves the old one in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fabric.errors import UnknownNameError
from fabric.job_events import PolicyApplied
from fabric.journal import Committer, Journal
from fabric.plane.driver import STREAM, Driver, WallClock
from fabric.plane.under_way import UnderWay
from fabric.policy_document import read_policy
from fabric.scheduler.core import Core

NONE = {"version": 0, "document": {}, "by": "fabric", "applied_s": None}
"""The row of a fabric to which nobody has applied one."""


class Policies:
    """For all threads; the rows are those of `fabric.api.port.JobPlanePort.policy_show`."""

    def __init__(self, core: Core, driver: Driver, journal: Journal, committer: Committer, clock: WallClock, under_way: UnderWay) -> None:
        self._core = core
        self._driver = driver
        self._journal = journal
        self._committer = committer
        self._clock = clock
        self._under_way = under_way

    def apply(self, document: str | Mapping[str, Any], by: str) -> int:
        with self._under_way():
            with self._driver.lock:
                version = self._core.book.policy.version + 1
                read_policy(document, catalogue=self._core.book.catalogue, version=version)
                kept = yaml.safe_load(document) if isinstance(document, str) else dict(document)
                fact = PolicyApplied(version, kept, by)
                self._committer.commit(STREAM, [fact], wall_s=self._clock.now_s())
            self._driver.tell_and_wait(fact, is_written=True)
        return version

    def history(self) -> Sequence[Mapping[str, Any]]:
        """Newest first."""
        entries = list(self._journal.entries(STREAM, kinds=("PolicyApplied",)))
        return [_row(entry.body, entry.wall_s) for entry in reversed(entries)] or [NONE]

    def rollback(self, version: int | None, by: str) -> int:
        history = self.history()
        wanted = history[0]["version"] - 1 if version is None else version
        found = next((row for row in history if row["version"] == wanted), None)
        if found is None or not found["document"]:
            hint = "known: " + ", ".join(str(row["version"]) for row in history)
            raise UnknownNameError(f"unknown policy version {wanted}", code="unknown_policy_version", hint=hint, name=str(wanted))
        return self.apply(found["document"], by)


def _row(body: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    return {"version": body["version"], "document": body["document"], "by": body["by"], "applied_s": wall_s}
