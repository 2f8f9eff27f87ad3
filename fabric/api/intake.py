"""Decides what a submit request means: from its text to a `Submission` for each job. Pure but for the ids that it makes.

Invariants: a batch is taken whole or refused whole; what a listing shows of it holds no secret; the ids of a request that names
its own follow from it alone, so that the same request sent again means the same jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from fabric.api.naming import default_family, default_name, shown_command
from fabric.api.port import Submission
from fabric.api.schema import MAX_EXPANDED, VARIABLE, SubmitRequest
from fabric.api.tokens import Principal
from fabric.byte_sizes import parse_bytes
from fabric.durations import parse_duration
from fabric.errors import FabricError, RejectedError, UserError
from fabric.job import Form, JobId, JobSpec, LaunchSpec, Shape
from fabric.job_ids import is_job_id, member_id, new_job_id
from fabric.selectors import ANY, flavors_of, parse_gpus
from fabric.types import Flavor

DEFAULT_QUEUE = "default"
ARRAY_INDEX, ARRAY_SIZE = "FABRIC_ARRAY_INDEX", "FABRIC_ARRAY_SIZE"
MAX_ENV_BYTES = 256 * 1024
DEFAULT_GRACE_S = 30.0
_FIRST_VARIABLE_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_VARIABLE_CHARS = _FIRST_VARIABLE_CHARS | frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Intake:
    """What reading a batch needs: who asks, the catalogue, the wall clock, and how to find a job that is there already."""

    principal: Principal
    catalogue: Mapping[str, Flavor]
    now_s: float
    find: Callable[[str], Sequence[JobId]]
    """The id of a job by name or id, or those of an array by its id. Raises: UnknownNameError (`unknown_job`)."""
    _named: set[str] = field(default_factory=set)
    """Selectors of this batch that name a flavor."""

    def read(self, requests: Sequence[SubmitRequest]) -> list[list[Submission]]:
        """The jobs of each request. Raises: UserError, UnknownNameError, RejectedError (`forbidden`); of the first that is wrong,
        with `index` where there are several."""
        own = [JobId(request.id) if request.id else new_job_id() for request in requests]
        ids = [_members(job_id, request.array) for job_id, request in zip(own, requests, strict=True)]
        if sum(map(len, ids)) > MAX_EXPANDED:
            raise UserError(
                f"{sum(map(len, ids)):,} jobs in one submission", code="too_large", hint=f"at most {MAX_EXPANDED:,}; send several"
            )
        _must_be_distinct(ids)
        made = []
        for index, request in enumerate(requests):
            try:
                made.append(self._one(request, own[index], ids, index))
            except FabricError as error:
                raise _placed(error, index) if len(requests) > 1 else error from None
        _must_end(made)
        return made

    def _one(self, request: SubmitRequest, own: JobId, ids: Sequence[Sequence[JobId]], index: int) -> list[Submission]:
        how = _launch(request)
        spec = self._spec(request, ids, index, how.form)
        key = None if request.idempotency_key is None else f"{self.principal.user}/{request.idempotency_key}"
        summary = {"command": shown_command(request), "asks": asked(request)}
        # What a driver's own tasks use is not seen, so there is nothing to size it by.
        is_auto = request.resources == "auto" and request.memory is None and how.form != "ray-program"
        if request.array is None:
            return [Submission(spec, how, key, summary, is_auto)]
        return [
            Submission(
                _member(spec, job_id, own, number),
                _with_env(how, {ARRAY_INDEX: str(number), ARRAY_SIZE: str(request.array)}),
                None if key is None else f"{key}#{number}",
                summary,
                is_auto,
            )
            for number, job_id in enumerate(ids[index])
        ]

    def _spec(self, request: SubmitRequest, ids: Sequence[Sequence[JobId]], index: int, form: Form) -> JobSpec:
        return JobSpec(
            job_id=ids[index][0],
            name=request.name or default_name(request),
            user=self.principal.user,
            queue=self._queue(request),
            priority=request.priority,
            form=form,
            shapes=self._shapes(request),
            family=request.family or default_family(request),
            submitted_s=self.now_s,
            deadline_s=None if request.deadline is None else self._deadline(request.deadline),
            budget_usd=request.budget_usd,
            after=tuple(dict.fromkeys(each for word in request.after for each in self._after(word, ids))),
            timeout_s=None if request.timeout is None else _positive("timeout", request.timeout),
            max_retries=request.max_retries,
            can_resume=request.checkpoint_dir is not None,
            is_preemptible=request.preemptible,
            tags=request.tags,
        )

    def _queue(self, request: SubmitRequest) -> str:
        bound = sorted(self.principal.queues)
        queue = request.queue or (bound[0] if len(bound) == 1 else DEFAULT_QUEUE)
        if not self.principal.reaches(queue):
            raise RejectedError(
                f"this token may not submit to {queue!r}", code="forbidden", hint=f"its queues: {', '.join(bound)}", queue=queue
            )
        return queue

    def _shapes(self, request: SubmitRequest) -> tuple[Shape, ...]:
        memory_bytes = 0 if request.memory is None else parse_bytes(request.memory)
        words = _words(request)
        shapes = [parse_gpus(word, cpus=request.cpus, memory_bytes=memory_bytes) for word in words]
        if not words or request.resources == "auto":
            shapes.append(Shape(cpus=request.cpus, memory_bytes=memory_bytes))
        for shape in shapes:
            if shape.selector not in self._named:
                flavors_of(shape.selector or ANY, self.catalogue)
                self._named.add(shape.selector)
        return tuple(dict.fromkeys(shapes))

    def _deadline(self, text: str | float) -> float:
        at_s = _moment(text, self.now_s)
        if at_s <= self.now_s:
            raise UserError(f"the deadline {text!r} has passed", code="bad_deadline", hint="6h from now, or a later moment")
        return at_s

    def _after(self, word: str, ids: Sequence[Sequence[JobId]]) -> Sequence[JobId]:
        if word.startswith("#"):
            number = word[1:]
            if not number.isdecimal() or len(number) > 4 or int(number) >= len(ids):
                hint = f"#0 to #{len(ids) - 1}: the jobs of this submission in their order"
                raise UserError(f"after: there is no {word!r} in this submission", code="bad_after", hint=hint)
            return ids[int(number)]
        if is_job_id(word) and any(word in each for each in ids):
            return (JobId(word),)
        return self.find(word)


def asked(request: SubmitRequest) -> str:
    """What the request wants to run on, for people: `A100:4 or V100:8`."""
    words = [str(word) for word in _words(request)]
    if request.resources == "auto":
        return "auto"
    if not words:
        return f"cpu:{request.cpus:g}"
    return " or ".join(words)


def _words(request: SubmitRequest) -> list[str | int]:
    if request.accelerators is not None and request.gpus is not None:
        raise UserError("both accelerators and gpus are given", code="bad_accelerators", hint="they mean the same: leave one out")
    named = request.accelerators if request.gpus is None else request.gpus
    words: list[str | int] = [*([] if named is None else [named]), *request.any_of]
    if request.resources != "auto":
        return words
    if words:
        raise UserError('resources="auto" with accelerators', code="bad_resources", hint="auto means any flavor: leave one out")
    return [ANY]


def _launch(request: SubmitRequest) -> LaunchSpec:
    if (request.command is None) == (request.payload is None):
        raise UserError("a job is either a command or a payload", code="bad_command", hint="give exactly one of them")
    form: Form = request.form or ("program" if request.command is not None else "callable")
    if (form == "callable") != (request.payload is not None):
        raise UserError(f"a {form} job with a {'payload' if request.payload else 'command'}", code="bad_form", hint="leave form out")
    for kind, variables in (("env", request.env), ("secrets", request.secrets)):
        _must_be_variables(kind, variables)
    if twice := request.env.keys() & request.secrets.keys():
        raise UserError(f"{min(twice)} is in env and in secrets", code="bad_secrets", hint="leave it out of env")
    directory = request.checkpoint_dir or "checkpoints"
    if PurePosixPath(directory).is_absolute() or ".." in PurePosixPath(directory).parts:
        raise UserError(
            f"checkpoint_dir {directory!r} leads out of the working directory", code="bad_checkpoint_dir", hint="a relative path"
        )
    return LaunchSpec(
        form=form,
        command=request.command or "",
        payload=request.payload or "",
        working_dir=request.working_dir or "",
        env=request.env,
        secrets=request.secrets,
        runtime_env=request.runtime_env,
        checkpoint_dir=directory,
        grace_s=DEFAULT_GRACE_S if request.grace is None else parse_duration(request.grace),
    )


def _must_be_variables(kind: str, variables: Mapping[str, str]) -> None:
    num_bytes = 0
    for name, value in variables.items():
        if not name or name[0] not in _FIRST_VARIABLE_CHARS or not _VARIABLE_CHARS.issuperset(name) or "\0" in value:
            raise UserError(
                f"{kind}: {name!r} cannot be a variable", code=f"bad_{kind}", hint=f"a name like {VARIABLE}, a value without NUL"
            )
        num_bytes += len(name) + len(value)
    if num_bytes > MAX_ENV_BYTES:
        raise UserError(
            f"{kind} holds {num_bytes:,} characters", code="too_large", hint="put large values into a file of the working directory"
        )


def _members(own: JobId, array: int | None) -> list[JobId]:
    return [own] if array is None else [member_id(own, number) for number in range(array)]


def _must_be_distinct(ids: Sequence[Sequence[JobId]]) -> None:
    seen: set[JobId] = set()
    for index, each in enumerate(ids):
        if not seen.isdisjoint(each):
            raise UserError(f"[{index}].id: it is used twice in this submission", code="bad_id", hint="each job has an id of its own")
        seen.update(each)


def _must_end(made: Sequence[Sequence[Submission]]) -> None:
    """No job waits for itself. Only jobs of one submission can: one that is there already waits for none that is new."""
    new = {each.spec.job_id: each.spec for jobs in made for each in jobs}
    graph = {job_id: [other for other in spec.after if other in new] for job_id, spec in new.items() if spec.after}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [new[job_id].name for job_id in error.args[1]]
        shown = " -> ".join(reversed(circle[:8])) + (" -> …" if len(circle) > 8 else "")
        raise UserError(f"jobs that wait for each other: {shown}", code="dependency_cycle", hint="take one of them out of after=") from None


def _member(spec: JobSpec, job_id: JobId, array_id: JobId, number: int) -> JobSpec:
    return replace(spec, job_id=job_id, name=f"{spec.name}[{number}]", array_id=array_id)


def _with_env(how: LaunchSpec, more: Mapping[str, str]) -> LaunchSpec:
    return replace(how, env={**how.env, **more})


def _moment(text: str | float, now_s: float) -> float:
    if not isinstance(text, str) or not text[:5].count("-"):
        return now_s + parse_duration(text)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"{text!r} is not a moment", code="bad_deadline", hint="6h from now, or 2026-11-25T08:00:00+01:00") from None
    if at.tzinfo is None:
        raise UserError(f"the deadline {text!r} has no time zone", code="bad_deadline", hint=f"{text}Z for UTC, or {text}+01:00")
    return at.timestamp()


def _positive(name: str, text: str | float) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds < math.inf:
        raise UserError(f"{name}: {text!r} is no time at all", code=f"bad_{name}", hint="90s, 5m, 1h30m or 7d")
    return seconds


def _placed(error: FabricError, index: int) -> FabricError:
    return type(error)(f"[{index}]: {error.message}", code=error.code, hint=error.hint, **{**error.context, "index": index})
