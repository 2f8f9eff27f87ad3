"""What a Python caller asks for, made into the body of a submit request. No network; files are only looked at.

Invariants: what is misspelt or of the wrong kind is refused here, with a hint, before anything is sent; a request keeps the id that it
was made with.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, get_type_hints

from fabric.config import variable
from fabric.errors import UnknownNameError, UserError
from fabric.job import Form, JobId
from fabric.job_ids import new_job_id

Work = str | Sequence[str] | Callable[..., Any]
Length = str | float | timedelta
AUTO: Literal["auto"] = "auto"


class HasIds(Protocol):
    """A job, or an array of jobs, that another may come after."""

    @property
    def ids(self) -> Sequence[JobId]: ...


After = HasIds | str


class JobOptions(TypedDict, total=False):
    """How a job is to run. `accelerators`: `A100:4` (four on one node), `A100:4x2` (on each of two), `any`; `gpus` the same, and
    `2-8` for an elastic size; `any_of` other ways, each as good. `resources="auto"`: its profile decides. `cpus` and `memory`
    (`20GB`) are for one process. `deadline`: from now (`6h`), or a moment; `timeout` of one attempt. `after`: jobs that must
    succeed first. `working_dir`: a directory to run in; left out, the present one where a word of the command names a file of it;
    None: an empty one. `secrets`: variables that are shown nowhere; a list names some of this process's own. `checkpoint_dir`:
    kept when the job is preempted, and there again for its next attempt. `family`: whose history predicts it.
    """

    name: str
    queue: str
    priority: str
    form: Form
    accelerators: str
    gpus: str | int
    any_of: Sequence[str]
    resources: Literal["auto"]
    cpus: float
    memory: str | int
    deadline: Length | datetime
    budget_usd: float
    after: After | Sequence[After]
    timeout: Length
    max_retries: int
    tags: Mapping[str, str]
    env: Mapping[str, object]
    secrets: Mapping[str, str] | Sequence[str]
    runtime_env: Mapping[str, Any]
    working_dir: str | Path | None
    checkpoint_dir: str
    grace: Length
    idempotency_key: str
    family: str
    preemptible: bool


OPTIONS = frozenset(get_type_hints(JobOptions))


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job, or an array, to be submitted. `body` lacks the digests of `payload` and `working_dir`, which are stored first."""

    id: JobId
    body: Mapping[str, Any] = field(repr=False)
    payload: bytes | None = field(default=None, repr=False)
    working_dir: Path | None = None
    array: int | None = None


def make_request(
    work: Work, args: Sequence[Any], kwargs: Mapping[str, Any] | None, array: int | None, options: Mapping[str, Any]
) -> JobRequest:
    """Raises: UnknownNameError (`unknown_option`), UserError."""
    for name in options:
        if name not in OPTIONS:
            raise UnknownNameError.of("option", name, {*OPTIONS, "array", "kwargs"})
    if callable(work):
        from fabric.payload import pack_callable  # it loads cloudpickle, which a command does without

        payload = pack_callable(work, args, kwargs)
        body = {**_called(work), **_encoded(options)}
    else:
        if args or kwargs:
            hint = "put them into the command line"
            raise UserError("a command takes no arguments beside its own text", code="bad_command", hint=hint)
        payload, body = None, {"command": command_line(work), **_encoded(options)}
    job_id = new_job_id()
    body["id"] = job_id
    if array is not None:
        body["array"] = array
    return JobRequest(job_id, body, payload, _directory(options, body.get("command")), array)


def command_line(work: object) -> str:
    """Words are quoted for a shell; text is one already. Raises: UserError (`bad_command`)."""
    if isinstance(work, str) and work.strip():
        return work
    if isinstance(work, list | tuple) and work and all(isinstance(word, str) for word in work):
        return shlex.join(work)
    raise UserError(f"{work!r} is no work", code="bad_command", hint="a command line, its words, or a function")


def _called(fn: Callable[..., Any]) -> dict[str, Any]:
    name = getattr(fn, "__name__", type(fn).__name__).strip("<>")
    family = f"{getattr(fn, '__module__', None) or '__main__'}.{getattr(fn, '__qualname__', name)}"
    return {"name": name[:128], "family": family[:256]}


def _encoded(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _ENCODE.get(name, _as_it_is)(value) for name, value in options.items() if value is not None and name != "working_dir"}


def _as_it_is(value: Any) -> Any:
    return value


def _length(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _deadline(value: Any) -> Any:
    """A moment without a time zone is meant in this machine's."""
    if isinstance(value, str) and value[:5].count("-"):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value  # the API says what is wrong with it
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone()).isoformat()
    return _length(value)


def _after(value: Any) -> list[str]:
    each = [value] if isinstance(value, str) or hasattr(value, "ids") else list(value)
    found: list[str] = []
    for one in each:
        if isinstance(one, str):
            found.append(one)
        elif hasattr(one, "ids"):
            found += one.ids
        else:
            raise UserError(f"after: {one!r} is no job", code="bad_after", hint="a job that was submitted, its id or its name")
    return found


def _env(value: Mapping[str, object]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UserError(f"env must be a mapping, not a {type(value).__name__}", code="bad_env", hint="env={'NAME': 'value'}")
    return {name: str(each) for name, each in value.items()}


def _secrets(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return dict(value)
    found = {}
    for name in [value] if isinstance(value, str) else value:
        text = variable(name)
        if text is None:
            raise UserError(f"the variable {name} is not set here", code="bad_secrets", hint=f"export {name}=…, or leave it out")
        found[name] = text
    return found


_ENCODE: Mapping[str, Callable[[Any], Any]] = {
    "deadline": _deadline,
    "timeout": _length,
    "grace": _length,
    "after": _after,
    "env": _env,
    "secrets": _secrets,
    "tags": dict,
    "runtime_env": dict,
    "any_of": lambda value: [value] if isinstance(value, str) else list(value),
}


def _directory(options: Mapping[str, Any], command: str | None) -> Path | None:
    if "working_dir" in options:
        return None if options["working_dir"] is None else Path(options["working_dir"]).expanduser()
    return Path() if command is not None and names_a_file(command) else None


def names_a_file(command: str) -> bool:
    """Whether a word of the command is a file of the present directory."""
    try:
        words = shlex.split(command) if _QUOTES.intersection(command) else command.split()
    except ValueError:  # an open quote: the shell will say so
        return False
    return any(_is_file_here(word) for word in words)


def _is_file_here(word: str) -> bool:
    if word.startswith(("-", "/")) or ".." in word.split("/"):
        return False
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a word too long for a name
        return False


_QUOTES = frozenset("'\"\\")
