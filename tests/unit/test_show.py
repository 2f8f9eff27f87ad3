"""Figures as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.show import duration, gib, percent_band, table, usd


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (float("inf"), "-"),
        (float("nan"), "-"),
        (0.0, "0"),
        (12e-6, "12 µs"),
        (0.0034, "3.4 ms"),
        (0.9999, "1 s"),
        (0.00099999, "1 ms"),
        (1.234, "1.23 s"),
        (59.99, "1 m 0 s"),
        (303, "5 m 3 s"),
        (3599.9, "59 m 59 s"),
        (7440, "2 h 4 m"),
        (360_000, "100 h 0 m"),
    ],
)
def test_durations_are_short_and_carry_their_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(1e-6, 3e6))
def test_no_duration_is_in_scientific_notation_or_longer_than_a_column(seconds: float) -> None:
    text = duration(seconds)
    assert re.fullmatch(r"[0-9.]+ (µs|ms|s)|\d+ m \d+ s|\d+ h \d+ m", text)
    assert len(text) <= 10


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0, "$0"), (12.345, "$12.35"), (0.01, "$0.01"), (0.0034, "$3.4e-03"), (2.5e-7, "$2.5e-07")],
)
def test_an_unknown_price_is_a_dash_and_never_zero(amount: float | None, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(("log_sd", "text"), [(0.0, "×1"), (0.26, "×1.3"), (1.7, "×5.5"), (1000.0, "×2.2e+04")])
def test_the_band_is_a_factor(log_sd: float, text: str) -> None:
    assert percent_band(log_sd) == text


@pytest.mark.parametrize(("num_bytes", "text"), [(None, "-"), (2**30, "1 GiB"), (80 * 2**30, "80 GiB"), (2**29, "0.5 GiB")])
def test_memory_is_in_gib(num_bytes: int | None, text: str) -> None:
    assert gib(num_bytes) == text


def test_numbers_are_flush_right_and_words_flush_left() -> None:
    lines = table(["name", "run"], [["a", "1 s"], ["longer", "10 ms"]], right=(1,)).splitlines()
    assert lines[0].split() == ["name", "run"]
    assert lines[-2:] == ["a          1 s", "longer   10 ms"]


def test_a_table_is_no_wider_than_the_terminal_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = table(["flavor", "note"], [["a100-80g", "word " * 40]])
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("word") == 40


def test_brackets_are_text_and_not_markup() -> None:
    assert "[bold]" in table(["x"], [["[bold]"]])
