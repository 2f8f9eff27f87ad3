"""Which status an error has, in HTTP and in gRPC: the one place where domain errors meet protocols.

Triton's behaviour holds: what is internal is 500, unknown names 404, unavailable 503, unsupported 501, all else 400. Ours are 429 for
a full queue, 413 for a body over a limit, 504 for a deadline that has passed (Triton says 503 and 400 for these), 401 and 403.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fabric.errors import BugError, FabricError, RejectedError, RuntimeFault, UnknownNameError


@dataclass(frozen=True, slots=True)
class Status:
    """`grpc`: the number of a gRPC status code."""

    http: int
    grpc: int


OK = Status(200, 0)
INVALID = Status(400, 3)
NOT_FOUND = Status(404, 5)
UNAVAILABLE = Status(503, 14)
INTERNAL = Status(500, 13)
UNSUPPORTED = Status(501, 12)

BY_CODE: Mapping[str, Status] = {
    "unauthenticated": Status(401, 16),
    "forbidden": Status(403, 7),
    "not_found": NOT_FOUND,
    "method_not_allowed": Status(405, 12),
    "too_large": Status(413, 8),
    "queue_full": Status(429, 8),
    "rate_limited": Status(429, 8),
    "quota_exceeded": Status(429, 8),
    "deadline_exceeded": Status(504, 4),
    "unsupported": UNSUPPORTED,
    "unloading": UNAVAILABLE,
    "loading": UNAVAILABLE,
    "inference_failed": INTERNAL,
    "model_error": INTERNAL,
    "predict_failed": INTERNAL,
    "wrong_result": INTERNAL,
    "result_not_json": INTERNAL,
}
"""Codes whose status is not that of their class."""

_BY_CLASS: tuple[tuple[type[FabricError], Status], ...] = (
    (UnknownNameError, NOT_FOUND),
    (RuntimeFault, UNAVAILABLE),
    (BugError, INTERNAL),
)

RETRY_AFTER_S = 1.0
"""What a client is told that is refused for now, where nobody knows better."""


def status_of(error: BaseException) -> Status:
    """The status of any error. What is not ours is internal; a `ModelError` or `UserError` of a code not listed is the caller's."""
    if not isinstance(error, FabricError):
        return INTERNAL
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status
    return UNAVAILABLE if isinstance(error, RejectedError) and error.retryable else INVALID


def message_of(error: BaseException) -> str:
    """What a client is told. What a model's own code raised is told, as it is its author's best clue."""
    return error.message if isinstance(error, FabricError) else f"{type(error).__name__}: {error}"


def code_of(error: BaseException) -> str:
    return error.code if isinstance(error, FabricError) else "inference_failed"


def retry_after_s(error: BaseException) -> int | None:
    """Whole seconds for the header `Retry-After`, for what may work later, else None."""
    if status_of(error).http not in (429, 503):
        return None
    asked = error.retry_after_s if isinstance(error, RejectedError) else None
    return max(1, math.ceil(RETRY_AFTER_S if asked is None else asked))


def grpc_headers(error: BaseException) -> list[tuple[bytes, bytes]]:
    """The headers by which a replica tells the gateway of an error: `grpc-status`, `grpc-message` (percent-encoded), `fabric-code`."""
    headers = [
        (b"grpc-status", str(status_of(error).grpc).encode()),
        (b"grpc-message", quote(message_of(error)[:1024], safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~").encode()),
        (b"fabric-code", code_of(error).encode()),
    ]
    wait_s = retry_after_s(error)
    return headers if wait_s is None else [*headers, (b"retry-after", str(wait_s).encode())]
