"""Facts to plain JSON values and back, by the types of their fields (see `fabric.fields`).

Reading forgives: unknown fields are ignored and missing ones take their defaults, so that what one release wrote opens in the next.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic_core

from fabric.fields import coder, newer

T = TypeVar("T")


def encode(value: Any) -> Any:
    """A fact as objects, arrays and scalars. Raises: TypeError for a class with fields of a type that has no JSON form."""
    convert = coder(type(value)).encode
    return value if convert is None else convert(value)


def decode(kind: type[T], value: Any) -> T:
    """The other way. Raises: FabricError `journal_newer` for an enum's unknown member, RuntimeFault `journal` for a gap."""
    convert = coder(kind).decode
    made: T = value if convert is None else convert(value)
    return made


def fact_of(kinds: Mapping[str, type], kind: str, body: Any) -> Any:
    """The fact of a journal's row. Raises: FabricError `journal_newer` for a kind that `kinds` lacks."""
    if kind not in kinds:
        raise newer(f"a fact {kind!r}")
    return decode(kinds[kind], body)


def dumps(value: Any) -> str:
    """JSON of a fact, or of what is plain already. Raises: TypeError for anything else."""
    if dataclasses.is_dataclass(value) or isinstance(value, tuple):
        value = encode(value)
    try:
        return pydantic_core.to_json(value, inf_nan_mode="constants").decode()
    except ValueError:
        # Half a surrogate pair (a file's name may hold one), deep nesting, or what has no JSON form at all.
        return _to_json(value)


def loads(text: str | bytes) -> Any:
    """What `dumps` wrote, as objects, arrays and scalars. Short strings that come again are one object."""
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        return encode(value)
    raise TypeError(f"{type(value).__name__} does not belong in the journal")


_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_plain).encode
