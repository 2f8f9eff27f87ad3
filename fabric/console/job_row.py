"""One job as the console keeps it, and how each fact of the journal changes it.

The moves are those of `fabric.scheduler.book`, as far as they follow from facts alone; a test holds both side by side. Facts are
taken as the journal has them (plain JSON), since a console that starts reads a day of them. Applying a fact again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fabric.job import JobId
from fabric.scheduler.book import MOST_LOST, MOST_OOMS
from fabric.scheduler.record import JobRecord

STATES = ("PENDING", "ADMITTED", "RUNNING", "PREEMPTING", "SUCCEEDED", "FAILED", "CANCELLED")
PENDING, ADMITTED, RUNNING, PREEMPTING, SUCCEEDED, FAILED, CANCELLED = range(7)
"""States by number: what comes before `SUCCEEDED` has not ended, `ADMITTED` to `PREEMPTING` hold a lease."""
HOUR_S = 3600.0
Body = Mapping[str, Any]


@dataclass(slots=True)
class JobRow:
    """Times are wall-clock seconds. `granted` are the nodes of the last grant, `nodes` those that its attempt is really on.
    `spent_usd` is of the attempts that are over. `usd_per_h` is the price of what it holds; None: not known."""

    id: JobId
    name: str
    user: str
    queue: str
    priority: str
    form: str
    submitted_s: float
    deadline_s: float | None = None
    budget_usd: float | None = None
    after: tuple[str, ...] = ()
    array_id: str | None = None
    family: str = ""
    tags: Mapping[str, str] | None = None
    max_retries: int = 0
    state: int = PENDING
    attempt: int = 0
    why: str = ""
    detail: str = ""
    flavor: str = ""
    num_bundles: int = 0
    units: float = 0.0
    granted: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    dispatched_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    exit_code: int | None = None
    num_failures: int = 0
    num_ooms: int = 0
    num_lost: int = 0
    cancel_requested: bool = False
    spent_usd: float = 0.0

    @property
    def is_holding(self) -> bool:
        return ADMITTED <= self.state <= PREEMPTING

    @property
    def is_final(self) -> bool:
        return self.state >= SUCCEEDED

    def cost_usd(self, prices: Mapping[str, float], now_s: float) -> float | None:
        """Of all attempts until now; None where the flavor has no price. `prices`: flavor -> dollars per unit and hour."""
        if self.flavor not in prices:
            return None
        return self.spent_usd + (self._held_usd(prices, now_s) if self.is_holding else 0.0)

    def apply(self, kind: str, body: Body, at_s: float, prices: Mapping[str, float]) -> None:
        """A fact about this job that happened at `at_s`. One of a kind that is not known here changes nothing."""
        if kind == "JobDispatched":
            self._dispatched(body, at_s)
        elif kind == "JobCancelRequested":
            self.cancel_requested = self.cancel_requested or not self.is_final
        elif kind == "JobReprioritised":
            self.priority = self.priority if self.is_final else body["priority"]
        elif kind == "JobClosed":
            if not self.is_final:
                self._finish(STATES.index(body["state"]), body["reason"], body.get("detail", ""), at_s)
        elif handler := _OF_ATTEMPTS.get(kind):
            handler(self, body, at_s, prices)

    # ---- of attempts

    def _dispatched(self, body: Body, at_s: float) -> None:
        if body["attempt"] <= self.attempt:
            return
        grant = body["grant"]
        _, self.flavor, self.num_bundles, self.units, _ = grant["option"]
        self.state, self.attempt, self.dispatched_s, self.why, self.detail = ADMITTED, body["attempt"], at_s, "", ""
        self.granted = self.nodes = tuple(grant["nodes"])

    def _started(self, body: Body, at_s: float, _prices: Mapping[str, float]) -> None:
        self.started_s = at_s
        if self._is_current(body) and self.state == ADMITTED:
            self.state = RUNNING
            self.nodes = tuple(body.get("nodes", ())) or self.nodes

    def _refused(self, body: Body, at_s: float, prices: Mapping[str, float]) -> None:
        if self._is_current(body) and self.is_holding:
            self._release(at_s, prices)
            self.num_lost += 1
            self._retry("Resources", body["why"], at_s)

    def _preempted(self, body: Body, _at_s: float, _prices: Mapping[str, float]) -> None:
        if self._is_current(body) and self.state in (ADMITTED, RUNNING):
            self.state = PREEMPTING

    def _vacated(self, body: Body, at_s: float, prices: Mapping[str, float]) -> None:
        if self._is_current(body) and self.is_holding:
            self._release(at_s, prices)
            self._retry("Priority", "preempted", at_s)

    def _ended(self, body: Body, at_s: float, prices: Mapping[str, float]) -> None:
        self.exit_code = body.get("exit_code")
        if not (self._is_current(body) and self.is_holding):
            return
        self._release(at_s, prices)
        outcome, message = body["outcome"], body.get("message", "")
        if outcome == "ok":
            self._finish(SUCCEEDED, "", message, at_s)
        elif outcome == "cancelled" or self.cancel_requested:
            self._finish(CANCELLED, "Cancelled", message, at_s)
        elif outcome in ("budget", "timeout"):
            self._finish(FAILED, "BudgetExceeded" if outcome == "budget" else "Timeout", message, at_s)
        elif outcome == "oom":
            self.num_ooms += 1
            self._retry_or_fail(self.num_ooms <= max(MOST_OOMS, self.max_retries), "OutOfMemory", message, at_s)
        elif outcome == "lost":
            self.num_lost += 1
            self._retry_or_fail(self.num_lost <= MOST_LOST + self.max_retries, "NodeLost", message, at_s)
        else:
            self.num_failures += 1
            self._retry_or_fail(self.num_failures <= self.max_retries, "Error", message, at_s)

    # ---- what they have in common

    def _is_current(self, body: Body) -> bool:
        return bool(body["attempt"] == self.attempt)

    def _held_usd(self, prices: Mapping[str, float], now_s: float) -> float:
        return self.units * prices.get(self.flavor, 0.0) / HOUR_S * max(0.0, now_s - self.dispatched_s)

    def _release(self, at_s: float, prices: Mapping[str, float]) -> None:
        self.spent_usd += self._held_usd(prices, at_s)
        self.nodes = self.granted

    def _retry_or_fail(self, has_tries: bool, why: str, message: str, at_s: float) -> None:
        if has_tries:
            self._retry("BackOff", f"{why}: {message}" if message else why, at_s)
        else:
            self._finish(FAILED, why, message, at_s)

    def _retry(self, why: str, detail: str, at_s: float) -> None:
        if self.cancel_requested:
            self._finish(CANCELLED, "Cancelled", detail, at_s)
        else:
            self.state, self.why, self.detail = PENDING, why, detail

    def _finish(self, state: int, why: str, detail: str, at_s: float) -> None:
        self.state, self.why, self.detail, self.ended_s = state, why, detail, at_s


_OF_ATTEMPTS: Mapping[str, Callable[[JobRow, Body, float, Mapping[str, float]], None]] = {
    "JobStarted": JobRow._started,
    "LeaseRefused": JobRow._refused,
    "JobPreempted": JobRow._preempted,
    "JobVacated": JobRow._vacated,
    "JobEnded": JobRow._ended,
}


def submitted_row(spec: Body) -> JobRow:
    """A new job, of the spec in the fact `JobSubmitted`."""
    return JobRow(
        id=JobId(spec["job_id"]),
        name=spec["name"],
        user=spec["user"],
        queue=spec["queue"],
        priority=spec.get("priority", ""),
        form=spec.get("form", "program"),
        submitted_s=spec["submitted_s"],
        deadline_s=spec.get("deadline_s"),
        budget_usd=spec.get("budget_usd"),
        after=tuple(spec.get("after", ())),
        array_id=spec.get("array_id"),
        family=spec.get("family", ""),
        tags=spec.get("tags") or {},
        max_retries=spec.get("max_retries", 0),
    )


def restored_row(record: JobRecord, shown: Any) -> JobRow:
    """A job of the scheduler's snapshot. `shown`: `fabric.plane.restore.Shown`, None where nothing was kept beside it."""
    spec, option = record.spec, record.grant.option if record.grant is not None else getattr(shown, "option", None)
    row = JobRow(
        spec.job_id, spec.name, spec.user, spec.queue, spec.priority, spec.form, spec.submitted_s, spec.deadline_s, spec.budget_usd,
        spec.after, spec.array_id, spec.family, spec.tags, spec.max_retries,
    )  # fmt: skip
    row.state, row.attempt, row.why, row.detail = STATES.index(record.state.value), record.attempt, record.why, record.detail
    row.dispatched_s, row.ended_s = record.dispatched_s, record.ended_s if record.state.is_final else None
    row.num_failures, row.num_ooms, row.num_lost = record.num_failures, record.num_ooms, record.num_lost
    row.cancel_requested, row.spent_usd = record.cancel_requested, record.spent_usd
    if option is not None:
        row.flavor, row.num_bundles, row.units = option.flavor, option.num_bundles, option.units
    if shown is not None:
        row.granted = row.nodes = shown.nodes
        row.started_s, row.exit_code = shown.started_s, shown.exit_code
    if record.grant is not None:
        row.nodes = record.grant.nodes
    return row
