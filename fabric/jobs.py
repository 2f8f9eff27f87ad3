"""Jobs from Python: submit, follow, cancel, explain and plan them, over the fabric's API. Needs no Ray.

Invariants: `submit` returns when the job is on the fabric's disk; a request that is sent again after a lost connection submits
nothing twice.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Unpack, overload

from fabric.api_client import ApiClient, client_of, job_path
from fabric.config import FabricConfig, load_config
from fabric.errors import RejectedError, RuntimeFault, UnknownNameError, UserError
from fabric.job import JobId
from fabric.job_answers import render_job_explanation, render_plan
from fabric.job_form import format_job
from fabric.job_ids import member_id, short_id
from fabric.job_request import JobOptions, JobRequest, Work, make_request
from fabric.packing import Packed, pack
from fabric.states import JobState

BATCH = 500
WAIT_S = 25.0
SHOWN_BYTES, LARGE_BYTES = 2**20, 20 * 2**20
"""Of a working directory: from here on its size is told, and the biggest files in it."""
SMALL_PAYLOAD_BYTES = 256 * 1024


class Answer:
    """A form that prints as people read it; `as_json` has the same under stable keys."""

    def __init__(self, form: Mapping[str, Any], render: Callable[[Mapping[str, Any]], str]) -> None:
        self._form, self._render = form, render

    def as_json(self) -> Mapping[str, Any]:
        return self._form

    def __str__(self) -> str:
        return self._render(self._form)

    def __repr__(self) -> str:
        return str(self)


class Job:
    """One submitted job. Making one asks nobody."""

    def __init__(self, jobs: Jobs, job_id: JobId, name: str = "") -> None:
        self._jobs, self.id, self.name = jobs, job_id, name

    @property
    def ids(self) -> Sequence[JobId]:
        return (self.id,)

    def info(self) -> dict[str, Any]:
        """Everything that a listing shows of it, see `fabric.job_form.JobView`. Raises: UnknownNameError (`unknown_job`)."""
        found: dict[str, Any] = self._jobs.api.get(job_path(self.id))
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
            reply = self._jobs.api.ask("GET", job_path(self.id, "result"))
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
        return Logs(self._jobs.api, self.id, rank, follow)

    def cancel(self) -> JobState:
        """Of a job that has ended it changes nothing."""
        return JobState(self._jobs.api.post(job_path(self.id, "cancel"))["state"])

    def explain(self) -> Answer:
        """Why it waits or where it runs, who is ahead, when it starts, what would start it sooner."""
        return Answer(self._jobs.api.get(job_path(self.id, "explain")), render_job_explanation)

    def _ended(self, timeout_s: float | None) -> dict[str, Any]:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = WAIT_S if until_s is None else min(WAIT_S, max(0.0, until_s - time.monotonic()))
            job: dict[str, Any] = self._jobs.api.get(job_path(self.id, "wait"), {"timeout_s": left_s}, timeout_s=left_s + 30.0)
            self.name = job["name"]
            if JobState(job["state"]).is_final:
                return job
            if until_s is not None and time.monotonic() >= until_s:
                message = f"{job['name']} has not ended after {timeout_s:g} s: it is {job['state']}"
                raise RejectedError(message, code="not_finished", hint=f"`fabric explain {short_id(self.id)}`", retryable=True)

    def __str__(self) -> str:
        return format_job(self.info(), time.time())

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.id!r})" if self.name else f"Job({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_found_again, (self.id, self.name))


class JobArray(Sequence[Job]):
    """The jobs of one `submit(…, array=n)`, in their order."""

    def __init__(self, jobs: Jobs, array_id: JobId, members: Sequence[Job]) -> None:
        self._jobs, self.id, self._members = jobs, array_id, tuple(members)

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
        listing = self._jobs.api.get("/v1/jobs", {"array": self.id, "limit": max(1, len(self))})
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

    def __repr__(self) -> str:
        return f"JobArray({self.id!r}, {len(self)} jobs)"


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


class Jobs:
    """A client of one fabric's job plane. `tell` shows a line to its user."""

    def __init__(self, api: ApiClient, *, queue: str | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.api = api
        self._queue = queue
        self._tell = tell or _to_stderr
        self._kept: set[str] = set()
        self._lock = threading.Lock()

    def submit(self, request: JobRequest) -> Job | JobArray:
        return self.submit_many([request])[0]

    def submit_many(self, requests: Sequence[JobRequest]) -> list[Job | JobArray]:
        """In batches, each of them whole or not at all. Raises: what the first batch that is refused was refused for."""
        directories: dict[Path, str] = {}
        bodies = [self._stored(request, directories) for request in requests]
        _name_each_other(requests, bodies)
        made: list[Job | JobArray] = []
        stands_for: dict[str, str] = {}
        for start in range(0, len(bodies), BATCH):
            batch = bodies[start : start + BATCH]
            for body in batch if stands_for else ():
                body["after"] = [stands_for.get(each, each) for each in body.get("after", ())]
            answer = self.api.post("/v1/jobs", batch if len(batch) > 1 else batch[0])
            for request, body, ids in zip(requests[start : start + BATCH], batch, answer["ids"], strict=True):
                made.append(self._made(request, body, ids))
                # A job whose idempotency key was taken is another's: that one is meant by later jobs, too.
                stands_for.update((new, old) for new, old in zip(_ids_of(request), ids, strict=True) if new != old)
        return made

    def plan(self, request: JobRequest) -> Answer:
        # A plan needs no bytes: what would be sent is not.
        body = dict(request.body)
        if request.payload is not None:
            body["payload"] = "0" * 64
        return Answer(self.api.post("/v1/plan", {"queue": self._queue, **body} if self._queue else body), render_plan)

    def find(self, name_or_id: str) -> Job:
        """Raises: UnknownNameError (`unknown_job`)."""
        found = self.api.get(job_path(name_or_id))
        return Job(self, JobId(found["id"]), found["name"])

    def _stored(self, request: JobRequest, directories: dict[Path, str]) -> dict[str, Any]:
        """The body, with the digests of what it needs, which is in the store by then."""
        body = dict(request.body)
        if self._queue is not None:
            body.setdefault("queue", self._queue)
        if request.payload is not None:
            body["payload"] = self._keep_payload(request.payload)
        if request.working_dir is not None:
            directory = request.working_dir.resolve()
            if directory not in directories:
                directories[directory] = self._keep_directory(directory)
            body["working_dir"] = directories[directory]
        return body

    def _keep_payload(self, payload: bytes) -> str:
        digest = _sha256(payload)
        if not self._is_kept(digest, looks=len(payload) > SMALL_PAYLOAD_BYTES):
            self._put(payload, digest)
        return digest

    def _keep_directory(self, directory: Path) -> str:
        with tempfile.TemporaryDirectory(prefix="fabric-") as folder:
            packed = pack(directory, Path(folder))
            self._tell_of(packed, directory)
            if not self._is_kept(packed.digest, looks=True):
                with packed.path.open("rb") as file:
                    self._put(file, packed.digest)
            return packed.digest

    def _is_kept(self, digest: str, *, looks: bool) -> bool:
        with self._lock:
            if digest in self._kept:
                return True
        return looks and self.api.has(f"/v1/artefacts/{digest}")

    def _put(self, body: Any, digest: str) -> None:
        answer = self.api.put("/v1/artefacts", body, "application/octet-stream")
        if answer["digest"] != digest:
            raise RuntimeFault("what was stored is not what was sent", code="artefact_corrupt", hint="try again")
        with self._lock:
            self._kept.add(digest)

    def _tell_of(self, packed: Packed, directory: Path) -> None:
        if packed.left_out:
            self._tell(f"working directory {directory}: left out {', '.join(packed.left_out[:5])} (links that lead out, sockets)")
        if packed.content_bytes < SHOWN_BYTES:
            return
        is_large = packed.content_bytes >= LARGE_BYTES
        size = f"{packed.content_bytes / 2**20:,.1f} MiB in {packed.num_files:,} files ({packed.size_bytes / 2**20:,.1f} MiB packed)"
        self._tell(f"working directory {directory}: {size}{'; the biggest, which .gitignore can leave out:' if is_large else ''}")
        for path, size_bytes in packed.largest if is_large else ():
            self._tell(f"  {size_bytes / 2**20:>9,.1f} MiB  {path}")

    def _made(self, request: JobRequest, body: Mapping[str, Any], ids: Sequence[str]) -> Job | JobArray:
        name = str(body.get("name") or "")
        if request.array is None:
            return Job(self, JobId(ids[0]), name)
        return JobArray(self, request.id, [Job(self, JobId(each), f"{name}[{i}]" if name else "") for i, each in enumerate(ids)])


# -- the names of the package ----------------------------------------------------------------------------------------------


@overload
def submit(work: Work, *args: Any, kwargs: Mapping[str, Any] | None = ..., array: None = ..., **options: Unpack[JobOptions]) -> Job: ...
@overload
def submit(work: Work, *args: Any, kwargs: Mapping[str, Any] | None = ..., array: int, **options: Unpack[JobOptions]) -> JobArray: ...
def submit(
    work: Work, *args: Any, kwargs: Mapping[str, Any] | None = None, array: int | None = None, **options: Unpack[JobOptions]
) -> Job | JobArray:
    """Submit a command line, or a function with its arguments. Returns when the fabric has it on disk. Options: `JobOptions`.

    `array=n` submits n jobs, told apart by the variable FABRIC_ARRAY_INDEX. The same `idempotency_key` gives the same job.

    Raises: UserError (`bad_…`, `argument_too_large`, `working_dir_too_large`), UnknownNameError (`unknown_queue`,
    `unknown_flavor`, …), NoFitError, RejectedError, UnavailableError.
    """
    return default().submit(make_request(work, args, kwargs, array, options))


def job(
    work: Work, *args: Any, kwargs: Mapping[str, Any] | None = None, array: int | None = None, **options: Unpack[JobOptions]
) -> JobRequest:
    """What `submit` takes, for `submit_many`."""
    return make_request(work, args, kwargs, array, options)


def submit_many(requests: Iterable[JobRequest | Mapping[str, Any]]) -> list[Job | JobArray]:
    """Submit many in few requests. Each is `job(…)`, or a mapping with `work` (and `args`, `kwargs`, `array`) and options.

    In `after`, `"#0"` is the first of these jobs. Of more than 500, each must come behind those that it comes after.

    Raises: as `submit`.
    """
    return default().submit_many([each if isinstance(each, JobRequest) else _request_of(each) for each in requests])


def plan(work: Work, *args: Any, kwargs: Mapping[str, Any] | None = None, **options: Unpack[JobOptions]) -> Answer:
    """What would become of a job: wait, run, finish and cost on each flavor, and which would be taken. Nothing is submitted."""
    return default().plan(make_request(work, args, kwargs, None, options))


def find_job(name_or_id: str) -> Job:
    """A job by its id, the last 8 digits of it, or its name (the newest). Raises: UnknownNameError (`unknown_job`)."""
    return default().find(name_or_id)


def jobs_of(config: FabricConfig, *, tell: Callable[[str], None] | None = None) -> Jobs:
    """A client of the fabric that the environment or the configuration names."""
    return Jobs(client_of(config), queue=None if config.queue == "default" else config.queue, tell=tell)


_default: Jobs | None = None
_default_lock = threading.Lock()


def default() -> Jobs:
    """The client of this process; its settings are read once. Raises: ConfigError."""
    global _default
    with _default_lock:
        if _default is None:
            _default = jobs_of(load_config().config)
        return _default


def use(jobs: Jobs | None) -> None:
    """Make it the client of this process; None: read the settings anew at the next call."""
    global _default
    with _default_lock:
        _default = jobs


def failure_of(job: Mapping[str, Any]) -> RuntimeFault | RejectedError:
    """The error that stands for a job that ended without success."""
    why = ": ".join(part for part in (job["why"], job["detail"]) if part)
    said = f"{job['name']} {job['state'].lower()}{f' ({why})' if why else ''}"
    if job["state"] == JobState.CANCELLED:
        return RejectedError(said, code="cancelled", job_id=job["id"])
    return RuntimeFault(said, code="job_failed", hint=f"`fabric logs {short_id(job['id'])}`", job_id=job["id"], why=job["why"])


def _ids_of(request: JobRequest) -> list[JobId]:
    """The ids of its jobs, as the API makes them, too."""
    return [request.id] if request.array is None else [member_id(request.id, index) for index in range(request.array)]


def _name_each_other(requests: Sequence[JobRequest], bodies: Sequence[dict[str, Any]]) -> None:
    """`#0` in `after` becomes the ids of the first request. Raises: UserError (`bad_after`)."""
    for body in bodies:
        if not any(each.startswith("#") for each in body.get("after", ())):
            continue
        named: list[str] = []
        for each in body["after"]:
            number = each[1:]
            if each.startswith("#") and not (number.isdecimal() and int(number) < len(requests)):
                raise UserError(f"after: there is no job {each}", code="bad_after", hint=f"#0 to #{len(requests) - 1}, in their order")
            named += _ids_of(requests[int(number)]) if each.startswith("#") else [each]
        body["after"] = named


def _request_of(options: Mapping[str, Any]) -> JobRequest:
    rest = dict(options)
    given = [name for name in ("work", "command", "fn") if name in rest]
    if len(given) != 1:
        raise UserError("each job needs its work", code="bad_command", hint="{'work': 'python train.py', 'queue': …}")
    work = rest.pop(given[0])
    return make_request(work, rest.pop("args", ()), rest.pop("kwargs", None), rest.pop("array", None), rest)


def _found_again(job_id: JobId, name: str) -> Job:
    return Job(default(), job_id, name)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _to_stderr(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(line + "\n")


__all__ = ["Answer", "Job", "JobArray", "Jobs", "Logs", "UnknownNameError", "find_job", "job", "plan", "submit", "submit_many"]
