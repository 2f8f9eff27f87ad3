"""Jobs from Python: submit, follow, cancel, explain and plan them, over the fabric's API. Needs no Ray.

Invariants: `submit` returns when the job is on the fabric's disk; a request that is sent again after a lost connection submits
nothing twice.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from fabric.api_client import ApiClient, client_of, job_path, use_client
from fabric.config import FabricConfig, load_config
from fabric.errors import FabricError, RuntimeFault, UserError
from fabric.job import JobId
from fabric.job_answers import plan_blocks
from fabric.job_handle import Answer, Job, JobArray, Logs
from fabric.job_ids import member_id
from fabric.job_request import JobOptions, JobRequest, Work, make_request
from fabric.usage_form import usage_blocks
from fabric.what_if_form import what_if_blocks

if TYPE_CHECKING:
    from fabric.packing import Packed

BATCH = 500
LOOK_S = 0.5
SHOWN_BYTES, LARGE_BYTES = 2**20, 20 * 2**20
"""Of a working directory: from here on its size is told, and the biggest files in it."""
SMALL_PAYLOAD_BYTES = 256 * 1024


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
        return Answer(self.api.post("/v1/plan", {"queue": self._queue, **body} if self._queue else body), plan_blocks)

    def find(self, name_or_id: str) -> Job:
        """Raises: UnknownNameError (`unknown_job`)."""
        found = self.api.get(job_path(name_or_id))
        return Job(self.api, JobId(found["id"]), found["name"])

    def usage(self, by: str = "user") -> Answer:
        return Answer(self.api.get("/v1/usage", {"by": by}), usage_blocks)

    def export_usage(self, file: Path, by: str = "user") -> int:
        """Write it to a file, `.csv` or `.parquet`; how many bytes that were. Raises: UserError (`bad_export`)."""
        kind = file.suffix.lstrip(".").lower()
        if kind not in ("csv", "parquet"):
            raise UserError(f"{file.name}: an export is .csv or .parquet", code="bad_export", hint="e.g. usage.csv")
        reply = self.api.ask("GET", "/v1/usage/export", query={"by": by, "format": kind})
        try:
            return file.write_bytes(reply.body)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}", code="bad_export", hint="choose another place") from error

    def what_if(
        self, document: str | Mapping[str, Any], since: str | float = "24h", *, on_progress: Callable[[float], None] = lambda _frac: None
    ) -> Answer:
        began = self.api.post("/v1/policy/what-if", {"document": document, "since": since}, can_repeat=False)
        page = f"/v1/policy/what-if/{began['id']}"
        try:
            while (form := self.api.get(page))["state"] == "running":
                on_progress(form["progress"] or 0.0)
                time.sleep(LOOK_S)
        except KeyboardInterrupt:  # nobody waits for it any more, and it keeps others from theirs
            with suppress(FabricError):
                self.api.post(f"{page}/cancel", {})
            raise
        if form["state"] == "failed":
            error = form["error"]
            raise RuntimeFault(error["message"], code=error["code"], hint=error["hint"])
        return Answer(form, what_if_blocks)

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
        from fabric.packing import pack  # it loads fsspec, which most commands do without

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
            return Job(self.api, JobId(ids[0]), name)
        return JobArray(self.api, request.id, [Job(self.api, JobId(each), f"{name}[{i}]" if name else "") for i, each in enumerate(ids)])


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


def usage(by: str = "user") -> Answer:
    """What each `user` or `queue` holds and has used, or each served `model` has cost and answered; as far as the token may see it.

    Raises: UserError (`bad_by`), RejectedError (`forbidden`).
    """
    return default().usage(by)


def what_if(
    document: str | Mapping[str, Any], since: str | float = "24h", *, on_progress: Callable[[float], None] = lambda _frac: None
) -> Answer:
    """What would have become of the jobs of the last day under another policy, beside the one in force. Nothing is applied.

    `document`: YAML, or what was read from it. `on_progress` is told the part that is done, 0 to 1; it may take minutes. Ctrl-C ends
    the replay, too.

    Raises: as applying it would; RejectedError (`busy`, `forbidden`), RuntimeFault (`timeout`, `no_jobs`, `never_starts`, …).
    """
    return default().what_if(document, since, on_progress=on_progress)


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
    use_client(None if jobs is None else jobs.api)


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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _to_stderr(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(line + "\n")


__all__ = ["Answer", "Job", "JobArray", "Jobs", "Logs", "find_job", "job", "plan", "submit", "submit_many", "usage", "what_if"]
