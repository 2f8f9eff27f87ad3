"""Tensor elements in JSON: what is taken, and what is refused with which code."""

from __future__ import annotations

from typing import Any

import numpy
import orjson
import pytest

from fabric.errors import UserError
from serve_apps.oip.json_data import read_data, write_data
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import DTYPES
from tests.unit.oip.examples import EXAMPLES

WITH_A_JSON_FORM = [datatype for datatype in DTYPES if datatype not in ("FP16", "BF16")]

TAKEN: list[tuple[str, tuple[int, ...], Any, list[Any]]] = [
    ("FP32", (2, 2), [1, 2.5, -3, 4], [1.0, 2.5, -3.0, 4.0]),
    ("FP32", (2, 2), [[1, 2.5], [-3, 4]], [1.0, 2.5, -3.0, 4.0]),
    ("FP32", (4,), [[1, 2], [3, 4]], [1.0, 2.0, 3.0, 4.0]),
    ("FP32", (1, 1, 1), [[[7]]], [7.0]),
    ("FP32", (), [7], [7.0]),
    ("FP32", (0, 2), [], []),
    ("FP32", (2, 0), [[], []], []),
    ("FP64", (1,), [1e308], [1e308]),
    ("BOOL", (2,), [True, False], [True, False]),
    ("UINT64", (1,), [2**64 - 1], [2**64 - 1]),
    ("INT64", (2,), [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
    ("INT8", (1, 2), [[-128, 127]], [-128, 127]),
    ("BYTES", (3,), ["", "é", "a\x00"], [b"", "é".encode(), b"a\x00"]),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "elements"), TAKEN)
def test_flat_and_nested_data_are_taken(datatype: str, shape: tuple[int, ...], data: Any, elements: list[Any]) -> None:
    array = read_data("x", datatype, shape, data)
    assert (array.dtype, array.shape) == (DTYPES[datatype], shape)
    assert array.reshape(-1).tolist() == elements


REFUSED: list[tuple[str, tuple[int, ...], Any, str]] = [
    ("FP32", (2,), [1], "wrong_data_size"),
    ("FP32", (1,), [1, 2], "wrong_data_size"),
    ("FP32", (2**31 - 1, 2), [1, 2], "wrong_data_size"),
    ("FP32", (3,), [[1, 2], [3]], "ragged_data"),
    ("FP32", (3,), [[1, 2], 3], "ragged_data"),
    ("FP32", (2,), [1, [2]], "ragged_data"),
    ("FP32", (1,), "x", "wrong_value"),
    ("FP32", (1,), None, "wrong_value"),
    ("FP32", (1,), {"0": 1}, "wrong_value"),
    ("FP32", (1,), [True], "wrong_value"),
    ("FP32", (1,), ["1"], "wrong_value"),
    ("FP32", (1,), [None], "wrong_value"),
    ("FP32", (1,), [{}], "wrong_value"),
    ("FP32", (1,), [1e39], "wrong_value"),
    ("INT32", (1,), [1.0], "wrong_value"),
    ("INT32", (2,), [1, True], "wrong_value"),
    ("INT32", (1,), [2**31], "wrong_value"),
    ("INT8", (1,), [128], "wrong_value"),
    ("UINT8", (1,), [-1], "wrong_value"),
    ("UINT64", (1,), [-1], "wrong_value"),
    ("INT64", (1,), [2**63], "wrong_value"),
    ("BOOL", (1,), [1], "wrong_value"),
    ("BYTES", (1,), [1], "wrong_value"),
    ("BYTES", (1,), [b"x"], "wrong_value"),
    ("FP16", (1,), [1.0], "no_json_form"),
    ("BF16", (1,), [1.0], "no_json_form"),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "code"), REFUSED)
def test_wrong_data_is_refused_with_a_code(datatype: str, shape: tuple[int, ...], data: Any, code: str) -> None:
    with pytest.raises(UserError) as refused:
        read_data("x", datatype, shape, data)
    assert refused.value.code == code


def test_very_deep_nesting_is_refused() -> None:
    data: Any = [1]
    for _ in range(100):
        data = [data]
    with pytest.raises(UserError, match="deep"):
        read_data("x", "FP32", (1,), data)


@pytest.mark.parametrize("datatype", [datatype for datatype in WITH_A_JSON_FORM if datatype != "BYTES"])
def test_numbers_come_back_from_json_as_they_were(datatype: str) -> None:
    array = EXAMPLES[datatype]
    if array.dtype.kind == "f":
        array = numpy.where(numpy.isfinite(array), array, 0).astype(array.dtype)
    text = orjson.dumps(write_data("x", datatype, array), option=orjson.OPT_SERIALIZE_NUMPY)
    assert read_data("x", datatype, array.shape, orjson.loads(text)).tobytes() == array.tobytes()


def test_answers_are_flat_and_what_json_lacks_is_null() -> None:
    array = numpy.array([[1.5, numpy.nan], [numpy.inf, -numpy.inf]], numpy.float32)
    assert orjson.dumps(write_data("x", "FP32", array), option=orjson.OPT_SERIALIZE_NUMPY) == b"[1.5,null,null,null]"


def test_an_array_that_is_not_contiguous_is_written_in_row_major_order() -> None:
    array = numpy.arange(6, dtype=numpy.int32).reshape(2, 3).T
    assert write_data("x", "INT32", array).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_are_not_sent_as_json(datatype: str) -> None:
    with pytest.raises(UserError, match="not supported"):
        write_data("x", datatype, EXAMPLES[datatype])


def test_bytes_that_are_not_text_are_not_sent_as_json() -> None:
    with pytest.raises(UserError) as refused:
        write_data("x", "BYTES", objects([b"\xff"], (1,)))
    assert refused.value.hint == "ask for it with binary_data: true"
