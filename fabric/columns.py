"""Many values of one dataclass in few bytes, and quickly back: the form of snapshots.

A chunk is compressed JSON of its rows, column by column. A column whose values come again holds each once, and the positions;
one of dataclasses has columns of its own. What was one value in many rows is one object in many rows again, also across
chunks, unless it can be changed. Reading forgives as `fabric.codec` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from fabric import codec
from fabric.errors import RuntimeFault
from fabric.fields import Coder, default_of, gap, layout, newer, values_getter

FORMAT = 1
CHUNK_ROWS = 10_000
COMPRESSION = 1
"""zlib's fastest: its best takes five times as long for a tenth less."""

Shared = dict[str, dict[Any, Any]]


class Chunk(NamedTuple):
    """The rows of one chunk, and the name of their class."""

    kind: str
    rows: list[Any]


def pack(rows: Sequence[Any], *, chunk_rows: int = CHUNK_ROWS, leave_out: Collection[str] = ()) -> Iterator[bytes]:
    """Chunks of rows of one dataclass, in their order, without the fields in `leave_out` (they need defaults).
    Raises: TypeError for fields without a JSON form."""
    for start in range(0, len(rows), chunk_rows):
        some = rows[start : start + chunk_rows]
        kind = type(some[0])
        chunk = {"format": FORMAT, "kind": kind.__name__, **_pack_rows(kind, some, leave_out)}
        yield zlib.compress(codec.dumps(chunk).encode(), COMPRESSION)


def unpack(kinds: Mapping[str, type], chunks: Iterable[bytes]) -> Iterator[Chunk]:
    """The rows again, chunk by chunk. Raises: FabricError `journal_newer`; RuntimeFault `journal` for a damaged chunk."""
    shared: Shared = {}
    for chunk in chunks:
        with _uncollected():
            rows = _unpack_chunk(kinds, chunk, shared)
        yield rows


def unpack_all(kinds: Mapping[str, type], chunks: Iterable[bytes]) -> dict[str, list[Any]]:
    """All rows by the name of their class, for a process that starts: they live as long as it does, so the garbage collector is
    told to pass them over from now on (a full collection takes 0.3 s with 100,000 jobs in sight). Raises: as `unpack`."""
    found: dict[str, list[Any]] = {name: [] for name in kinds}
    with _uncollected():
        for name, rows in unpack(kinds, chunks):
            found[name] += rows
        gc.freeze()
    return found


def _unpack_chunk(kinds: Mapping[str, type], chunk: bytes, shared: Shared) -> Chunk:
    try:
        body = codec.loads(zlib.decompress(chunk))
    except (zlib.error, ValueError) as error:
        raise RuntimeFault(f"a snapshot cannot be read: {error}", code="journal", hint="is the file damaged?") from error
    if body["format"] > FORMAT:
        raise newer(f"a snapshot of format {body['format']}")
    name = body["kind"]
    if name not in kinds:
        raise newer(f"rows of {name!r}")
    return Chunk(name, _unpack_rows(kinds[name], body, shared, name))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """The garbage collector would look at every new row several times, half of all the time, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _pack_rows(kind: type, rows: Sequence[Any], leave_out: Collection[str] = ()) -> dict[str, Any]:
    slots = layout(kind, leave_out)
    values_of = values_getter(tuple(slot.name for slot in slots))
    columns = zip(*map(values_of, rows), strict=True)
    packed = {slot.name: _pack_column(column, slot.coder) for slot, column in zip(slots, columns, strict=True)}
    return {"rows": len(rows), "columns": packed}


def _unpack_rows(kind: type, body: dict[str, Any], shared: Shared, path: str) -> list[Any]:
    fields = [field for field in dataclasses.fields(kind) if field.init]
    columns, num_rows = body["columns"], body["rows"]
    absent = {field.name: default_of(field) for field in fields if field.name not in columns}
    if gaps := [name for name, default in absent.items() if default is None]:
        raise gap(kind, gaps)
    coders = {slot.name: slot.coder for slot in layout(kind, leave_out=absent)}
    values: list[Iterable[Any]] = []
    for field in fields:
        if default := absent.get(field.name):
            values.append([default() for _ in range(num_rows)])
        else:
            values.append(_unpack_column(columns[field.name], coders[field.name], num_rows, shared, f"{path}.{field.name}"))
    make: Callable[..., Any] = kind
    return list(map(make, *values)) if values else [make() for _ in range(num_rows)]


def _pack_column(values: Sequence[Any], coder: Coder) -> dict[str, Any]:
    """One of `{"of": distinct values, "at": positions}` (without `at` all are the same), `{"record": columns, "is_there": 0 or 1
    each}` (without `is_there` all are), `{"all": values}`."""
    write = coder.encode or _same
    keys: Sequence[Any] = values
    try:
        of = dict(zip(values, values, strict=True))
    except TypeError:  # a mapping in it has no hash: its JSON has
        if coder.record:
            return _pack_records(coder.record, values)
        keys = [codec.dumps(write(value)) for value in values]
        of = dict(zip(keys, values, strict=True))
    if len(of) > 1 and len(of) > len(values) // 2:
        return _pack_records(coder.record, values) if coder.record else {"all": list(map(write, values))}
    distinct = list(map(write, of.values()))
    if len(of) == 1:
        return {"of": distinct}
    position = {key: index for index, key in enumerate(of)}
    return {"of": distinct, "at": [position[key] for key in keys]}


def _pack_records(kind: type, values: Sequence[Any]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    packed = {"record": _pack_rows(kind, there)}
    return packed if len(there) == len(values) else {**packed, "is_there": [int(value is not None) for value in values]}


def _unpack_column(column: dict[str, Any], coder: Coder, num_rows: int, shared: Shared, path: str) -> Iterable[Any]:
    read = coder.decode or _same
    if "all" in column:
        return map(read, column["all"])
    if coder.record and "record" in column:
        rows = iter(_unpack_rows(coder.record, column["record"], shared, path))
        return [next(rows) if is_there else None for is_there in column["is_there"]] if "is_there" in column else rows
    at: Iterable[int] = column["at"] if "at" in column else repeat(0, num_rows)
    if not coder.can_share:
        return [read(column["of"][index]) for index in at]
    seen = shared.setdefault(path, {})
    of = [_share(read(value), seen) for value in column["of"]]
    return map(of.__getitem__, at)


def _share(value: Any, seen: dict[Any, Any]) -> Any:
    """The equal value that was read before, if there was one."""
    if type(value) is str:
        return sys.intern(value)
    try:
        return seen.setdefault(value, value)
    except TypeError:
        return value


def _same(value: Any) -> Any:
    return value
