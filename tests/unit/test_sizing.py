"""What a call asks for, from what others needed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.sizes import size_step
from profiler.needs import Needs
from profiler.sizing import Request, Sizing, cheapest, student_t

MB = 10**6
GB = 10**9
PROBE, MOST = 2 * GB, 8 * GB


def request(needs: Needs, input_bytes: int) -> Request:
    return Sizing(needs, probe_bytes=PROBE, most_bytes=MOST).request(input_bytes)


def seen(num_runs: int, *, noise: float = 0.1, seed: int = 0) -> Needs:
    rng, needs = random.Random(seed), Needs()
    for _ in range(num_runs):
        size = round(MB * 2 ** rng.uniform(0, 7))
        needs.add(size, round((100 * MB + 30 * size) * math.exp(rng.gauss(0, noise))))
    return needs


def test_what_has_never_run_is_a_probe_with_a_cap() -> None:
    first = request(Needs(), 10 * MB)
    assert first.memory_bytes == PROBE
    assert first.sum == "probe, nothing is known of its need: 2 GB"


def test_the_sum_is_the_p95_of_the_runs_and_a_margin() -> None:
    needs = Needs(runs=[(100 * MB, round(GB * (3 + 0.01 * (i % 5)))) for i in range(41)])
    found = request(needs, 100 * MB)
    assert found.sum.startswith("p95 of 41 runs of 67 MB to 134 MB inputs: 3.1 GB + ")
    assert 3.04 * GB < found.memory_bytes < 3.5 * GB


def test_margins_shrink_with_runs() -> None:
    few, many = request(seen(5), 16 * MB), request(seen(120), 16 * MB)
    assert few.num_runs == 5
    assert many.memory_bytes < few.memory_bytes


def test_a_size_that_was_never_seen_gets_a_wider_margin() -> None:
    needs = seen(60)
    sizing = Sizing(needs, probe_bytes=PROBE, most_bytes=100 * GB)
    near, far = (sizing.request(size).memory_bytes / (100 * MB + 30 * size) for size in (32 * MB, 1000 * MB))
    assert far > near


def test_an_oom_is_not_repeated_by_inputs_as_large_and_leaves_smaller_ones_alone() -> None:
    needs = seen(40)
    before = request(needs, 4 * MB)
    asked = request(needs, 32 * MB).memory_bytes
    needs.add_oom(32 * MB, asked, asked + MB)
    assert request(needs, 32 * MB).memory_bytes >= min(2 * asked, MOST)
    assert request(needs, 33 * MB).memory_bytes > asked
    assert request(needs, 4 * MB).memory_bytes == pytest.approx(before.memory_bytes, rel=0.1)
    assert "ran out of memory" in request(needs, 32 * MB).sum


def test_once_the_need_is_known_the_floor_is_no_more_than_that() -> None:
    needs = seen(60)
    asked = request(needs, 32 * MB).memory_bytes
    needs.add_oom(32 * MB, asked, asked + MB)
    needs.add(32 * MB, round(1.2 * asked))
    assert 1.2 * asked < request(needs, 32 * MB).memory_bytes < 1.5 * asked


def test_a_floor_is_lowered_by_the_retry_even_where_two_readings_differ_a_little() -> None:
    needs = Needs()
    needs.add_oom(MB, GB, GB + 10 * MB)
    needs.add(MB, GB // 2)
    assert needs.floor_bytes(MB, MOST) == 2 * (GB + 10 * MB), "another call of that size says nothing of it"
    needs.add(MB, GB + 5 * MB)
    assert GB + 10 * MB < needs.floor_bytes(MB, MOST) < 1.1 * GB


def test_the_largest_node_is_asked_for_before_nothing_fits() -> None:
    needs = Needs()
    needs.add_oom(MB, 5 * GB, 5 * GB)
    assert request(needs, MB).memory_bytes == MOST
    needs.add_oom(MB, MOST, MOST)
    assert request(needs, MB).memory_bytes > MOST


def test_what_needs_more_than_the_largest_node_has_tries_all_of_that_first() -> None:
    needs = Needs(runs=[(100 * MB, 7 * GB + i * 100 * MB) for i in range(10)])
    found = request(needs, 300 * MB)
    assert found.memory_bytes == MOST
    assert found.sum.endswith(", the largest node has 8 GB")


def test_a_size_that_is_not_known_covers_all_that_were_seen() -> None:
    needs = seen(80)
    found = request(needs, -1)
    assert found.memory_bytes > request(needs, 8 * MB).memory_bytes
    assert found.sum.startswith("p95 of 80 runs with inputs of all sizes: ")


def test_the_level_is_the_one_that_costs_least() -> None:
    narrow, _ = cheapest(lambda level: math.exp(0.05 * student_t(level, 1e6)))
    wide, _ = cheapest(lambda level: math.exp(0.4 * student_t(level, 1e6)))
    assert narrow > wide  # where certainty is cheap more of it is bought


@pytest.mark.parametrize(("level", "dof", "expected"), [(0.95, 5, 2.015), (0.99, 3, 4.541), (0.99, 10, 2.764), (0.999, 30, 3.385)])
def test_student_t_is_near_the_table(level: float, dof: float, expected: float) -> None:
    assert student_t(level, dof) == pytest.approx(expected, rel=0.025)


def test_log_normal_needs_rarely_run_out_and_little_is_reserved() -> None:
    rng, needs, ooms, asked_sum, used_sum = random.Random(7), Needs(), 0, 0, 0
    for index in range(150):
        size = round(MB * 2 ** rng.uniform(0, 6))
        need = round((50 * MB + 20 * size) * math.exp(rng.gauss(0, 0.08)))
        while (asked := request(needs, size).memory_bytes) < need:
            ooms += index >= 5
            needs.add_oom(size, asked, asked)
        needs.add(size, need)
        if index >= 5:
            asked_sum, used_sum = asked_sum + asked, used_sum + need
    assert ooms <= 3
    assert asked_sum / used_sum < 1.4


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(-1, 10**10), st.integers(1, 10**11)), max_size=20),
    ooms=st.lists(st.tuples(st.integers(-1, 10**10), st.integers(1, 10**11)), max_size=4),
    size=st.integers(-1, 10**11),
)
def test_no_facts_break_it_and_no_oom_is_repeated(runs: list[tuple[int, int]], ooms: list[tuple[int, int]], size: int) -> None:
    needs = Needs()
    for run in runs:
        needs.add(*run)
    for at, failed in ooms:
        needs.add_oom(at, failed, failed)
    found = request(needs, size)
    assert found.memory_bytes > 0
    assert found.sum
    for at, failed in ooms:
        if at <= size or size < 0:
            assert found.memory_bytes > failed


@given(st.integers(-1, 10**12))
def test_steps_are_near_and_stay(size: int) -> None:
    step = size_step(size)
    assert size_step(step) == step
    assert abs(step - size) <= 0.025 * abs(size) + 1
