"""What the protocol's app asks of whoever runs it: who a caller is, where usage goes, and how models are loaded and unloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fabric.errors import UserError
from serve_apps.oip.dataplane import DataPlane, IndexEntry

if TYPE_CHECKING:
    from fabric.api.tokens import Principal
    from serve_apps.oip.answer import Answer, Stream
    from serve_apps.oip.inference import Call


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request. A body is counted as it comes, and refused before it is held.

    `body_bytes`: of a whole body. `json_bytes`: of JSON, or of protobuf less its raw tensors. `decompressed_bytes`: of a compressed
    body once it is not.
    """

    body_bytes: int = 2**30
    json_bytes: int = 64 * 2**20
    decompressed_bytes: int = 64 * 2**20


class Authorize(Protocol):
    """`headers`: lower-case names. Raises: RejectedError (`unauthenticated`, `forbidden`, `rate_limited`, …)."""

    def __call__(self, headers: Mapping[bytes, bytes], /) -> Principal | None: ...


class Record(Protocol):
    """Called once after each request that was authorized. `units`: inferences, as Triton counts them: the rows of a batch.

    `status`: of HTTP. Must not raise or block.
    """

    def __call__(
        self, *, request_id: str, principal: Principal | None, model: str, version: str, units: int, status: int, duration_s: float
    ) -> None: ...


class Watch(Protocol):
    """Called once after each request that asked for inference, shadow copies left out, when its answer is on its way or its stream has
    ended. `answer` None: the caller went away. Must not raise or block."""

    def __call__(self, call: Call, answer: Answer | Stream | None, status: int, duration_s: float, /) -> None: ...


class Repository(Protocol):
    """The model repository extension: what may be loaded, and doing it."""

    async def index(self, *, only_ready: bool) -> Sequence[IndexEntry]: ...

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None: ...

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None: ...


class HeldModels:
    """The repository of a replica alone: what it holds is loaded, and nothing else can be."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def index(self, *, only_ready: bool) -> Sequence[IndexEntry]:
        return self._plane.index(only_ready=only_ready)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        self._plane.model(name)
        if parameters:
            raise UserError(f"this process cannot load {name!r} anew: it has no repository", code="unsupported")

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        if any(entry.name == name for entry in self._plane.index()):
            raise UserError(f"this process cannot unload {name!r}: it has no repository", code="unsupported")


def anybody(_headers: Mapping[bytes, bytes], /) -> None:
    """Authorizes every caller: for a replica whose port only the ingress can reach, and for tests."""


def unwatched(_call: Call, _answer: Answer | Stream | None, _status: int, _duration_s: float, /) -> None:
    """Looks at nothing."""


def nowhere(**_usage: Any) -> None:
    """Records nothing."""
