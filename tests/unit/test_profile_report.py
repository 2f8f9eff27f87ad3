"""What `fabric profile` answers: figures for each flavor from findings, the table, and the picture's arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.config import FabricConfig
from fabric.errors import ModelError, UserError
from fabric.profiling.findings import Findings, Measured
from fabric.profiling.forecast import Situation, report
from fabric.profiling.picture import SUFFIXES, check_picture, draw, lines_of, spread
from fabric.profiling.report import format_report, quantity, size
from fabric.profiling.target import read_target
from fabric.types import Fingerprint, Resources, Variant
from pools.flavors import load_catalogue
from profiler.estimate import Measured as Seen
from profiler.estimate import TaskProfile
from profiler.model_facts import ModelFacts, Tensor
from profiler.roofline import Cost

CATALOGUE = load_catalogue()
COST = Cost(8.2e9, 1.3e8, "fp32", 102_000_000, 140_000_000, 55)
VISION = Fingerprint("cv", "inference", ("cv +4: vision model (conv2d)",))
RAN = Measured("ok", (0.21, 0.2, 0.2, 0.19, 0.2), 0.19, 200_000_000, 60_000_000)
MODEL = Findings(VISION, ModelFacts("onnx", (Tensor("x", "float32", (1, 3, 224, 224)),), COST, 25_600_000), COST, RAN)


def situation(**changes: Any) -> Situation:
    return replace(Situation(CATALOGUE, tuple(CATALOGUE), "cpu-avx512"), **changes)


def rows_of(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["flavor"]: row for row in form["flavors"]}


def test_every_flavor_has_a_row_and_what_ran_here_is_marked_measured() -> None:
    rows = rows_of(report("m.onnx", "onnx", MODEL, situation()))
    assert set(rows) == set(CATALOGUE)
    assert rows["cpu-avx512"]["source"] == "measured"
    assert rows["cpu-avx512"]["runs"] == 5
    assert rows["cpu-avx512"]["run_s"] == pytest.approx(0.2)
    assert {row["source"] for name, row in rows.items() if name != "cpu-avx512"} == {"predicted"}
    assert all(row["run_log_sd"] > 0.2 for row in rows.values() if row["source"] == "predicted")


def test_what_ran_here_corrects_other_cpus_more_than_gpus() -> None:
    slow = replace(MODEL, measured=replace(RAN, walls_s=(2.0,) * 5))
    plain, after = (rows_of(report("m", "onnx", found, situation())) for found in (replace(MODEL, measured=Measured()), slow))
    assert after["cpu"]["run_s"] / plain["cpu"]["run_s"] > after["t4"]["run_s"] / plain["t4"]["run_s"] > 1.0


def test_another_precision_is_predicted_from_the_run_and_nothing_is_called_measured() -> None:
    own, half = (report("m", "onnx", MODEL, situation(dtype=dtype)) for dtype in (None, "fp16"))
    assert {row["source"] for row in half["flavors"]} == {"predicted"}
    assert half["measured"]["run_s"] == own["measured"]["run_s"]
    assert rows_of(half)["v100"]["dtype"] == "fp16"
    assert rows_of(half)["v100"]["run_s"] < rows_of(own)["v100"]["run_s"]
    assert rows_of(half)["cpu-avx512"]["run_s"] == pytest.approx(0.2)  # it has no fp16 of its own


def test_what_ran_here_is_no_twins_figure_although_a_twin_stands_for_its_flavor() -> None:
    row = rows_of(report("m", "onnx", MODEL, situation(twins=frozenset({"cpu-avx512"}))))["cpu-avx512"]
    assert row["note"] == "here"
    assert row["run_s"] == pytest.approx(0.2)


def test_a_cost_is_of_a_thousand_calls_on_the_units_that_were_asked_for() -> None:
    row = rows_of(report("m", "onnx", MODEL, situation(num_cpus=4)))["cpu-avx512"]
    price = CATALOGUE["cpu-avx512"].usd_per_h
    assert price is not None
    assert row["units"] == 4
    assert row["usd_per_1000"] == pytest.approx(1000 * 0.2 * 4 * price / 3600)


def test_an_unknown_price_is_null_and_never_cheapest() -> None:
    form = report("m", "onnx", MODEL, situation())
    assert rows_of(form)["vck5000"]["usd_per_1000"] is None
    assert form["cheapest"] not in ("vck5000", "gaudi2")
    assert form["flavors"][0]["flavor"] == form["cheapest"]


def test_what_does_not_fit_has_no_figures_and_says_why() -> None:
    large = replace(COST, memory_bytes=60 * 2**30)
    rows = rows_of(report("m", "onnx", replace(MODEL, cost=large, measured=Measured()), situation()))
    assert rows["t4"]["run_s"] is None
    assert "does not fit: needs 60 GiB" in rows["t4"]["note"]
    assert rows["a100-80g"]["run_s"] is not None


def test_without_runs_or_flops_there_are_no_figures_at_all() -> None:
    form = report("x:f", "callable", Findings(VISION), situation())
    assert form["flavors"] == []
    assert form["cheapest"] is None
    assert "no times: it was not run" in format_report(form)


def test_a_run_that_was_killed_leaves_no_figure() -> None:
    killed = Findings(VISION, measured=Measured("timeout", problem="killed at its cap of 5 s"))
    form = report("x:f", "callable", killed, situation())
    assert form["measured"]["outcome"] == "timeout"
    assert form["flavors"] == []
    assert "killed at its cap of 5 s" in format_report(form)


def test_python_code_gets_accelerators_only_where_something_in_it_can_use_one() -> None:
    ran = Findings(VISION, measured=RAN)
    assert {row["kind"] for row in report("x:f", "callable", ran, situation())["flavors"]} == {"cpu"}
    rows = rows_of(report("x:f", "callable", replace(ran, library="torch"), situation()))
    assert rows["a100-80g"]["run_s"] < rows["cpu"]["run_s"]
    assert rows["a100-80g"]["run_log_sd"] > 0.8
    assert rows["a100-80g"]["note"] == "if it is written for it"


def test_a_model_of_operations_that_no_accelerator_runs_is_shown_on_cpus_alone() -> None:
    assert MODEL.facts is not None
    forest = replace(MODEL, facts=replace(MODEL.facts, cpu_only=("TreeEnsembleClassifier",)))
    form = report("m.onnx", "onnx", forest, situation())
    assert {row["kind"] for row in form["flavors"]} == {"cpu"}
    assert "no accelerator is shown: none runs TreeEnsembleClassifier" in form["notes"]


def ran_on_t4(run_s: float) -> TaskProfile:
    variant = Variant("default", "gpu", Resources(num_gpus=1))
    return TaskProfile("f@1", VISION, {"default": variant}, {(2, "default", "t4"): Seen(20.0, math.log(run_s), 0.01, 20, 0)})


def test_stored_runs_of_the_fabric_count_and_those_of_a_twin_teach_nothing() -> None:
    stored = ran_on_t4(0.004)
    plain = rows_of(report("f", "task", Findings(cost=COST), situation()))
    real = rows_of(report("f", "task", Findings(cost=COST), situation(stored=stored)))
    twin = rows_of(report("f", "task", Findings(cost=COST), situation(stored=stored, twins=frozenset({"t4"}))))
    assert real["t4"]["run_s"] == twin["t4"]["run_s"] == pytest.approx(0.004)
    assert twin["t4"]["note"] == "on a twin"
    assert real["l4"]["run_s"] != plain["l4"]["run_s"]
    assert twin["l4"]["run_s"] == plain["l4"]["run_s"]


def test_the_table_fits_its_terminal_and_says_where_figures_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = format_report(report("m.onnx", "onnx", MODEL, situation()))
    table = [line for line in text.splitlines() if line.startswith(("hot", "warm", "cold"))]
    assert len(table) == len(CATALOGUE)
    assert max(map(len, table)) <= 100
    assert "measured, 5 runs: here" in text
    assert "8.2 GFLOP and 124 MiB moved per call" in text
    assert "within the doubt of it" in text


def test_a_narrow_terminal_loses_the_rate_and_keeps_where_a_figure_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = format_report(report("m.onnx", "onnx", MODEL, situation())).splitlines()
    assert next(line for line in lines if line.startswith("tier")).split()[-1] == "from"
    assert not any("calls/s" in line for line in lines)
    assert max(len(line) for line in lines if line.startswith(("hot", "warm", "cold"))) <= 80
    assert sum(line.endswith("predicted") for line in lines) > 10


@pytest.mark.parametrize(("number", "shown"), [(704e6, "704 M"), (8.2e9, "8.2 G"), (12, "12 "), (1.5e15, "1.5 P"), (2300, "2.3 k")])
def test_quantities_have_prefixes(number: float, shown: str) -> None:
    assert quantity(number) == shown


def test_sizes_have_units() -> None:
    assert [size(n) for n in (12, 2048, 5 * 2**20, 3 * 2**30, None)] == ["12 B", "2 KiB", "5 MiB", "3 GiB", "-"]


# -- targets -------------------------------------------------------------------------------------------------------------------


def test_a_target_is_told_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.onnx", "w.PT", "train.py"):
        (tmp_path / name).write_bytes(b"x")
    kinds = {
        word: read_target(word).kind for word in ("m.onnx", "w.PT", "train.py", "pkg.mod:fn", "pkg:Class.method", "embed", "embed@1f2e")
    }
    assert list(kinds.values()) == ["onnx", "torch", "script", "callable", "callable", "task", "task"]


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("none.onnx", "unknown_target"),
        ("dir", "unknown_target"),
        ("notes.txt", "unknown_format"),
        ("bare", "unknown_format"),
        ("a b", "unknown_target"),
    ],
)
def test_what_is_no_target_is_refused_with_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    for name in ("notes.txt", "bare"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        read_target(word)
    assert caught.value.code == code
    assert "module:function" in str(caught.value.hint)


def test_an_empty_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ModelError) as caught:
        read_target(str(tmp_path / "m.onnx"))
    assert caught.value.code == "empty_file"


# -- the picture ----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 1.0), max_size=30))
def test_labels_stand_apart_in_their_order_and_within_the_picture(places: list[float]) -> None:
    moved = spread(sorted(places, reverse=True), 0.03, 0.0, 1.0)
    assert len(moved) == len(places)
    assert all(-1e-9 <= place <= 1.0 + 1e-9 for place in moved)
    assert all(above - below >= 0.03 - 1e-9 for above, below in itertools.pairwise(moved))


def test_labels_that_are_apart_stay_where_they_are() -> None:
    assert spread([0.9, 0.5, 0.1], 0.03, 0.0, 1.0) == pytest.approx([0.9, 0.5, 0.1])


def test_a_line_is_a_flavors_roof_and_its_points_speed_is_flops_over_time() -> None:
    form = report("m.onnx", "onnx", MODEL, situation())
    lines = {line.name: line for line in lines_of(form, CATALOGUE)}
    assert lines["v100"].ridge == pytest.approx(15.7e12 / 900e9)
    assert lines["v100"].roof(1.0) == pytest.approx(900e9)
    assert lines["v100"].roof(1e4) == pytest.approx(15.7e12)
    assert lines["cpu-avx512"].is_measured
    assert lines["cpu-avx512"].reached_flops == pytest.approx(COST.flops / 0.2, rel=0.01)
    assert lines["vck5000"].intensity == pytest.approx(4 * COST.intensity)


def test_what_ran_on_a_twin_is_predicted_on_the_picture() -> None:
    form = report("m.onnx", "onnx", MODEL, situation(stored=ran_on_t4(50.0), twins=frozenset({"t4"})))
    (row,) = [row for row in form["flavors"] if row["flavor"] == "t4"]
    (line,) = [line for line in lines_of(form, CATALOGUE) if line.name == "t4"]
    assert (row["run_s"], row["source"], line.is_measured) == (pytest.approx(50.0), "measured", False)
    assert line.run_s < 0.1 and line.reached_flops < line.peak_flops


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_a_picture_is_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / f"roofline{suffix}"
    draw(report("m.onnx", "onnx", MODEL, situation()), FabricConfig(), path)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_without_flops_there_is_no_picture_and_why(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        draw(report("x:f", "callable", Findings(VISION, measured=RAN), situation()), FabricConfig(), tmp_path / "a.png")
    assert caught.value.code == "no_roofline"


def test_a_picture_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        check_picture(tmp_path / "a.jpeg")
    assert caught.value.code == "unknown_format"
    monkeypatch.setattr("fabric.profiling.picture.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        check_picture(tmp_path / "a.png")
    assert caught.value.code == "missing_package"
