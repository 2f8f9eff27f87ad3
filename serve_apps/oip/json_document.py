"""A JSON body as a document: parsed within bounds, and the members that all kinds of requests share.

Bodies are bounded before they are parsed: JSON of a few bytes per element takes many times that as objects. Null stands for an absent
member. orjson refuses NaN, infinities, numbers beyond a double and nesting of more than 1,024 levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import orjson

from fabric.errors import UserError
from serve_apps.oip.schedule import MAX_PARAMETERS
from serve_apps.oip.tensor_bytes import Buffer

UNCOUNTED_BYTES = 2**20
MAX_PARSED_BYTES = 2**29
"""What a JSON body may take as Python objects, by `_check_size`; bodies of up to `UNCOUNTED_BYTES` are not counted."""

_OBJECT_BYTES = {ord(","): 40, ord("["): 64, ord("{"): 64, ord('"'): 30}
"""What each of these marks stands for: a number with its place in a list, an empty list, a dictionary, half a string."""

NOTHING: Mapping[str, Any] = {}
_PARAMETER_TYPES = frozenset({str, int, float, bool})


def parse_object(body: Buffer) -> dict[str, Any]:
    """The JSON object of a body. Raises: UserError (`bad_json`, `too_large`)."""
    _check_size(body)
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise UserError(f"the body is not JSON: {str(error)[:200]}", code="bad_json") from None
    if type(document) is not dict:
        raise UserError("the body is not a JSON object", code="bad_json")
    return document


def read_id(document: Mapping[str, Any]) -> str:
    """Raises: UserError (`bad_request`)."""
    value = document.get("id")
    if value is None:
        return ""
    if type(value) is not str:
        raise UserError("id is a string", code="bad_request")
    return value


def read_parameters(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """The member `parameters`, checked. Raises: UserError (`bad_parameter`)."""
    parameters = owner.get("parameters")
    if parameters is None:
        return NOTHING
    if type(parameters) is not dict or len(parameters) > MAX_PARAMETERS:
        raise UserError(f"parameters is an object of at most {MAX_PARAMETERS} members", code="bad_parameter")
    if not _PARAMETER_TYPES.issuperset(map(type, parameters.values())):
        raise UserError("the value of a parameter is a string, a number or a boolean", code="bad_parameter")
    return parameters


def read_flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Raises: UserError (`bad_parameter`)."""
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise UserError(f"parameter {name!r} is a boolean", code="bad_parameter")
    return value


def _check_size(body: Buffer) -> None:
    """Raises: UserError (`too_large`) for a body whose numbers, strings and arrays would take too much memory as objects."""
    if len(body) <= UNCOUNTED_BYTES:
        return
    parsed = 0
    for start in range(0, len(body), UNCOUNTED_BYTES):  # by pieces that stay in the processor's cache
        piece = numpy.frombuffer(body, numpy.uint8, min(UNCOUNTED_BYTES, len(body) - start), start)
        parsed += sum(size * int(numpy.count_nonzero(piece == mark)) for mark, size in _OBJECT_BYTES.items())
    if parsed > MAX_PARSED_BYTES:
        raise UserError(
            "the JSON holds more values than are taken in one request", code="too_large", hint="send large tensors as binary data"
        )
