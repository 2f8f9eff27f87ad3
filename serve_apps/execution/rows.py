"""How the arguments of several requests become one call, and how its result is taken apart again: along axis 0.

Arrays and lists hold rows; every other argument must be equal for requests to share a call. All arrays of one request have the same
number of rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy

from fabric.errors import ModelError

Key = tuple[Hashable, ...]


def key_and_rows(arguments: Mapping[str, Any]) -> tuple[Key, int]:
    """What must be equal to share a call, and the rows of this request. Raises: `ModelError` (`wrong_shape`)."""
    key: list[Hashable] = []
    rows = -1
    for name, value in arguments.items():
        if isinstance(value, numpy.ndarray) and value.ndim:
            shape = value.shape
            key += (name, value.dtype.str, shape[1:])
            count = shape[0]
        elif isinstance(value, list):
            key += (name, "list")
            count = len(value)
        else:
            key += (name, _plain(value))
            continue
        if rows not in (-1, count):
            raise ModelError(f"inputs differ in their number of rows: {rows} and {count}", code="wrong_shape", name=name)
        rows = count
    return tuple(key), max(rows, 0)


def join(requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One call's arguments from those of requests of equal keys, in their order."""
    joined: dict[str, Any] = {}
    for name, value in requests[0].items():
        if isinstance(value, numpy.ndarray) and value.ndim:
            joined[name] = numpy.concatenate([request[name] for request in requests])
        elif isinstance(value, list):
            joined[name] = [item for request in requests for item in request[name]]
        else:
            joined[name] = value
    return joined


def split(result: Any, rows: Sequence[int]) -> list[Any]:
    """The result of a joined call, taken apart: `rows[i]` rows for request i. Raises: `ModelError` (`wrong_rows`)."""
    if isinstance(result, Mapping):
        parts = {name: split(value, rows) for name, value in result.items()}
        return [{name: part[number] for name, part in parts.items()} for number in range(len(rows))]
    if isinstance(result, tuple):
        return [tuple(items) for items in zip(*(split(item, rows) for item in result), strict=True)]
    if is_dataclass(result) and not isinstance(result, type):
        kind = type(result)
        return [kind(**part) for part in split({field.name: getattr(result, field.name) for field in fields(result)}, rows)]
    total = sum(rows)
    is_rows = isinstance(result, list) or (isinstance(result, numpy.ndarray) and result.ndim > 0)
    if not is_rows or len(result) != total:
        got = f"{len(result)} rows" if is_rows else type(result).__name__
        raise ModelError(f"a batch of {total} rows gave {got}", code="wrong_rows", hint="a batched predict returns one row for each")
    parts_of, at = [], 0
    for count in rows:
        parts_of.append(result[at : at + count])
        at += count
    return parts_of


def _plain(value: Any) -> Hashable:
    if isinstance(value, numpy.ndarray):  # of no axes
        return value.item()  # type: ignore[no-any-return]
    try:
        hash(value)
    except TypeError:
        return id(value)  # dicts and models: never equal to another request's
    return (type(value), value)
