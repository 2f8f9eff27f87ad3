"""How values of a type are written as plain JSON values and read again, compiled once per type.

A dataclass is an object by field name; a named tuple, tuple or list an array; a mapping an object where its keys are strings,
else an array of pairs. Values of fields typed `Any` stay as JSON has them. Unknown fields are ignored, missing ones take
their defaults.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints

from fabric.errors import FabricError, RuntimeFault

Convert = Callable[[Any], Any]


class Coder(NamedTuple):
    """How values of one type are written and read; None: as they are. `can_share`: equal values may be one object.
    `record`: the dataclass that values are of, where they are of one (or None)."""

    encode: Convert | None = None
    decode: Convert | None = None
    can_share: bool = True
    record: type | None = None


class Slot(NamedTuple):
    """One field of a class. `default` makes the value of a field that was not written; None: it must have been."""

    name: str
    coder: Coder
    default: Callable[[], Any] | None


AS_IT_IS = Coder()
_PLAIN = (str, int, float, bool, type(None), object, Any)


def layout(kind: type, leave_out: Collection[str] = ()) -> tuple[Slot, ...]:
    """The fields of a dataclass, in the order of its constructor."""
    hints = get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init and field.name not in leave_out]
    return tuple(Slot(field.name, coder(hints[field.name]), default_of(field)) for field in fields)


def coder(kind: Any) -> Coder:
    """Raises: TypeError for a type that cannot be kept."""
    try:
        return _compiled(kind)
    except RecursionError:
        raise TypeError(f"{kind} does not belong in the journal: it is part of itself") from None


@functools.cache
def _compiled(kind: Any) -> Coder:
    if kind in _PLAIN:
        return AS_IT_IS
    if isinstance(kind, NewType):
        return coder(kind.__supertype__)
    origin = get_origin(kind) or kind
    if origin is Literal:
        return AS_IT_IS
    if origin in (Union, types.UnionType):
        return _union(kind)
    if isinstance(origin, type):
        made = _container(origin, get_args(kind)) or _record(origin)
        if made is not None:
            return made
    raise TypeError(f"{kind} does not belong in the journal")


def _container(origin: type, parts: tuple[Any, ...]) -> Coder | None:
    if origin in (collections.abc.Mapping, dict):
        key, value = parts or (str, Any)
        return _mapping(key, value, can_share=origin is not dict)
    if origin is list:
        return _array(list, coder(parts[0] if parts else Any), can_share=False)
    if origin is collections.abc.Sequence or (origin is tuple and (not parts or parts[-1] is Ellipsis)):
        return _array(tuple, coder(parts[0] if parts else Any))
    if origin is tuple:
        return _row(lambda *values: tuple(values), tuple(coder(part) for part in parts))
    return None


def _record(kind: type) -> Coder | None:
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return _row(kind, tuple(coder(hints[name]) for name in kind._fields))
    return None


def _union(kind: Any) -> Coder:
    """`X | None`, or several scalars."""
    inner = [coder(part) for part in get_args(kind) if part is not type(None)]
    if all(part is AS_IT_IS for part in inner):
        return AS_IT_IS
    if len(inner) > 1:
        raise TypeError(f"{kind} does not belong in the journal: which of them a value is cannot be told from its JSON")
    write, read, can_share, record = inner[0]
    return Coder(write and _unless_none(write), read and _unless_none(read), can_share, record)


def _unless_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _array(made: type, item: Coder, can_share: bool = True) -> Coder:
    write, read = item.encode, item.decode
    return Coder(
        list if write is None else lambda values: [write(value) for value in values],
        made if read is None else lambda values: made([read(value) for value in values]),
        can_share and item.can_share,
    )


def _row(make: Callable[..., Any], parts: tuple[Coder, ...]) -> Coder:
    """Positions with types of their own. An older, shorter row leaves the rest to `make`'s defaults; what is beyond is ignored."""
    writes = [(index, part.encode) for index, part in enumerate(parts) if part.encode]
    reads = [(index, part.decode) for index, part in enumerate(parts) if part.decode]
    size = len(parts)

    def write(values: Any) -> list[Any]:
        plain = list(values)
        for index, convert in writes:
            plain[index] = convert(plain[index])
        return plain

    def read(plain: list[Any]) -> Any:
        values = plain[:size]
        for index, convert in reads:
            if index < len(values):
                values[index] = convert(values[index])
        return make(*values)

    return Coder(write if writes else list, read, all(part.can_share for part in parts))


def _mapping(key: Any, value: Any, can_share: bool) -> Coder:
    of_key, of_value = coder(key), coder(value)
    write, read, can_share = of_value.encode, of_value.decode, can_share and of_value.can_share
    if _is_string(key):
        return Coder(
            dict if write is None else lambda mapping: {name: write(item) for name, item in mapping.items()},
            dict if read is None else lambda plain: {name: read(item) for name, item in plain.items()},
            can_share,
        )
    pair = _row(lambda *both: both, (of_key, of_value))
    write_pair, read_pair = pair.encode or list, pair.decode or tuple
    return Coder(
        lambda mapping: [write_pair(item) for item in mapping.items()],
        lambda plain: dict([read_pair(item) for item in plain]),
        can_share,
    )


def _is_string(kind: Any) -> bool:
    if isinstance(kind, NewType):
        return _is_string(kind.__supertype__)
    if get_origin(kind) is Literal:
        return all(isinstance(word, str) for word in get_args(kind))
    return kind is str


def _enum(kind: type[enum.Enum]) -> Coder:
    members = {member.value: member for member in kind}

    def read(value: Any) -> enum.Enum:
        if value not in members:
            raise newer(f"a {kind.__name__} {value!r}")
        return members[value]

    return Coder(lambda value: kind(value).value, read)


def _dataclass(kind: type) -> Coder:
    slots = layout(kind)
    names = tuple(slot.name for slot in slots)
    known = frozenset(names)
    values_of = values_getter(names)
    writes = [(slot.name, slot.coder.encode) for slot in slots if slot.coder.encode]
    reads = [(slot.name, slot.coder.decode) for slot in slots if slot.coder.decode]
    needed = [slot.name for slot in slots if slot.default is None]

    def write(value: Any) -> dict[str, Any]:
        plain = dict(zip(names, values_of(value), strict=True))
        for name, convert in writes:
            plain[name] = convert(plain[name])
        return plain

    def read(plain: dict[str, Any]) -> Any:
        given = plain.copy() if plain.keys() <= known else {name: plain[name] for name in names if name in plain}
        for name, convert in reads:
            if name in given:
                given[name] = convert(given[name])
        if len(given) < len(names) and (gaps := [name for name in needed if name not in given]):
            raise gap(kind, gaps)
        return kind(**given)

    is_frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return Coder(write, read, is_frozen and all(slot.coder.can_share for slot in slots), kind)


def values_getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """All fields of a value as a tuple, in one call."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def gap(kind: type, names: list[str]) -> RuntimeFault:
    """What was read lacks fields that have no default."""
    return RuntimeFault(f"a {kind.__name__} in the journal lacks {', '.join(names)}", code="journal", hint="is the file damaged?")


def default_of(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """Makes the value of a field that was not written; None: it must have been."""
    if field.default is not dataclasses.MISSING:
        value = field.default
        return lambda: value
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


def newer(what: str) -> FabricError:
    """The error of an older release that reads what a newer one wrote."""
    hint = "it was written by a newer release: run that one"
    return FabricError(f"the journal holds {what} that this version does not know", code="journal_newer", hint=hint)
