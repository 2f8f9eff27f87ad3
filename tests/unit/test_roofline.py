"""The roofline: its arithmetic, what a measured run corrects, and how near it comes to MLPerf's published results.

The last test needs MLPerf Inference v1.0's table (`FABRIC_DATA_DIR`, by default `shared/data` beside the repository).
"""

from __future__ import annotations

import csv
import math
import os
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.types import Estimate, Flavor
from pools.flavors import load_catalogue
from profiler.roofline import Cost, corrected, is_converted, memory_bytes_as, parts, predict, runs_as

DATA = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data")) / "mlperf" / "inference_v1.0_results.csv"
CATALOGUE = load_catalogue()
COST = Cost(8.2e9, 1e8, "fp32", 100_000_000, 150_000_000, 55)
COSTS = st.builds(
    Cost,
    st.floats(1e3, 1e15),
    st.floats(1e2, 1e12),
    st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    st.just(0),
    st.integers(0, 10**10),
    st.integers(0, 2000),
)
FLAVORS = st.sampled_from(sorted(CATALOGUE)).map(CATALOGUE.__getitem__)


@given(COSTS, FLAVORS)
def test_every_flavor_of_the_catalogue_has_a_prediction_with_its_doubt(cost: Cost, flavor: Flavor) -> None:
    found = predict(cost, flavor)
    assert found is not None
    assert found.run_s > 0
    assert found.log_sd >= 0.3
    assert found.num_runs == 0


@given(COSTS, FLAVORS, st.floats(1.0, 100.0))
def test_more_work_never_takes_less_time_and_more_units_never_more(cost: Cost, flavor: Flavor, more: float) -> None:
    base = predict(cost, flavor)
    larger = predict(Cost(cost.flops * more, cost.moved_bytes * more, cost.dtype, 0, 0, cost.num_kernels), flavor)
    wider = predict(cost, flavor, units=more)
    assert base is not None
    assert larger is not None
    assert wider is not None
    assert larger.run_s >= base.run_s >= wider.run_s


@given(COSTS, FLAVORS)
def test_no_prediction_beats_the_flavors_own_peaks(cost: Cost, flavor: Flavor) -> None:
    spent = parts(cost, flavor)
    assert spent is not None
    assert spent.run_s >= cost.flops / flavor.peak_flops[spent.dtype]
    assert spent.limit in ("compute", "memory", "launches")


@pytest.mark.parametrize(
    ("dtype", "flavor", "runs"),
    [
        ("fp32", "a100-80g", "tf32"),
        ("fp32", "v100", "fp32"),
        ("fp16", "k80", "fp32"),
        ("fp16", "tpu-v5e", "bf16"),
        ("fp32", "vck5000", "int8"),
        ("int8", "p100", "fp16"),
    ],
)
def test_a_model_runs_in_its_precision_or_the_nearest_that_there_is(dtype: str, flavor: str, runs: str) -> None:
    assert runs_as(dtype, CATALOGUE[flavor]) == runs


def test_a_smaller_precision_moves_and_holds_less_and_must_be_converted_to() -> None:
    assert memory_bytes_as(COST, "fp16") == COST.memory_bytes // 2
    assert is_converted("fp32", "int8")
    assert not is_converted("fp16", "fp32")
    assert not is_converted("fp32", "tf32")


def test_a_flavor_without_known_peaks_has_no_prediction() -> None:
    assert predict(COST, Flavor("x", "warm", "npu", "f", "NPU")) is None
    assert predict(COST, Flavor("x", "warm", "npu", "f", "NPU", peak_flops={"fp32": 1e12})) is None


def test_a_precision_that_the_flavor_lacks_is_doubted_more() -> None:
    own, foreign = predict(COST, CATALOGUE["t4"], dtype="int8"), predict(COST, CATALOGUE["t4"], dtype="bf16")
    assert own is not None
    assert foreign is not None
    assert foreign.log_sd > own.log_sd


# -- measured runs -----------------------------------------------------------------------------------------------------------


def prior() -> dict[str, Estimate]:
    return {name: found for name, flavor in CATALOGUE.items() if (found := predict(COST, flavor)) is not None}


def test_a_measured_flavor_keeps_its_figure_and_the_like_of_it_move_most() -> None:
    before = prior()
    after = corrected(before, {"t4": Estimate(before["t4"].run_s * 2, 0.05, 20)}, CATALOGUE)
    moved = {name: after[name].run_s / before[name].run_s for name in before}
    assert after["t4"] == Estimate(before["t4"].run_s * 2, 0.05, 20)
    assert 1.0 < moved["cpu"] < moved["l4"] < 2.0
    assert after["l4"].log_sd < before["l4"].log_sd
    assert all(after[name].log_sd <= before[name].log_sd + 1e-9 for name in before)


def test_a_run_as_predicted_moves_nothing_and_still_narrows_the_doubt() -> None:
    before = prior()
    after = corrected(before, {"t4": before["t4"]._replace(num_runs=5, log_sd=0.05)}, CATALOGUE)
    assert after["a100-80g"].run_s == pytest.approx(before["a100-80g"].run_s)
    assert after["a100-80g"].log_sd < before["a100-80g"].log_sd


def test_nothing_measured_changes_nothing() -> None:
    assert corrected(prior(), {}, CATALOGUE) == prior()


@given(st.lists(st.sampled_from(sorted(CATALOGUE)), min_size=1, max_size=5, unique=True), st.floats(-3, 3))
def test_runs_on_any_flavors_leave_sound_figures(names: list[str], shift: float) -> None:
    before = prior()
    after = corrected(before, {name: Estimate(before[name].run_s * math.exp(shift), 0.1, 3) for name in names}, CATALOGUE)
    assert set(after) == set(before)
    assert all(math.isfinite(found.run_s) and found.run_s > 0 and found.log_sd > 0 for found in after.values())


# -- against published results -----------------------------------------------------------------------------------------------

# FLOPs per input (a multiply-add is two) and parameters. Source: V. J. Reddi et al., "MLPerf Inference Benchmark", ISCA 2020, table 1.
# BERT-large: 24 layers of 12 h^2 s + 2 h s^2 multiply-adds for h = 1024 and s = 384; Offline submissions drop the padding; what
# is left was taken as 180 tokens, an own estimate of the mean of SQuAD's inputs.
# Activations, at int8: own count of the graphs' results, written once and read once.
INPUTS = {
    "resnet50": (8.2e9, 25.6e6, 22e6, 55),
    "ssd-resnet34": (433e9, 36.3e6, 600e6, 60),
    "ssd-mobilenet": (2.47e9, 6.91e6, 40e6, 50),
}
BERT = {"Offline": (110e9, 340e6, 110e6, 200), "SingleStream": (246e9, 340e6, 230e6, 200)}
MACHINES = {
    "NVIDIA A100-SXM-80GB": "a100-80g",
    "NVIDIA A100-SXM4-40GB": "a100-40g",
    "NVIDIA A10": "a10",
    "NVIDIA T4": "t4",
    "Xilinx VCK5000": "vck5000",
}
OFFLINE_BATCH = 64


@pytest.mark.skipif(not DATA.is_file(), reason=f"no MLPerf table at {DATA} (set FABRIC_DATA_DIR)")
def test_published_results_lie_within_the_doubt_of_the_predictions() -> None:
    seen = published()
    errors = {}
    for (scenario, machine, model), true_s in seen.items():
        flops, weights, moved, kernels = BERT[scenario] if model == "bert-99" else INPUTS[model]
        batch = OFFLINE_BATCH if scenario == "Offline" else 1
        found = predict(Cost(flops * batch, weights + moved * batch, "int8", 0, 0, kernels), CATALOGUE[machine])
        assert found is not None
        errors[(scenario, machine, model)] = (math.log(true_s * batch / found.run_s), found.log_sd)
    for row, (error, log_sd) in sorted(errors.items()):
        print(*row, f"true / predicted {math.exp(error):.2f}, sd {log_sd:.2f}")
    factor = math.exp(statistics.median(abs(error) for error, _ in errors.values()))
    within = statistics.fmean(abs(error) <= log_sd for error, log_sd in errors.values())
    print(f"median factor {factor:.2f}; within one sd {within:.2f} of {len(errors)}")
    assert len(errors) >= 25
    assert factor <= 1.35
    assert statistics.fmean(abs(error) <= 2 * log_sd for error, log_sd in errors.values()) >= 0.95
    assert within >= 0.68


def published() -> dict[tuple[str, str, str], float]:
    """(scenario, flavor, model) -> seconds of one sample on one accelerator: the median of the closed division's valid results."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            machine = MACHINES.get(row["accelerator"])
            if machine is None or row["division"] != "closed" or row["model"] not in (*INPUTS, "bert-99"):
                continue
            if row["scenario"] == "Offline" and row["samples_per_s"]:
                found[("Offline", machine, row["model"])].append(max(int(row["accelerators_per_node"]), 1) / float(row["samples_per_s"]))
            elif row["scenario"] == "SingleStream" and row["p90_ns"]:
                found[("SingleStream", machine, row["model"])].append(float(row["p90_ns"]) / 1e9)
    return {key: statistics.median(values) for key, values in found.items()}
