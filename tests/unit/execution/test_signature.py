"""What the annotations of `predict` mean as tensors, and the conversions both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import numpy
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from fabric.errors import ModelError, UserError
from serve_apps.declare import Shape
from serve_apps.signature import Signature, derive_signature, form_of
from serve_apps.tensors import InferRequest, RequestedOutput, Tensor


@dataclass
class Point:
    x: int
    y: int = 0


class Query(BaseModel):
    text: str
    top: int = 3


class Found(TypedDict):
    boxes: NDArray[numpy.float32]
    scores: NDArray[numpy.float64]


def signature_of(predict: Any) -> Signature:
    import typing

    return derive_signature(predict, typing.get_type_hints(predict, include_extras=True))


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (NDArray[numpy.float32], "x: FP32[?]"),
        (Annotated[NDArray[numpy.float16], Shape(None, 16)], "x: FP16[?, 16]"),
        (NDArray[numpy.uint8], "x: UINT8[?]"),
        (NDArray[numpy.bool_], "x: BOOL[?]"),
        (NDArray[numpy.str_], "x: BYTES[?]"),
        (str, "x: BYTES[1]"),
        (bytes, "x: BYTES[1]"),
        (int, "x: INT64[1]"),
        (float, "x: FP64[1]"),
        (bool, "x: BOOL[1]"),
        (list[str], "x: BYTES[?]"),
        (list[int], "x: INT64[?]"),
        (list[float], "x: FP64[?]"),
        (Point, "x: BYTES[1]"),
        (Query, "x: BYTES[1]"),
        (dict[str, int], "x: BYTES[1]"),
        (str | None, "x: BYTES[1]"),
        (Any, "x: BYTES[1]"),
    ],
)
def test_annotations_become_specs(annotation: Any, shown: str) -> None:
    def predict(x): ...  # type: ignore[no-untyped-def]

    inputs, outputs = derive_signature(predict, {"x": annotation, "return": annotation}).specs()
    assert str(inputs[0]) == shown
    assert str(outputs[0]) == shown.replace("x:", "output:")


def test_a_dtype_that_no_protocol_knows_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        form_of(NDArray[numpy.complex64])
    assert caught.value.code == "bad_annotation"


def bytes_tensor(name: str, *items: bytes) -> Tensor:
    return Tensor(name, "BYTES", numpy.array(items, dtype=object))


def tensor(name: str, datatype: str, value: Any, dtype: str) -> Tensor:
    return Tensor(name, datatype, numpy.array(value, dtype=dtype))


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (str, bytes_tensor("x", "žluť".encode()), "žluť"),
        (str, Tensor("x", "BYTES", numpy.array([[b"a"]], dtype=object)), "a"),
        (bytes, bytes_tensor("x", b"\xff\x00"), b"\xff\x00"),
        (int, tensor("x", "INT32", [3], "i4"), 3),
        (float, tensor("x", "FP32", [0.5], "f4"), 0.5),
        (float, tensor("x", "INT64", [2], "i8"), 2.0),
        (bool, tensor("x", "BOOL", [True], "bool"), True),
        (list[str], bytes_tensor("x", b"a", b"b"), ["a", "b"]),
        (list[int], tensor("x", "INT16", [1, 2], "i2"), [1, 2]),
        (Point, bytes_tensor("x", b'{"x": 1}'), Point(1)),
        (Query, bytes_tensor("x", b'{"text": "a", "top": 1}'), Query(text="a", top=1)),
        (dict[str, int], bytes_tensor("x", b'{"a": 1}'), {"a": 1}),
        (Any, bytes_tensor("x", b"[1, 2]"), [1, 2]),
        (Any, bytes_tensor("x", b"just text"), "just text"),
        (Any, tensor("x", "FP32", [1.5], "f4"), 1.5),
    ],
)
def test_tensors_become_arguments(annotation: Any, given: Tensor, value: Any) -> None:
    def predict(x): ...  # type: ignore[no-untyped-def]

    signature = derive_signature(predict, {"x": annotation})
    got = signature.arguments(InferRequest("m", (given,)))["x"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given", "code"),
    [
        (NDArray[numpy.float32], tensor("x", "FP64", [1.0], "f8"), "wrong_dtype"),
        (Annotated[NDArray[numpy.float32], Shape(None, 3)], tensor("x", "FP32", [[1.0]], "f4"), "wrong_shape"),
        (Annotated[NDArray[numpy.float32], Shape(None, 3)], tensor("x", "FP32", [1.0, 2.0, 3.0], "f4"), "wrong_shape"),
        (str, tensor("x", "FP32", [1.0], "f4"), "wrong_dtype"),
        (str, bytes_tensor("x", b"a", b"b"), "wrong_shape"),
        (str, bytes_tensor("x", b"\xff"), "bad_text"),
        (int, tensor("x", "FP32", [1.0], "f4"), "wrong_dtype"),
        (int, tensor("x", "BOOL", [True], "bool"), "wrong_dtype"),
        (list[str], Tensor("x", "BYTES", numpy.array([[b"a", b"b"], [b"c", b"d"]], dtype=object)), "wrong_shape"),
        (Query, bytes_tensor("x", b"{"), "bad_json"),
        (Query, bytes_tensor("x", b"{}"), "wrong_value"),
        (str, bytes_tensor("y", b"a"), "missing_input"),
    ],
)
def test_what_does_not_fit_is_named(annotation: Any, given: Tensor, code: str) -> None:
    def predict(x): ...  # type: ignore[no-untyped-def]

    with pytest.raises(ModelError) as caught:
        derive_signature(predict, {"x": annotation}).arguments(InferRequest("m", (given,)))
    assert caught.value.code == code


def test_an_unknown_input_is_answered_with_the_nearest_one() -> None:
    def predict(text: str, top: int = 3) -> str: ...

    signature = signature_of(predict)
    with pytest.raises(ModelError, match="no input 'tpo'") as caught:
        signature.arguments(InferRequest("m", (bytes_tensor("text", b"a"), bytes_tensor("tpo", b"1"))))
    assert (caught.value.code, caught.value.hint) == ("unknown_input", "did you mean top?")


def test_defaults_make_inputs_optional_and_parameters_fill_them() -> None:
    def predict(text: str, top: int = 3, near: Point | None = None) -> str: ...

    signature = signature_of(predict)
    assert [one.is_optional for one in signature.inputs] == [False, True, True]
    request = InferRequest("m", (bytes_tensor("text", b"a"),), parameters={"top": 1, "near": {"x": 2}, "other": 5})
    assert signature.arguments(request) == {"text": "a", "top": 1, "near": Point(2)}


def results(predict: Any, result: Any, *wanted: str) -> dict[str, tuple[str, Any]]:
    request = InferRequest("m", (), outputs=tuple(RequestedOutput(name) for name in wanted))
    return {one.name: (one.datatype, one.array.tolist()) for one in signature_of(predict).tensors(result, request)}


def test_results_become_the_declared_tensors() -> None:
    def plain(): ...  # type: ignore[no-untyped-def]
    def text() -> str: ...  # type: ignore[empty-body]
    def pieces() -> Iterator[str]: ...
    def later() -> AsyncIterator[str]: ...
    def arrays() -> tuple[NDArray[numpy.float32], NDArray[numpy.int64]]: ...
    def named() -> Found: ...  # type: ignore[empty-body]
    def single() -> NDArray[numpy.float32]: ...
    def query() -> Query: ...  # type: ignore[empty-body]

    assert results(plain, {"a": [1, 2]}) == {"output": ("BYTES", [b'{"a":[1,2]}'])}
    assert results(plain, numpy.array([1.5])) == {"output": ("FP64", [1.5])}
    assert results(plain, {"a": numpy.array([1], "i4"), "b": numpy.array([2], "u1")}) == {"a": ("INT32", [1]), "b": ("UINT8", [2])}
    assert results(plain, 3) == {"output": ("INT64", [3])}
    assert results(plain, "a") == {"output": ("BYTES", [b"a"])}
    assert results(text, "a") == results(pieces, "a") == results(later, "a") == {"output": ("BYTES", [b"a"])}
    assert results(arrays, (numpy.array([1.0]), numpy.array([2]))) == {"output_0": ("FP32", [1.0]), "output_1": ("INT64", [2])}
    assert results(named, {"boxes": [1.0], "scores": [0.5]}) == {"boxes": ("FP32", [1.0]), "scores": ("FP64", [0.5])}
    assert results(named, {"boxes": [1.0], "scores": [0.5]}, "scores") == {"scores": ("FP64", [0.5])}
    assert results(single, [1, 2]) == {"output": ("FP32", [1.0, 2.0])}
    assert results(query, Query(text="a")) == {"output": ("BYTES", [b'{"text":"a","top":3}'])}


def test_an_output_that_there_is_not_is_refused_before_the_model_runs() -> None:
    def predict(x: int) -> NDArray[numpy.float32]: ...

    request = InferRequest("m", (tensor("x", "INT64", [1], "i8"),), outputs=(RequestedOutput("otput"),))
    with pytest.raises(ModelError) as caught:
        signature_of(predict).arguments(request)
    assert (caught.value.code, caught.value.hint) == ("unknown_output", "did you mean output?")


@pytest.mark.parametrize("result", [object(), {"a": object()}, numpy.array([1j])])
def test_a_result_without_a_form_is_an_error_of_the_model(result: Any) -> None:
    def predict(): ...  # type: ignore[no-untyped-def]

    with pytest.raises(ModelError):
        results(predict, result)


def test_json_arguments_are_built_into_their_types() -> None:
    def predict(x: NDArray[numpy.float32], q: Query, n: int, anything): ...  # type: ignore[no-untyped-def]

    got = signature_of(predict).from_json({"x": [[1, 2]], "q": {"text": "a"}, "n": 2, "anything": {"k": 1}})
    assert got["x"].dtype == numpy.float32
    assert (got["q"], got["n"], got["anything"]) == (Query(text="a"), 2, {"k": 1})


@pytest.mark.parametrize(
    ("given", "code", "hint"),
    [
        ({"text": "a", "tpo": 1}, "unknown_argument", "did you mean top?"),
        ({"top": 1}, "missing_argument", "it takes: text, top, rows"),
        ({"text": "a", "rows": [[1, 2], [3]]}, "wrong_dtype", None),
        ({"text": "a", "rows": [1]}, "wrong_shape", None),
    ],
)
def test_json_arguments_that_do_not_fit_are_the_callers_mistake(given: dict[str, Any], code: str, hint: str | None) -> None:
    def predict(text: str, top: int = 3, rows: Annotated[NDArray[numpy.float32], Shape(None, 2)] | None = None) -> str: ...

    with pytest.raises(UserError) as caught:
        signature_of(predict).from_json(given)
    assert (caught.value.code, caught.value.hint) == (code, hint)
