"""What has not been measured is predicted from its relatives, and the doubt is told as wide as it is."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.types import Flavor
from profiler.transfer import Forecast, Row, Transfer


def flavor(name: str, tflops: float, gb_per_s: float) -> Flavor:
    return Flavor(name, "hot", "gpu", "gpu", "GPU", peak_flops={"fp32": tflops * 1e12}, bandwidth_bytes_per_s=gb_per_s * 1e9)


CATALOGUE = {
    each.name: each
    for each in (
        flavor("small", 4.0, 240.0),
        flavor("middle", 9.0, 700.0),
        flavor("big", 16.0, 900.0),
        flavor("large", 20.0, 1600.0),
        flavor("huge", 60.0, 3000.0),
    )
}


def table(seed: int, *, num_families: int = 5, per_family: int = 4, noise: float = 0.03) -> list[Row]:
    """A table of rank two: each family has a base and two slopes over peak and bandwidth, each flavor its own deviation."""
    rng = random.Random(seed)
    own = {name: rng.gauss(0.0, 0.2) for name in CATALOGUE}
    rows = []
    for family in range(num_families):
        base, compute, bandwidth = rng.gauss(0.0, 1.5), rng.gauss(0.5, 0.2), rng.gauss(0.5, 0.2)
        for number in range(per_family):
            for name, each in CATALOGUE.items():
                peak, wide = math.log(each.peak_flops["fp32"] / 10e12), math.log((each.bandwidth_bytes_per_s or 1.0) / 600e9)
                log_s = base + 0.5 * number - compute * peak - bandwidth * wide + own[name] + rng.gauss(0.0, noise)
                rows.append(Row(f"{family}/{number}", f"{family}", name, log_s, 5, math.log(2.0) * number, log_sd=noise))
    return rows


def errors_and_scores(seed: int) -> tuple[list[float], list[float]]:
    """Of one cell in four, predicted from the rest."""
    rows = table(seed)
    held = set(random.Random(seed).sample(rows, len(rows) // 4))
    transfer = Transfer.fitted(CATALOGUE, [row for row in rows if row not in held])
    found = [(row, transfer.predict(row.task, row.family, row.flavor, log_size=row.log_size)) for row in held]
    errors = [abs(row.log_s - forecast.mean_log) for row, forecast in found]
    return errors, [error / forecast.log_sd for error, (_, forecast) in zip(errors, found, strict=True)]


def test_a_table_of_low_rank_is_recovered_and_the_doubt_covers_what_is_left() -> None:
    runs = [errors_and_scores(seed) for seed in range(4)]
    errors, scores = np.concatenate([run[0] for run in runs]), np.concatenate([run[1] for run in runs])
    assert np.median(errors) < 0.05
    assert 0.60 <= (scores < 1.0).mean() <= 0.97
    assert (scores < 2.0).mean() >= 0.90


def test_without_rows_it_is_the_roofline_and_says_that_it_does_not_know() -> None:
    transfer = Transfer(CATALOGUE, [])
    small, big = (transfer.predict("t", "f", name) for name in ("small", "big"))
    assert small.mean_log - big.mean_log == pytest.approx(0.5 * math.log(16 / 4) + 0.5 * math.log(900 / 240))
    assert small.log_sd > 2.0


def test_one_run_elsewhere_leaves_the_doubt_of_the_flavors_ratio() -> None:
    transfer = Transfer(CATALOGUE, [Row("t", "f", "small", math.log(100.0), 20)])
    there, here = transfer.predict("t", "f", "big"), transfer.predict("t", "f", "small")
    assert 10.0 < math.exp(there.mean_log) < 60.0
    assert 0.4 < there.log_sd < 1.5
    assert math.exp(here.mean_log) == pytest.approx(100.0, rel=0.02)
    assert here.log_sd < 0.05


def test_what_others_took_on_a_flavor_corrects_its_data_sheet() -> None:
    """Everything runs four times slower on `big` than its peak says."""
    rows = [Row(f"{n}", f"{n}", name, n + (0.0 if name == "small" else 0.2), 9) for n in range(6) for name in ("small", "big")]
    rows.append(Row("new", "new", "small", 3.0, 9))
    before, after = Transfer(CATALOGUE, rows[-1:]), Transfer(CATALOGUE, rows)
    assert after.predict("new", "new", "big").mean_log == pytest.approx(3.2, abs=0.25)
    assert after.predict("new", "new", "big").log_sd < 0.7 * before.predict("new", "new", "big").log_sd


def test_a_run_moves_the_forecast_and_shrinks_the_doubt() -> None:
    rows = [row for row in table(1) if (row.task, row.flavor) != ("0/1", "huge")]
    blind = Transfer(CATALOGUE, rows).predict("0/1", "0", "huge", log_size=math.log(2.0))
    seen = Row("0/1", "0", "huge", blind.mean_log + 0.3, 10, math.log(2.0), log_sd=0.05)
    after = Transfer(CATALOGUE, [*rows, seen]).predict("0/1", "0", "huge", log_size=math.log(2.0))
    assert after.mean_log > blind.mean_log + 0.15
    assert after.log_sd < blind.log_sd


def test_a_flavor_that_the_catalogue_does_not_know_is_doubted_most() -> None:
    transfer = Transfer(CATALOGUE, table(2))
    known, unknown = (transfer.predict("0/0", "0", name, log_size=0.0) for name in ("huge", "quantum"))
    assert unknown.log_sd > 1.0
    assert unknown.log_sd > 3 * known.log_sd


def test_a_family_and_a_size_that_were_never_seen_are_doubted_more_than_their_neighbours() -> None:
    transfer = Transfer(CATALOGUE, table(3))
    near = transfer.predict("0/x", "0", "big", log_size=math.log(2.0) * 1.5)
    far = transfer.predict("0/x", "0", "big", log_size=20.0)
    stranger = transfer.predict("s", "stranger", "big")
    assert near.log_sd < 0.5 < far.log_sd
    assert stranger.log_sd > 1.0


@pytest.mark.parametrize(
    "bad",
    [
        Row("t", "f", "small", math.nan),
        Row("t", "f", "small", -math.inf),
        Row("t", "f", "small", 0.0, 0),
        Row("t", "f", "small", 0.0, -3),
        Row("t", "f", "small", 0.0, 1, math.inf),
        Row("t", "f", "small", 0.0, log_sd=math.nan),
    ],
)
def test_a_row_that_means_nothing_is_left_out_and_counted(bad: Row) -> None:
    good = Row("u", "f", "small", 1.0)
    transfer = Transfer(CATALOGUE, [good, bad])
    assert (transfer.rows, transfer.num_skipped) == ([good], 1)
    assert transfer.predict("t", "f", "small") == Transfer(CATALOGUE, [good]).predict("t", "f", "small")


def test_many_rows_are_thinned_to_those_with_most_runs() -> None:
    rows = [Row(f"{n}", "f", "small", 0.001 * n, n) for n in range(1, 501)]
    transfer = Transfer(CATALOGUE, rows)
    assert (len(transfer.rows), transfer.num_skipped, min(row.num_runs for row in transfer.rows)) == (400, 100, 101)


def test_one_wild_cell_widens_the_doubt_of_few() -> None:
    rows = table(4)
    wild = [row._replace(log_s=row.log_s + 2.0) if (row.task, row.flavor) == ("4/3", "huge") else row for row in rows]
    plain, hurt = (Transfer.fitted(CATALOGUE, each).predict("0/x", "0", "big", log_size=1.0) for each in (rows, wild))
    assert hurt.mean_log == pytest.approx(plain.mean_log, abs=0.1)
    assert hurt.log_sd < 4 * plain.log_sd


rows_of_any_kind = st.lists(
    st.builds(
        Row,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["f", "g"]),
        st.sampled_from(["small", "big", "nowhere"]),
        st.floats(-20, 20),
        st.integers(-1, 1000),
        st.none() | st.floats(-30, 30),
        st.sampled_from(["fp32", "int8", "odd"]),
        st.floats(0.0, 1.0),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(rows_of_any_kind)
def test_any_rows_give_finite_figures_and_no_certainty(rows: list[Row]) -> None:
    for transfer in (Transfer(CATALOGUE, rows), Transfer.fitted(CATALOGUE, rows)):
        for name in ("small", "huge", "nowhere"):
            found = transfer.predict("a", "f", name, log_size=1.0)
            assert isinstance(found, Forecast)
            assert math.isfinite(found.mean_log)
            assert 0.0 < found.log_sd < 100.0
