"""The bodies of requests, checked once at the edge, and those of answers, for the OpenAPI document.

Invariants: an unknown key is refused with the nearest known one; a value is named in an error only where it cannot be a secret.
Lengths of time are text (`90s`, `6h`) or seconds, amounts of memory text (`20GB`) or bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fabric.errors import UnknownNameError, UserError
from fabric.states import JobState

MAX_JOBS = 1_000
"""Items of one submission; with arrays, jobs are up to `MAX_EXPANDED`."""
MAX_EXPANDED = 10_000
MAX_TEXT = 100_000
DIGEST = r"^[0-9a-f]{64}$"
NAME = r"^[^\x00-\x1f/]{1,128}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
Scope = Literal["infer", "submit", "read", "operate", "admin"]


class ApiRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="rust-regex", hide_input_in_errors=True)


Q = TypeVar("Q", bound=ApiRequest)


class SubmitRequest(ApiRequest):
    """A job, or with `array` so many alike. Exactly one of `command` and `payload`."""

    id: str | None = Field(default=None, pattern=ID, description="a UUIDv7 made by the client: sent again, it names the same job")
    command: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT, description="a shell command line")
    payload: str | None = Field(default=None, pattern=DIGEST, description="digest of a pickled (function, args, kwargs)")
    form: Literal["program", "ray-program", "callable"] | None = Field(default=None, description="default: by command or payload")
    name: str | None = Field(default=None, pattern=NAME)
    queue: str | None = Field(default=None, max_length=128, description="default: the token's first, else `default`")
    priority: str = Field(default="", max_length=128, description="a priority class of the policy")
    accelerators: str | None = Field(default=None, max_length=128, description="A100:4 (on one node), A100:4x2 (two such), any")
    gpus: str | int | None = Field(default=None, description="the same; 2-8 is elastic, 4 is of any GPU")
    any_of: list[str] = Field(default=[], max_length=16, description="other ways, each like `accelerators`")
    resources: Literal["auto"] | None = Field(default=None, description="any flavor: its profile decides")
    cpus: float = Field(default=1.0, gt=0, le=100_000, description="of one process")
    memory: str | int | None = Field(default=None, description="of one process")
    deadline: str | float | None = Field(default=None, description="from now (6h), or a moment with its time zone (ISO 8601)")
    budget_usd: float | None = Field(default=None, ge=0, description="dollars, 0 or more")
    after: list[str] = Field(default=[], max_length=1_000, description="jobs, or `#0`: the first of the same submission")
    array: int | None = Field(default=None, ge=1, le=MAX_EXPANDED, description="so many jobs, told apart by FABRIC_ARRAY_INDEX")
    timeout: str | float | None = Field(default=None, description="of one attempt")
    max_retries: int = Field(default=0, ge=0, le=100, description="after a failure of its own; lost nodes count apart")
    tags: dict[str, str] = Field(default={}, max_length=64)
    env: dict[str, str] = Field(default={}, max_length=1_000, repr=False)
    secrets: dict[str, str] = Field(default={}, max_length=100, repr=False, description="variables that are shown nowhere")
    runtime_env: dict[str, Any] = Field(default={})
    working_dir: str | None = Field(default=None, pattern=DIGEST, description="digest of an archive (tar.gz)")
    checkpoint_dir: str | None = Field(default=None, min_length=1, max_length=1024, description="kept when it is preempted")
    grace: str | float | None = Field(default=None, description="from SIGTERM to SIGKILL")
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=256)
    family: str | None = Field(default=None, max_length=256, description="whose history predicts it")
    preemptible: bool = True


class ListQuery(ApiRequest):
    """Which jobs; all that are given must hold. `state` may come several times, joined by commas."""

    queue: str | None = None
    user: str | None = None
    state: str | None = Field(default=None, description="PENDING,RUNNING")
    mine: bool = Field(default=False, description="only those of the token's user")
    array: str | None = Field(default=None, description="the id of an array")
    limit: int = Field(default=1000, ge=1, le=10_000)


class LogQuery(ApiRequest):
    """Output of one rank from a byte on."""

    rank: int = Field(default=0, ge=0)
    offset: int = Field(default=0, ge=0)
    wait_s: float = Field(default=0.0, ge=0, le=30, description="wait so long for more, where there is none yet")


class WaitQuery(ApiRequest):
    timeout_s: float = Field(default=30.0, ge=0, le=30)


class UsageQuery(ApiRequest):
    by: Literal["user", "queue", "model"] = "user"


class UsageExportQuery(UsageQuery):
    format: Literal["csv", "parquet"] = "csv"


class EfficiencyQuery(ApiRequest):
    by: Literal["user", "queue", "task"] = "user"


class NoQuery(ApiRequest):
    """None is known."""


class PriorityRequest(ApiRequest):
    priority: str = Field(max_length=128, description="a priority class of the policy; empty: the one that the policy gives it")


class RollbackRequest(ApiRequest):
    version: int | None = Field(default=None, ge=0, description="default: the one before this")


class DrainRequest(ApiRequest):
    deadline_s: float = Field(default=300.0, ge=0, le=7 * 86400, description="when the machine goes at the latest, in seconds from now")


class WhatIfRequest(ApiRequest):
    document: str | dict[str, Any] = Field(description="a policy: YAML as text, or what was read from one")
    since: str | float = Field(default="24h", description="jobs submitted in this time before the newest one")


class TokenRequest(ApiRequest):
    """A token of `user` that may do what `scopes` say, in `queues` (none: in all)."""

    user: str = Field(pattern=r"^[^\x00-\x20/]{1,128}$")
    scopes: list[Scope] = Field(default=["submit"], min_length=1)
    queues: list[str] = Field(default=[], max_length=100)
    expires: str | float | None = Field(default=None, description="from now; never, where left out")
    note: str = Field(default="", max_length=256)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refusal(_Answer):
    """Every error."""

    code: str
    message: str
    hint: str | None
    context: dict[str, Any]


class Submitted(_Answer):
    """`ids[i]` are the jobs of item i: one, or those of its array in order."""

    ids: list[list[str]]


class JobAnswer(_Answer):
    """One job. Times are wall-clock seconds; what is not known is null."""

    id: str
    name: str
    user: str
    queue: str
    priority: str
    form: Literal["program", "ray-program", "callable"]
    state: Literal["PENDING", "ADMITTED", "RUNNING", "PREEMPTING", "SUCCEEDED", "FAILED", "CANCELLED"]
    submitted_s: float
    why: str
    detail: str
    asks: str
    command: str
    attempt: int
    flavor: str
    tier: str
    twin: bool
    num_bundles: int
    units: float
    nodes: list[str]
    started_s: float | None
    ended_s: float | None
    deadline_s: float | None
    budget_usd: float | None
    done: float | None
    total: float | None
    unit: str
    remaining_s: float | None
    remaining_log_sd: float | None
    cost_usd: float | None
    position: int | None
    expected_start_s: float | None
    exit_code: int | None
    after: list[str]
    array_id: str | None
    family: str
    tags: dict[str, str]


class Listing(_Answer):
    jobs: list[JobAnswer]
    states: dict[str, int]
    now_s: float


class TokenAnswer(_Answer):
    """What is known of a token; the token itself is told once, when it is made."""

    id: str
    user: str
    scopes: list[Scope]
    queues: list[str]
    note: str
    created_s: float
    created_by: str
    expires_s: float | None
    revoked_s: float | None
    last_used_s: float | None


class Minted(TokenAnswer):
    token: str


_JOBS: TypeAdapter[list[SubmitRequest]] = TypeAdapter(list[SubmitRequest])
_ADAPTERS: dict[type[ApiRequest], TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (PriorityRequest, RollbackRequest, DrainRequest, TokenRequest, WhatIfRequest)
}
_STATES = {state.value for state in JobState}


def read_jobs(body: bytes) -> list[SubmitRequest]:
    """One job or a list of them. Raises: UserError, UnknownNameError (`unknown_key`)."""
    is_one = body.lstrip()[:1] != b"["
    try:
        requests = _JOBS.validate_json(b"[%s]" % body if is_one and body.strip() else body)
    except ValidationError as error:
        raise refusal(error, SubmitRequest, is_one=is_one) from None
    if not 1 <= len(requests) <= MAX_JOBS:
        raise UserError(f"{len(requests)} jobs in one submission", code="bad_request", hint=f"1 to {MAX_JOBS:,}; send several")
    return requests


def read(kind: type[ApiRequest], body: bytes) -> Any:
    """Raises: UserError, UnknownNameError (`unknown_key`)."""
    try:
        return _ADAPTERS[kind].validate_json(body or b"{}")
    except ValidationError as error:
        raise refusal(error, kind) from None


def read_query(kind: type[Q], parameters: Mapping[str, str]) -> Q:
    """Raises: UserError, UnknownNameError (`unknown_key`)."""
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        raise refusal(error, kind) from None


def read_states(text: str | None) -> tuple[JobState, ...]:
    """`pending,running`. Raises: UnknownNameError (`unknown_state`)."""
    words = [word.strip().upper() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in _STATES:
            raise UnknownNameError.of("state", word, _STATES)
    return tuple(JobState(word) for word in words)


def refusal(error: ValidationError, kind: type[BaseModel], *, is_one: bool = False) -> UserError:
    """The first mistake, with its place; a misspelt key comes before those that only follow from it."""
    first = min(error.errors(include_url=False, include_input=False), key=lambda e: e["type"] != "extra_forbidden")
    location = first["loc"][1:] if is_one else first["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if first["type"] == "extra_forbidden":
        unknown = UnknownNameError.of("key", str(location[-1]), kind.model_fields)
        return UnknownNameError(f"unknown key {place!r}", code="unknown_key", hint=unknown.hint, name=str(location[-1]))
    if first["type"] == "json_invalid":
        return UserError(f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}", code="bad_request")
    field = next((str(part) for part in location if isinstance(part, str)), "")
    code = f"bad_{field}" if field in kind.model_fields else "bad_request"
    about = kind.model_fields[field].description if field in kind.model_fields else None
    message = first["msg"].removeprefix("Value error, ").lower().replace("input should", "it should")
    return UserError(f"{place or 'the body'}: {message}", code=code, hint=about)
