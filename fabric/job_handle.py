"""A submitted job in its user's hands: its state, output and result, over the fabric's API."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from fabric.api_client import ApiClient, default_client, job_path
from fabric.blocks import Block, Lines, text_of
from fabric.efficiency_form import job_efficiency_blocks
from fabric.errors import FabricError, RejectedError, RuntimeFault
from fabric.job import JobId
from fabric.job_answers import job_explanation_blocks
from fabric.job_form import format_job, job_lines, listing_blocks
from fabric.job_ids import short_id
from fabric.notebook import answer_html, text_html
from fabric.states import JobState

WAIT_S = 25.0
MOST_SHOWN = 100
"""Jobs of an array, in a notebook."""


class Answer:
    """A form that prints as people read it, and shows itself in a notebook; `as_json` has the same under stable keys."""

    def __init__(self, form: Mapping[str, Any], blocks_of: Callable[[Mapping[str, Any]], list[Block]]) -> None:
        self._form, self._blocks_of = form, blocks_of

    def as_json(self) -> Mapping[str, Any]:
        return self._form

    def __str__(self) -> str:
        return text_of(self._blocks_of(self._form))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return answer_html(self._blocks_of(self._form), self._form)


class Job:
    """One submitted job. Making one asks nobody."""

    def __init__(self, api: ApiClient | None, job_id: JobId, name: str = "") -> None:
        self._api, self.id, self.name = api, job_id, name

    @property
    def api(self) -> ApiClient:
        """Of a job that came out of a pickle, that of this process's own settings."""
        return self._api or default_client()

    @property
    def ids(self) -> Sequence[JobId]:
        return (self.id,)

    def info(self) -> dict[str, Any]:
        """Everything that a listing shows of it, see `fabric.job_form.JobView`. Raises: UnknownNameError (`unknown_job`)."""
        found: dict[str, Any] = self.api.get(job_path(self.id))
        self.name = found["name"]
        return found

    def status(self) -> JobState:
        return JobState(self.info()["state"])

    def wait(self, timeout_s: float | None = None) -> JobState:
        """Its state, once that is final. Raises: RejectedError (`not_finished`) when the time is over."""
        return JobState(self._ended(timeout_s)["state"])

    def result(self, timeout_s: float | None = None) -> Any:
        """What the callable returned; None of a command that succeeded. A callable's exception is raised as it was.

        Raises: RejectedError (`not_finished`, `cancelled`), RuntimeFault (`job_failed`).
        """
        job = self._ended(timeout_s)
        if job["form"] == "callable" and job["state"] != JobState.CANCELLED:
            reply = self.api.ask("GET", job_path(self.id, "result"))
            if reply.body:
                is_ok, value = pickle.loads(reply.body)
                if is_ok:
                    return value
                raise value
        if job["state"] == JobState.SUCCEEDED:
            return None
        raise failure_of(job)

    def logs(self, follow: bool = False, rank: int = 0) -> Logs:
        """Its output: iterate over it, or print it. `follow`: goes on until the job has ended."""
        return Logs(self.api, self.id, rank, follow)

    def cancel(self) -> JobState:
        """Of a job that has ended it changes nothing."""
        return JobState(self.api.post(job_path(self.id, "cancel"))["state"])

    def set_priority(self, priority: str) -> JobState:
        """Give it another priority class of the policy, while it has not ended; empty: the one that the policy gives it.

        Raises: UnknownNameError (`unknown_priority_class`), RejectedError (`job_ended`, `forbidden`).
        """
        return JobState(self.api.post(job_path(self.id, "priority"), {"priority": priority})["state"])

    def explain(self) -> Answer:
        """Why it waits or where it runs, who is ahead, when it starts, what would start it sooner."""
        return Answer(self.api.get(job_path(self.id, "explain")), job_explanation_blocks)

    def efficiency(self) -> Answer:
        """What it asked for against what it used, and the dollars between. Measured when an attempt ends."""
        return Answer(self.api.get(job_path(self.id, "efficiency")), job_efficiency_blocks)

    def _ended(self, timeout_s: float | None) -> dict[str, Any]:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = WAIT_S if until_s is None else min(WAIT_S, max(0.0, until_s - time.monotonic()))
            job: dict[str, Any] = self.api.get(job_path(self.id, "wait"), {"timeout_s": left_s}, timeout_s=left_s + 30.0)
            self.name = job["name"]
            if JobState(job["state"]).is_final:
                return job
            if until_s is not None and time.monotonic() >= until_s:
                message = f"{job['name']} has not ended after {timeout_s:g} s: it is {job['state']}"
                raise RejectedError(message, code="not_finished", hint=f"`fabric explain {short_id(self.id)}`", retryable=True)

    def __str__(self) -> str:
        return format_job(self.info(), time.time())

    def _repr_html_(self) -> str:
        """As it is now."""

        def made() -> str:
            job = self.info()
            return answer_html([Lines(job_lines(job, time.time()))], job)

        return _asked(self, made)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.id!r})" if self.name else f"Job({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Job, (None, self.id, self.name))


class JobArray(Sequence[Job]):
    """The jobs of one `submit(…, array=n)`, in their order."""

    def __init__(self, api: ApiClient, array_id: JobId, members: Sequence[Job]) -> None:
        self._api, self.id, self._members = api, array_id, tuple(members)

    @property
    def ids(self) -> Sequence[JobId]:
        return tuple(job.id for job in self._members)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)

    def status(self) -> dict[JobState, int]:
        """How many are in which state."""
        listing = self._api.get("/v1/jobs", {"array": self.id, "limit": max(1, len(self))})
        return {JobState(state): count for state, count in listing["states"].items()}

    def wait(self, timeout_s: float | None = None) -> dict[JobState, int]:
        """Once all have ended. Raises: RejectedError (`not_finished`) when the time is over."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        for job in self._members:
            job.wait(None if until_s is None else max(0.0, until_s - time.monotonic()))
        return self.status()

    def result(self, timeout_s: float | None = None) -> list[Any]:
        """What each returned, in their order. Raises: as `Job.result`, of the first that failed."""
        self.wait(timeout_s)
        return [job.result() for job in self._members]

    def cancel(self) -> None:
        for job in self._members:
            job.cancel()

    def set_priority(self, priority: str) -> None:
        """Of those that have not ended. Raises: as `Job.set_priority`."""
        for job in self._members:
            try:
                job.set_priority(priority)
            except RejectedError as error:
                if error.code != "job_ended":
                    raise

    def _repr_html_(self) -> str:
        """A row for each of its first jobs."""

        def made() -> str:
            listing = self._api.get("/v1/jobs", {"array": self.id, "limit": MOST_SHOWN})
            return answer_html(listing_blocks(listing, hide=("user", "queue")), listing)

        return _asked(self, made)

    def __repr__(self) -> str:
        return f"JobArray({self.id!r}, {len(self)} jobs)"


def _asked(what: object, made: Callable[[], str]) -> str:
    """Its HTML; where the fabric does not answer, its name and why."""
    try:
        return made()
    except FabricError as error:
        return text_html(f"{what!r}\n{error.render()}")


class Logs:
    """The output of one rank of a job. Iterating gives text as it comes; printing gives all that there is."""

    def __init__(self, api: ApiClient, job_id: JobId, rank: int, follow: bool) -> None:
        self._api, self._job_id, self._rank, self._follow = api, job_id, rank, follow

    def chunks(self) -> Iterator[bytes]:
        """Bytes as they come."""
        offset, is_final = 0, False
        while not is_final:
            query = {"rank": self._rank, "offset": offset, "wait_s": WAIT_S if self._follow else None}
            reply = self._api.ask("GET", job_path(self._job_id, "logs"), query=query)
            offset, is_final = int(reply.headers["x-fabric-next-offset"]), reply.headers["x-fabric-final"] == "true"
            if reply.body:
                yield reply.body
            elif not self._follow:
                return

    def __iter__(self) -> Iterator[str]:
        """Lines with their ends; what is no UTF-8 is shown as �."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace") + "\n"
        if rest:
            yield rest.decode(errors="replace")

    def __str__(self) -> str:
        return "".join(self)

    def __repr__(self) -> str:
        return f"Logs({self._job_id!r}, rank={self._rank})"


def failure_of(job: Mapping[str, Any]) -> RuntimeFault | RejectedError:
    """The error that stands for a job that ended without success."""
    why = ": ".join(part for part in (job["why"], job["detail"]) if part)
    said = f"{job['name']} {job['state'].lower()}{f' ({why})' if why else ''}"
    if job["state"] == JobState.CANCELLED:
        return RejectedError(said, code="cancelled", job_id=job["id"])
    return RuntimeFault(said, code="job_failed", hint=f"`fabric logs {short_id(job['id'])}`", job_id=job["id"], why=job["why"])
