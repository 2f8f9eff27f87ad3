"""The plain dialect of a service: `{"argument": value}` goes in by name, and what `predict` returns comes out as JSON."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from fabric.errors import ModelError, UnknownNameError, UserError


def parse_arguments(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body; an empty body has no arguments. Raises: `UserError` (`bad_json`)."""
    try:
        arguments = orjson.loads(body or b"{}")
    except ValueError as error:
        raise UserError(f"the body is not JSON: {error}", code="bad_json", hint='send an object, as in {"input_text": "..."}') from None
    if not isinstance(arguments, dict):
        raise UserError(
            f"the body is a JSON {type(arguments).__name__}, not an object", code="bad_json", hint="name the arguments of predict"
        )
    return arguments


def check_arguments(signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """That `given` can be passed by name. Raises: `UnknownNameError` (`unknown_argument`), `UserError` (`missing_argument`)."""
    by_name = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [parameter.name for parameter in by_name]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for name in given:
        if name not in known and not takes_any:
            raise UnknownNameError.of("argument", name, known)
    for parameter in by_name:
        if parameter.default is parameter.empty and parameter.name not in given:
            raise UserError(
                f"predict needs {parameter.name!r}", code="missing_argument", hint=f"it takes: {', '.join(known)}", name=parameter.name
            )


def to_json(value: Any) -> Any:
    """`value` in JSON's own types: arrays become lists, and NaN and the infinities, which JSON lacks, null.

    Raises: `ModelError` (`result_not_json`) for anything else.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, torch's tensors
        return to_json(value.tolist())
    if hasattr(value, "model_dump"):  # pydantic's models
        return to_json(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    raise ModelError(f"predict returned {type(value).__name__}, which has no form in JSON", code="result_not_json")
