"""Errors across HTTP: which status stands for which of ours, and the error that a reply stands for. Both ends use it.

The body of an error is `{code, message, hint, context}`. Invariant: an error that went over HTTP comes back with the same code,
message, hint and context, and in a class with the same exit status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fabric.errors import BugError, FabricError, NoFitError, RejectedError, RuntimeFault, UnavailableError, UnknownNameError, UserError

NOT_FOUND = frozenset(
    {
        "unknown_job",
        "unknown_node",
        "unknown_token",
        "unknown_task",
        "unknown_policy_version",
        "unknown_model",
        "unknown_version",
        "unknown_rollout",
        "unknown_experiment",
        "unknown_what_if",
        "unknown_file",
        "artefact_not_found",
        "no_such_page",
    }
)
TOO_LARGE = frozenset({"too_large", "argument_too_large", "working_dir_too_large"})
BY_CODE = {"unauthorized": 401, "forbidden": 403, "method_not_allowed": 405}
OUT_OF_ORDER = frozenset({"journal", "storage_full", "storage_failed", "unavailable"})
RETRY_AFTER_S = 1.0


def status_of(error: FabricError) -> int:
    """400 what the caller can mend, 401, 403, 404, 405, 409 refused, 413, 429 refused for now, 500 broken, 503 not now."""
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    if error.code in NOT_FOUND:
        return 404
    if error.code in TOO_LARGE:
        return 413
    if isinstance(error, UserError):
        return 400
    if isinstance(error, RejectedError):
        return 429 if error.retryable else 409
    return 503 if error.code in OUT_OF_ORDER or isinstance(error, UnavailableError) else 500


def error_json(error: FabricError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "context": dict(error.context)}


def error_from(status: int, body: bytes, headers: Mapping[str, str]) -> FabricError:
    """The error that a reply stands for; also of one that does not come from us (a proxy's page)."""
    try:
        told = json.loads(body)
        code, message, hint = str(told["code"]), str(told["message"]), told.get("hint")
        context = {str(key): value for key, value in (told.get("context") or {}).items() if key not in ("code", "hint")}
    except (ValueError, KeyError, TypeError, AttributeError):
        text = " ".join(body[:200].decode(errors="replace").split())
        return UnavailableError(f"HTTP {status}: {text or 'no message'}", hint="is that the address of a fabric's API?", status=status)
    if status == 429:
        context = {"retryable": True, "retry_after_s": _retry_after(headers), **context}
    return _class_of(status, code)(message, code=code, hint=hint, **context)


def _class_of(status: int, code: str) -> type[FabricError]:
    if code == "no_fit":
        return NoFitError
    if code.startswith("unknown_"):
        return UnknownNameError
    if status in (403, 409, 429):
        return RejectedError
    if status == 503:
        return UnavailableError if code == "unavailable" else RuntimeFault
    if status >= 500:
        return BugError if code == "bug" else RuntimeFault
    return UserError


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return float(headers.get("retry-after", RETRY_AFTER_S))
    except ValueError:
        return RETRY_AFTER_S
