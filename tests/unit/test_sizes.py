"""Size buckets: cheap, monotonous, and never iterating what they measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.sizes import UNKNOWN, bucket_of, size_bytes


class ObjectRef:
    """Ray's is told by its name alone, so that sizes need no Ray."""


class Opaque:
    pass


@pytest.mark.parametrize(
    ("num_bytes", "bucket"),
    [(0, 0), (256, 0), (257, 1), (1024, 1), (1025, 2), (4096, 2), (4097, 3), (16384, 3), (2**20, 6), (2**30, 11)],
)
def test_a_bucket_is_a_power_of_four_of_the_bytes(num_bytes: int, bucket: int) -> None:
    assert bucket_of((bytes(num_bytes) if num_bytes < 2**20 else np.empty(num_bytes, np.uint8),), {}) == bucket


@given(st.integers(0, 2**16), st.integers(0, 2**16))
def test_more_bytes_are_never_in_a_lower_bucket(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert bucket_of((b"x" * low,), {}) <= bucket_of((b"x" * high,), {})


@pytest.mark.parametrize(
    ("value", "num_bytes"),
    [
        (7, 8),
        (None, 8),
        (3.5, 8),
        ("abcd", 4),
        (b"abcd", 4),
        (bytearray(5), 5),
        (np.zeros((10, 3), np.float32), 120),
        ([1] * 100, 800),
        ([np.zeros(1000, np.uint8)] * 5, 5000),
        ({"a": "x" * 50, "b": ""}, 100),
        ((), 8),
        ([], 8),
        (Opaque(), 8),
        (memoryview(bytes(64)), 64),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers_count_their_length_times_their_first_element(value: Any, num_bytes: int) -> None:
    assert size_bytes(value) == num_bytes


def test_deep_nesting_ends_instead_of_recursing() -> None:
    nest: list[Any] = []
    nest.append(nest)
    assert size_bytes(nest) == 8


def test_nothing_is_iterated() -> None:
    class Stream(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise AssertionError("iterated")

    assert size_bytes(Stream([1, 2, 3])) == 8
    assert bucket_of((iter([b"x" * 10_000]),), {}) == 0


def test_the_size_behind_an_object_ref_is_unknown() -> None:
    assert bucket_of((b"x" * 5000, ObjectRef()), {}) == UNKNOWN
    assert bucket_of((), {"batch": ObjectRef()}) == UNKNOWN


def test_positional_and_keyword_arguments_count_alike() -> None:
    assert bucket_of((b"x" * 3000, b"y" * 3000), {}) == bucket_of((b"x" * 3000,), {"y": b"y" * 3000}) == 3
