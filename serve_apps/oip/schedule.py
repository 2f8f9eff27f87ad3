"""When an answer is too late and how urgent a request is, from its parameters and headers.

Parameters `priority` and `timeout` (microseconds) are Triton's schedule policy; the headers are `x-request-timeout-ms` and gRPC's
`grpc-timeout`. The earliest of all deadlines holds. Reserved parameters are the server's and are not passed to a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from fabric.errors import UserError

TIMEOUT_HEADER = b"x-request-timeout-ms"
GRPC_TIMEOUT_HEADER = b"grpc-timeout"
MAX_PRIORITY = 2**31 - 1
RESERVED = ("priority", "timeout", "binary_data_output")
MAX_PARAMETERS = 4096

_GRPC_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_GRPC_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def deadline_s(parameters: Mapping[str, Any], headers: Mapping[bytes, bytes], *, now_s: float) -> float:
    """The monotonic time after which no answer is wanted; infinite where none is named. A timeout of 0 names none, as in Triton.

    Raises: UserError (`bad_parameter`, `bad_header`).
    """
    timeouts = [math.inf]
    if parameters and "timeout" in parameters:
        timeouts.append(_count(parameters, "timeout", 2**63 - 1) * 1e-6)
    if headers:
        timeouts.append(_milliseconds(headers.get(TIMEOUT_HEADER)))
        timeouts.append(_grpc(headers.get(GRPC_TIMEOUT_HEADER)))
    return now_s + min(timeout or math.inf for timeout in timeouts)


def of_model(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model sees: `parameters` less the reserved ones."""
    if parameters and any(name in parameters for name in RESERVED):
        return {name: value for name, value in parameters.items() if name not in RESERVED}
    return parameters


def priority(parameters: Mapping[str, Any]) -> int:
    """1 is the highest, 0 the model's default. Raises: UserError (`bad_parameter`)."""
    return _count(parameters, "priority", MAX_PRIORITY) if parameters and "priority" in parameters else 0


def _count(parameters: Mapping[str, Any], name: str, most: int) -> int:
    value = parameters[name]
    if type(value) is not int or not 0 <= value <= most:
        raise UserError(f"parameter {name!r} is a whole number from 0 to {most}", code="bad_parameter")
    return value


def _milliseconds(value: bytes | None) -> float:
    if value is None:
        return math.inf
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = math.nan
    if not 0 <= timeout_ms < math.inf:
        raise UserError(f"the header {TIMEOUT_HEADER.decode()} is a number of milliseconds", code="bad_header")
    return timeout_ms / 1000


def _grpc(value: bytes | None) -> float:
    if value is None:
        return math.inf
    found = _GRPC_TIMEOUT.fullmatch(value)
    if found is None:
        raise UserError("the header grpc-timeout is a number and a unit, as in 500m", code="bad_header")
    return int(found[1]) * _GRPC_UNIT_S[found[2]]
