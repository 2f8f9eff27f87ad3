"""The words of running: what one rank is told, how it ended, and the names of leases, actors and stored things.

An attempt is `<job id>.<attempt>` everywhere: in its lease's name, its Ray submission id, its scratch directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabric.job import Form, JobId, LaunchSpec, Outcome

LEASE_PREFIX = "lease-"
JOB_PREFIX = "job/"


@dataclass(frozen=True, slots=True)
class RankUse:
    """What one rank used. GPU figures are as in `fabric.job.AttemptUse`."""

    cpu_s: float
    peak_memory_bytes: int
    gpu_seen_s: float | None = None
    gpu_busy_s: float | None = None
    gpu_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How one rank ended. `exit_code` is as a shell gives it: 128 + n where signal n ended it; None: it never ran. `use` is None
    where nobody measured it."""

    outcome: Outcome
    message: str = ""
    exit_code: int | None = None
    use: RankUse | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One rank of one attempt: everything that its host needs to run it.

    `memory_bytes` 0: no limit of its own. `env` is what the fabric adds (addresses, visible devices, …); the user's own
    is in `how`. `declared` is what the whole attempt asked for, by Ray's names; `visible` what its
    dashboard shows. `leader` names the actor that leads the attempt; empty for rank 0, whose own host does. `scratch` is a
    directory of the host, `store_url` the artefact store.
    """

    epoch: int
    job_id: JobId
    attempt: int
    name: str
    form: Form
    how: LaunchSpec = field(repr=False)
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    memory_bytes: int = 0
    timeout_s: float | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    declared: Mapping[str, float] = field(default_factory=dict)
    visible: Mapping[str, str] = field(default_factory=dict)
    leader: str = ""
    scratch: str = ""
    store_url: str = ""

    @property
    def attempt_name(self) -> str:
        return attempt_name(self.job_id, self.attempt)


def attempt_name(job_id: str, attempt: int) -> str:
    return f"{job_id}.{attempt}"


def parse_attempt(name: str) -> tuple[JobId, int] | None:
    """The inverse of `attempt_name`; None for any other name."""
    job_id, _, attempt = name.rpartition(".")
    return (JobId(job_id), int(attempt)) if job_id and attempt.isdigit() else None


def lease_name(job_id: str, attempt: int) -> str:
    """The name of the placement group that an attempt holds."""
    return LEASE_PREFIX + attempt_name(job_id, attempt)


def parse_lease(name: str) -> tuple[JobId, int] | None:
    return parse_attempt(name.removeprefix(LEASE_PREFIX)) if name.startswith(LEASE_PREFIX) else None


def runner_name(name: str, job_id: str, attempt: int, rank: int) -> str:
    """The actor of one rank, as the Ray dashboard shows it."""
    return f"{JOB_PREFIX}{name}/{attempt_name(job_id, attempt)}/{rank}"


def log_key(job_id: str, attempt: int, rank: int) -> str:
    """Where a rank's output lies in the store."""
    return f"logs/{job_id}/{attempt}/{rank}.log"


def result_key(job_id: str) -> str:
    """Where a callable's pickled (is_ok, value or exception) lies in the store."""
    return f"results/{job_id}"


def checkpoint_key(job_id: str, *parts: object) -> str:
    return "/".join(("checkpoints", job_id, *map(str, parts)))
