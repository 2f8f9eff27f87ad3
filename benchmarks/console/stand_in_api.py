"""What stands for the fabric's API behind a console over a made-up fabric: jobs as the console knows them, and cancelling them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fabric.api.faults import error_json, status_of
from fabric.console.follower import Follower
from fabric.console.job_row import PENDING
from fabric.console.sources import HandedOn
from fabric.errors import FabricError, UnknownNameError, UserError
from fabric.job import JobId
from fabric.job_events import JobCancelRequested, JobClosed, JobEnded, JobFact

_EMPTY: Mapping[str, Any] = {
    "/v1/models": {"models": []},
    "/v1/rollouts": {"rollouts": []},
    "/v1/policy": {"version": 1, "document": {"spec": {}}, "by": "fabric", "applied_s": 0.0},
    "/v1/policy/history": {"versions": []},
}


class StandInApi:
    """`ApiSource` and `ApiDoor` in one. `write` puts facts into the journal. Set `follower` before anybody asks."""

    follower: Follower

    def __init__(self, write: Callable[..., None]) -> None:
        self._write: Callable[..., None] = write

    def open_jobs(self) -> list[Mapping[str, Any]]:
        follower, model = self.follower, self.follower.model
        with follower.lock:
            now_s, order = follower.now_s(), model.order.order().tolist()
            views = [model.view(number, frozenset(), now_s) for number in order if not model.table.rows[number].is_final]
        for view in views:
            if view["state"] == "PENDING":
                place = view["position"] or 0
                view |= {
                    "why": "Priority" if place > 1 else "Resources",
                    "detail": f"{place - 1} ahead",
                    "expected_start_s": now_s + 3.0 * place,
                }
            else:
                done = min(0.99, (now_s - (view["started_s"] or now_s)) / 7200.0)
                view |= {"done": done, "total": 1.0, "remaining_s": 7200.0 * (1.0 - done), "remaining_log_sd": 0.3}
        return views

    def models(self) -> Any:
        return None

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HandedOn:
        try:
            status, document = 200, self._answer(method, target.partition("?")[0])
        except FabricError as error:
            status, document = status_of(error), error_json(error)
        return HandedOn(status, {"content-type": "application/json"}, _once(json.dumps(document).encode()))

    def _answer(self, method: str, path: str) -> Any:
        parts = path.strip("/").split("/")
        if method == "GET" and path in _EMPTY:
            return _EMPTY[path]
        if parts[:2] != ["v1", "jobs"] or len(parts) not in (3, 4):
            raise UserError(f"the stand-in has no page {path}", code="no_such_page")
        number = self.follower.model.table.numbers.get(parts[2])
        if number is None:
            raise UnknownNameError(f"unknown job {parts[2]!r}", code="unknown_job")
        if parts[3:] == ["cancel"]:
            self._cancel(number)
            self.follower.follow()
        elif parts[3:] == ["story"]:
            return {"facts": [entry._asdict() for entry in self.follower.journal.story("jobs", parts[2])]}
        elif parts[3:]:
            raise UserError(f"the stand-in has no page {path}", code="no_such_page")
        with self.follower.lock:
            return self.follower.model.view(number, frozenset(), self.follower.now_s())

    def _cancel(self, number: int) -> None:
        row = self.follower.model.table.rows[number]
        if row.is_final:
            return
        job_id = JobId(row.id)
        facts: list[JobFact] = [JobCancelRequested(job_id, "ann")]
        facts.append(JobClosed(job_id, "CANCELLED", "Cancelled") if row.state == PENDING else JobEnded(job_id, row.attempt, "cancelled"))
        self._write(*facts)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
