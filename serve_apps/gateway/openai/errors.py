"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`. Source: OpenAI's API reference, "Error codes"."""

from __future__ import annotations

from typing import Any

from fabric.errors import FabricError, UserError
from serve_apps.gateway.refusal import ReplicaRefusal
from serve_apps.oip.answer import Answer, json_answer
from serve_apps.oip.statuses import message_of, retry_after_s, status_of

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {"unknown_model": "model_not_found", "unauthenticated": "invalid_api_key", "queue_full": "rate_limit_exceeded"}


def error_form(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status, and the body."""
    if isinstance(error, ReplicaRefusal):
        status, message, code = error.http, error.message, error.code
    else:
        status = status_of(error).http
        message = message_of(error) if isinstance(error, FabricError) else "the server failed; its log says how"
        code = error.code if isinstance(error, FabricError) else "internal"
    if isinstance(error, FabricError) and error.hint:
        message = f"{message} ({error.hint[:400]})"
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = error.context.get("param") if isinstance(error, UserError) else None
    return status, {"error": {"message": message, "type": kind, "param": param, "code": _CODES.get(code, code) or None}}


def error_answer(error: Exception) -> Answer:
    status, form = error_form(error)
    answer = json_answer(form, status)
    wait_s = error.retry_after if isinstance(error, ReplicaRefusal) else retry_after_s(error)
    if wait_s:
        answer.headers.append((b"retry-after", str(wait_s).encode()))
    return answer
