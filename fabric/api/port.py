"""The seam between the API and the job plane behind it, in the same process: a protocol, nothing else.

What the plane refuses it raises as a FabricError with a code and a hint; the API turns that into a status. Methods are called
from many threads at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal, NamedTuple, Protocol

from fabric.job import JobId, JobSpec, LaunchSpec
from fabric.job_form import JobView
from fabric.states import JobState
from fabric.types import Flavor


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as it was asked for. `summary` is what a listing shows of it beside its spec: `{command, asks}`; never a secret.
    `idempotency_key` already holds its user: two users may use the same word. `is_auto`: its memory is for its family's history to say."""

    spec: JobSpec
    how: LaunchSpec
    idempotency_key: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    is_auto: bool = False


class JobRef(NamedTuple):
    """Which job is meant, and what says who may see it."""

    id: JobId
    name: str
    user: str
    queue: str
    state: JobState


class LogPart(NamedTuple):
    """Bytes of a log from the offset that was asked for. `is_final`: nothing will ever come after `next_offset`."""

    data: bytes
    next_offset: int
    is_final: bool


class JobPlanePort(Protocol):
    """`name_or_id` is an id, its last eight digits or more, or a name (then the newest job of that name is meant).

    Methods that take one raise: UnknownNameError (`unknown_job`).
    """

    @property
    def catalogue(self) -> Mapping[str, Flavor]: ...

    def submit(self, submissions: Sequence[Submission], by: str) -> list[JobId]:
        """All or none; on disk when it returns. A job that is known already, by its id or its idempotency key, is
        returned and not submitted again, also where a later one of the call names the new id in `after`.

        Raises: UnknownNameError (`unknown_queue`, `unknown_priority_class`), NoFitError, RejectedError (`id_taken`: the id is
        another user's; retryable ones with `retry_after_s`), RuntimeFault (`journal`).
        """
        ...

    def find(self, name_or_id: str) -> JobRef: ...

    def job(self, name_or_id: str) -> JobView:
        """With its place among those that wait, which takes a look at all of them."""
        ...

    def jobs(
        self,
        *,
        queue: str | None = None,
        user: str | None = None,
        states: Collection[JobState] = (),
        array: str | None = None,
        limit: int = 1000,
    ) -> list[JobView]:
        """Jobs that hold a lease first, then those that wait by their place, then what ended, newest first."""
        ...

    def cancel(self, name_or_id: str, by: str) -> JobView:
        """Of a job that has ended it changes nothing."""
        ...

    def set_priority(self, name_or_id: str, priority: str, by: str) -> JobView:
        """From now on the job is of this class, as if it had been submitted with it; what waits is ordered anew at once.

        Raises: UnknownNameError (`unknown_priority_class`), RejectedError (`job_ended`: and its class was another).
        """
        ...

    def wait(self, name_or_id: str, timeout_s: float) -> JobView:
        """Returns when the job has ended or the time is over."""
        ...

    def explain(self, name_or_id: str) -> Mapping[str, Any]:
        """See `fabric.job_answers.EXPLANATION_KEYS`."""
        ...

    def plan(self, submission: Submission) -> Mapping[str, Any]:
        """What would become of it; nothing is kept. See `fabric.job_answers.PLAN_KEYS`. Raises: as `submit`."""
        ...

    def story(self, name_or_id: str) -> Sequence[Mapping[str, Any]]:
        """The facts about a job, oldest first: `{seq, wall_s, kind, by, body}`; no secret in them."""
        ...

    def usage(self, by: Literal["user", "queue"]) -> Sequence[Mapping[str, Any]]:
        """See `fabric.usage_form.ROW_KEYS`."""
        ...

    def efficiency(self, by: Literal["user", "queue", "task"], user: str | None = None) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """The rows of `fabric.efficiency_form` (`user`: of what is theirs alone), and why tasks are missing in them, if they are."""
        ...

    def job_efficiency(self, name_or_id: str) -> Mapping[str, Any]:
        """See `fabric.efficiency_form.JOB_EFFICIENCY_KEYS`."""
        ...

    def policy_apply(self, document: str | Mapping[str, Any], by: str) -> int:
        """The new version. Raises: as `fabric.policy_document.read_policy`; the policy in force then stays."""
        ...

    def policy_show(self) -> Mapping[str, Any]:
        """`{version, document, by, applied_s}`."""
        ...

    def policy_history(self) -> Sequence[Mapping[str, Any]]:
        """The same for every version, newest first."""
        ...

    def policy_rollback(self, version: int | None, by: str) -> int:
        """Apply the document of an older version anew (None: of the one before this); the new version. Raises: UnknownNameError
        (`unknown_policy_version`)."""
        ...

    def put(self, file: IO[bytes]) -> str:
        """Keep what is in an open file; its sha256. Raises: RuntimeFault (`storage_full`, `storage_failed`)."""
        ...

    def has(self, digest: str) -> bool: ...

    def logs(self, name_or_id: str, rank: int, offset: int) -> LogPart:
        """Output of one rank from byte `offset` on, about a megabyte at most; all attempts one after the other, so that who follows
        it needs not know of them."""
        ...

    def result(self, name_or_id: str) -> bytes | None:
        """The pickled (is_ok, value or exception) of a callable; None: it left none."""
        ...
