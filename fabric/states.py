"""The states of a job and the moves between them. Every other move is refused, with the story in the error."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from fabric.errors import BugError


class JobState(StrEnum):
    PENDING = "PENDING"
    ADMITTED = "ADMITTED"
    RUNNING = "RUNNING"
    PREEMPTING = "PREEMPTING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return self in FINAL


_S = JobState
FINAL = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED})
HOLDING = frozenset({_S.ADMITTED, _S.RUNNING, _S.PREEMPTING})
"""The states in which a job holds a lease."""

MOVES: dict[JobState, frozenset[JobState]] = {
    _S.PENDING: frozenset({_S.ADMITTED, _S.CANCELLED, _S.FAILED}),
    # Back to PENDING: Ray refused the lease, or the attempt was lost or is tried again.
    _S.ADMITTED: frozenset({_S.RUNNING, _S.PREEMPTING, _S.PENDING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.PREEMPTING, _S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    # A preempted program may still finish within its grace.
    _S.PREEMPTING: frozenset({_S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def check_move(job: str, start: JobState, finish: JobState, story: Iterable[str] = ()) -> None:
    """Raises: BugError `illegal_move` with the job's story."""
    if finish not in MOVES[start]:
        message = f"job {job} cannot go from {start} to {finish}"
        raise BugError(message, code="illegal_move", start=start.value, finish=finish.value, story=tuple(story))
