"""How a value of one Python type stands as a tensor, and as JSON: one form for each kind of type that `predict` may name.

A form checks what came (`check`), turns a tensor into the value that `predict` gets (`value_of`), a result into an array
(`array_of`), and a JSON value into what `predict` gets (`from_json`). Values are never converted from one kind into another:
text is no number, and a float no integer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy
import orjson

from fabric.errors import ModelError
from serve_apps.simple_json import to_json
from serve_apps.tensors import DTYPES, Array, Tensor

ANY_SHAPE = (-1,)
_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_NUMBERS = _INTEGERS | {"FP16", "FP32", "FP64"}


class Form(Protocol):
    """One kind of value. `shape`: sizes, -1 for any."""

    @property
    def datatype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def check(self, tensor: Tensor) -> None:
        """Raises: `ModelError` (`wrong_dtype`, `wrong_shape`)."""
        ...

    def value_of(self, tensor: Tensor) -> Any: ...

    def array_of(self, value: Any) -> Array: ...

    def from_json(self, value: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """An array, passed as it is. `takes_any_dtype`, `takes_any_shape`: the annotation said nothing of it."""

    datatype: str = "FP32"
    shape: tuple[int, ...] = ANY_SHAPE
    takes_any_dtype: bool = False
    takes_any_shape: bool = False

    def check(self, tensor: Tensor) -> None:
        if tensor.datatype != self.datatype and not self.takes_any_dtype:
            raise wrong("dtype", tensor, f"{self.datatype}[{_sizes(self.shape)}]")
        if not self.takes_any_shape:
            shape, given = self.shape, tensor.array.shape
            if len(shape) != len(given) or any(size not in (-1, there) for size, there in zip(shape, given, strict=True)):
                raise wrong("shape", tensor, f"{self.datatype}[{_sizes(shape)}]")

    def value_of(self, tensor: Tensor) -> Array:
        return tensor.array

    def array_of(self, value: Any) -> Array:
        array = numpy.asarray(value)
        if self.takes_any_dtype or (self.datatype == "BYTES" and array.dtype.kind in "USO"):
            return array
        return array.astype(DTYPES[self.datatype], copy=False)

    def from_json(self, value: Any) -> Any:
        """Raises: `ModelError` (`wrong_dtype`, `wrong_shape`)."""
        try:
            array = numpy.asarray(value, dtype=None if self.takes_any_dtype else DTYPES[self.datatype])
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"no array of {self.datatype}: {error}", code="wrong_dtype") from None
        if self.datatype == "BYTES" and not self.takes_any_dtype:
            array = _objects([_bytes(item) if isinstance(item, str) else item for item in array.ravel().tolist()]).reshape(array.shape)
        self.check(Tensor("value", self.datatype, array))
        return array


@dataclass(frozen=True, slots=True)
class TextForm:
    """`str` or `bytes`: BYTES of one element."""

    is_text: bool
    datatype: str = "BYTES"
    shape: tuple[int, ...] = (1,)

    def check(self, tensor: Tensor) -> None:
        _check_one(tensor, frozenset({"BYTES"}), "BYTES[1]")

    def value_of(self, tensor: Tensor) -> Any:
        return _text(tensor.array.item(), tensor.name) if self.is_text else _bytes(tensor.array.item())

    def array_of(self, value: Any) -> Array:
        return _objects([_bytes(value)])

    def from_json(self, value: Any) -> Any:
        return value.encode() if not self.is_text and isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class NumberForm:
    """`int`, `float` or `bool`: one element. `taken`: the datatypes that lose nothing in kind."""

    kind: Callable[[Any], Any]
    datatype: str
    taken: frozenset[str]
    shape: tuple[int, ...] = (1,)

    def check(self, tensor: Tensor) -> None:
        _check_one(tensor, self.taken, f"{self.datatype}[1]")

    def value_of(self, tensor: Tensor) -> Any:
        return self.kind(tensor.array.item())

    def array_of(self, value: Any) -> Array:
        return numpy.array([value], dtype=DTYPES[self.datatype])

    def from_json(self, value: Any) -> Any:
        return value


@dataclass(frozen=True, slots=True)
class ListForm:
    """A list of text, bytes or numbers: one axis of any length."""

    item: TextForm | NumberForm
    shape: tuple[int, ...] = ANY_SHAPE

    @property
    def datatype(self) -> str:
        return self.item.datatype

    def check(self, tensor: Tensor) -> None:
        taken = self.item.taken if isinstance(self.item, NumberForm) else frozenset({"BYTES"})
        if tensor.datatype not in taken:
            raise wrong("dtype", tensor, f"{self.datatype}[?]")
        if tensor.array.ndim != 1 and tensor.array.size != max(tensor.array.shape, default=0):
            raise wrong("shape", tensor, f"{self.datatype}[?]")

    def value_of(self, tensor: Tensor) -> list[Any]:
        items = tensor.array.ravel().tolist()
        if isinstance(self.item, NumberForm):
            return [self.item.kind(item) for item in items]
        return [_text(item, tensor.name) if self.item.is_text else _bytes(item) for item in items]

    def array_of(self, value: Any) -> Array:
        if isinstance(self.item, NumberForm):
            return numpy.asarray(value, dtype=DTYPES[self.datatype])
        return _objects([_bytes(item) for item in value])

    def from_json(self, value: Any) -> Any:
        return [self.item.from_json(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class JsonForm:
    """Anything else: BYTES of one element that holds JSON. `adapter`: pydantic's, which checks and builds; None takes plain JSON."""

    adapter: Any = None
    datatype: str = "BYTES"
    shape: tuple[int, ...] = (1,)

    def check(self, tensor: Tensor) -> None:
        # What names no type takes plain tensors, too: a number or an array is then what `predict` gets.
        if self.adapter is not None:
            _check_one(tensor, frozenset({"BYTES"}), "BYTES[1] of JSON")

    def value_of(self, tensor: Tensor) -> Any:
        if self.adapter is None and (tensor.datatype != "BYTES" or tensor.array.size != 1):
            return tensor.array.item() if tensor.array.size == 1 and tensor.array.ndim <= 1 else tensor.array
        text = _bytes(tensor.array.item())
        try:
            value = orjson.loads(text)
        except ValueError:
            if self.adapter is None:
                return _text(text, tensor.name)  # plain text, sent to a `predict` that names no types
            raise ModelError(f"input {tensor.name!r} is not JSON", code="bad_json", name=tensor.name) from None
        return self.from_json(value)

    def array_of(self, value: Any) -> Array:
        plain = value if self.adapter is None else self.adapter.dump_python(value, mode="python")
        return _objects([orjson.dumps(to_json(plain))])

    def from_json(self, value: Any) -> Any:
        """Raises: `ModelError` (`wrong_value`)."""
        if self.adapter is None:
            return value
        try:
            return self.adapter.validate_python(value)
        except ValueError as error:
            raise ModelError(f"the value does not fit its type: {error}", code="wrong_value") from None


INT = NumberForm(int, "INT64", _INTEGERS)
FLOAT = NumberForm(float, "FP64", _NUMBERS)
BOOL = NumberForm(bool, "BOOL", frozenset({"BOOL"}))
TEXT = TextForm(is_text=True)
RAW = TextForm(is_text=False)
SCALARS: dict[Any, TextForm | NumberForm] = {int: INT, float: FLOAT, bool: BOOL, str: TEXT, bytes: RAW}


def wrong(what: str, tensor: Tensor, expected: str) -> ModelError:
    got = f"{tensor.datatype}[{_sizes(tensor.array.shape)}]"
    return ModelError(
        f"input {tensor.name!r} has the wrong {what}: expected {expected}, got {got}",
        code=f"wrong_{what}",
        name=tensor.name,
        expected=expected,
        got=got,
    )


def _check_one(tensor: Tensor, taken: frozenset[str], expected: str) -> None:
    if tensor.datatype not in taken:
        raise wrong("dtype", tensor, expected)
    if tensor.array.size != 1:
        raise wrong("shape", tensor, expected)


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join("?" if size < 0 else str(size) for size in shape)


def _text(item: Any, name: str) -> str:
    if isinstance(item, str):
        return item
    try:
        return _bytes(item).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"input {name!r} is not UTF-8 text: {error}", code="bad_text", name=name) from None


def _bytes(item: Any) -> bytes:
    return item.encode() if isinstance(item, str) else bytes(item)


def _objects(items: list[Any]) -> Array:
    array = numpy.empty(len(items), dtype=object)
    array[:] = items
    return array
