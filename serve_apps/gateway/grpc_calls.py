"""What every gRPC method of the gateway does alike: who asks, which status an error has, how long it took."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import grpc

from fabric.errors import FabricError, RejectedError, RuntimeFault
from serve_apps.gateway.heads import as_headers
from serve_apps.gateway.refusal import ReplicaRefusal
from serve_apps.oip.hooks import Authorize
from serve_apps.oip.statuses import message_of, retry_after_s, status_of

log = logging.getLogger(__name__)

STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`, which is not typed."""


def told_of(error: Exception) -> tuple[int, str, str]:
    """An error's gRPC status, its message, and after how many seconds to come back, empty if no time is named."""
    if isinstance(error, ReplicaRefusal):
        return error.grpc, error.message, error.retry_after
    if not isinstance(error, FabricError):
        log.exception("a gRPC call failed within the gateway", exc_info=error)
        return 13, "the gateway failed; its log says how", ""
    wait_s = retry_after_s(error) if isinstance(error, RejectedError | RuntimeFault) else None
    return status_of(error).grpc, message_of(error), "" if wait_s is None else str(wait_s)


async def abort(context: Context, error: Exception) -> NoReturn:
    """End the call with the error's status; `retry-after` (s) and gRPC's `grpc-retry-pushback-ms` say when to come back."""
    code, message, retry_after = told_of(error)
    trailing: tuple[tuple[str, str], ...] = ()
    if retry_after.isdigit():
        trailing = (("retry-after", retry_after), ("grpc-retry-pushback-ms", str(int(retry_after) * 1000)))
    await context.abort(STATUS_CODES.get(code, grpc.StatusCode.UNKNOWN), message, trailing)
    raise AssertionError("abort raises")


def remaining_s(context: Context) -> float | None:
    """Until the caller's deadline; None where there is none."""
    left_s = context.time_remaining()
    return None if left_s is None or left_s == math.inf else left_s


def permission(authorize: Authorize, context: Context) -> Callable[[], object]:
    """Asks, when called, whether the caller may."""
    return lambda: authorize(as_headers(context.invocation_metadata() or ()))
