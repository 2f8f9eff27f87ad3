"""Requests are joined along axis 0 and told apart again; the choices around a call: inline, cache, counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import ModelError
from serve_apps.execution.cache import ResponseCache, bytes_of, digest_of
from serve_apps.execution.inline import InlineChoice
from serve_apps.execution.rows import join, key_and_rows, split
from serve_apps.execution.statistics import Statistics
from serve_apps.execution.target import run_calls
from serve_apps.tensors import InferRequest, Tensor


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_what_was_joined_is_told_apart(rows: list[int]) -> None:
    requests = [{"x": numpy.full((count, 3), number), "texts": [str(number)] * count, "scale": 2} for number, count in enumerate(rows)]
    assert len({key_and_rows(request)[0] for request in requests}) == 1
    assert [key_and_rows(request)[1] for request in requests] == rows
    joined = join(requests)
    assert joined["scale"] == 2
    for number, (x, texts) in enumerate(zip(split(joined["x"], rows), split(joined["texts"], rows), strict=True)):
        assert numpy.array_equal(x, requests[number]["x"])
        assert texts == requests[number]["texts"]


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ({"x": numpy.zeros((1, 3))}, {"x": numpy.zeros((5, 3))}, True),
        ({"x": numpy.zeros((1, 3))}, {"x": numpy.zeros((1, 4))}, False),
        ({"x": numpy.zeros((1, 3))}, {"x": numpy.zeros((1, 3), numpy.float32)}, False),
        ({"x": numpy.zeros((1, 3)), "k": 1}, {"x": numpy.zeros((1, 3)), "k": 2}, False),
        ({"x": numpy.zeros((1, 3)), "k": 1}, {"x": numpy.zeros((1, 3)), "k": True}, False),
        ({"x": numpy.zeros((1, 3)), "k": {"a": 1}}, {"x": numpy.zeros((1, 3)), "k": {"a": 1}}, False),
        ({"x": ["a"]}, {"x": ["b", "c"]}, True),
        ({"x": ["a"]}, {"y": ["a"]}, False),
    ],
)
def test_only_alike_requests_share_a_call(one: dict[str, Any], other: dict[str, Any], is_equal: bool) -> None:
    assert (key_and_rows(one)[0] == key_and_rows(other)[0]) == is_equal


def test_inputs_of_one_request_agree_on_their_rows() -> None:
    with pytest.raises(ModelError) as caught:
        key_and_rows({"x": numpy.zeros((2, 3)), "y": numpy.zeros((3, 3))})
    assert caught.value.code == "wrong_shape"


@dataclass
class Boxes:
    boxes: Any
    scores: Any


def test_mappings_tuples_and_dataclasses_are_told_apart_part_by_part() -> None:
    x = numpy.arange(3)
    assert [part["a"].tolist() for part in split({"a": x}, [1, 2])] == [[0], [1, 2]]
    assert [part[1].tolist() for part in split((x, x), [2, 1])] == [[0, 1], [2]]
    assert [part.scores.tolist() for part in split(Boxes(x, x), [2, 1])] == [[0, 1], [2]]


@pytest.mark.parametrize("result", [numpy.zeros(2), [1, 2], 7, "ab", None, numpy.float32(1)])
def test_a_batch_that_gives_other_than_one_row_each_is_refused(result: Any) -> None:
    with pytest.raises(ModelError) as caught:
        split(result, [1, 2])
    assert caught.value.code == "wrong_rows"


def test_in_a_failing_batch_each_request_is_run_alone() -> None:
    def call(x: Any) -> Any:
        if (x < 0).any():
            raise ValueError("negative")
        return x * 2

    ran = run_calls(call, [{"x": numpy.array([value])} for value in (1, -1, 3)], [1, 1, 1])
    assert [None if one.error else one.result.tolist() for one in ran.outcomes] == [[2], None, [6]]
    assert isinstance(ran.outcomes[1].error, ValueError)


def test_quick_calls_run_at_once_until_they_turn_slow_and_later_again() -> None:
    choice = InlineChoice(is_allowed=True)
    for _ in range(300):
        choice.note(0.0001, 0.0)
    assert choice.is_inline
    choice.note(0.001, 0.0)  # one slower call changes nothing, nor does a short pause of the machine
    choice.note(0.01, 1.0)
    assert choice.is_inline
    choice.note(0.1, 1.0)  # a long stall does
    assert not choice.is_inline
    for _ in range(300):
        choice.note(0.0001, 1.5)
    assert not choice.is_inline
    choice.note(0.0001, 2.5)
    assert choice.is_inline
    for _ in range(30):
        choice.note(0.001, 3.0)
    assert not choice.is_inline


def test_a_service_may_forbid_it() -> None:
    choice = InlineChoice(is_allowed=False)
    for _ in range(300):
        choice.note(0.0001, 0.0)
    assert not choice.is_inline


def test_the_cache_keeps_the_last_used_within_its_bytes_and_its_time() -> None:
    cache = ResponseCache(4 * 1512, ttl_s=10.0)
    for name in "abcd":
        cache.put(name.encode(), name, 1000, now_s=0.0)
    assert cache.get(b"a", 1.0) == "a"
    cache.put(b"e", "e", 1000, now_s=1.0)
    assert [cache.get(name.encode(), 1.0) for name in "abcde"] == ["a", None, "c", "d", "e"]
    assert cache.used_bytes == 4 * 1512
    cache.put(b"huge", "huge", 4000, now_s=1.0)
    assert cache.get(b"huge", 1.0) is None
    assert cache.get(b"a", 10.0) is None
    assert cache.get(b"e", 10.0) == "e"


def request_of(array: Any, datatype: str = "FP32", **more: Any) -> InferRequest:
    return InferRequest("m", (Tensor("x", datatype, array),), **more)


def test_equal_inputs_have_equal_digests_and_others_have_not() -> None:
    x = numpy.arange(4, dtype=numpy.float32)
    same = digest_of(request_of(x))
    assert digest_of(request_of(x.copy(), id="7", priority=1)) == same
    assert digest_of(request_of(numpy.repeat(x, 2)[::2])) == same
    others = [
        request_of(x + 1),
        request_of(x.reshape(2, 2)),
        request_of(x.view(numpy.int32), "INT32"),
        request_of(x, parameters={"k": 1}),
        request_of(numpy.array([b"ab", b"c"], dtype=object), "BYTES"),
        request_of(numpy.array([b"a", b"bc"], dtype=object), "BYTES"),
    ]
    assert len({digest_of(one) for one in others} | {same}) == 7
    assert bytes_of((Tensor("t", "BYTES", numpy.array([b"abc"], dtype=object)),)) == 11


def test_statistics_have_tritons_form() -> None:
    statistics = Statistics()
    statistics.note_call(4, (0.001, 0.002, 0.003))
    for _ in range(2):
        statistics.note_success(0.01, 0.004, (0.001, 0.002, 0.003))
    statistics.note_failure(0.5)
    shown = statistics.shown("m", "2")
    assert (shown["name"], shown["version"], shown["inference_count"], shown["execution_count"]) == ("m", "2", 4, 1)
    assert shown["inference_stats"]["success"] == {"count": 2, "ns": 20_000_000}
    assert shown["inference_stats"]["fail"] == {"count": 1, "ns": 500_000_000}
    assert shown["batch_stats"][0]["batch_size"] == 4
    assert shown["batch_stats"][0]["compute_infer"] == {"count": 1, "ns": 2_000_000}
    assert statistics.latency_s(0.95) == 0.01
