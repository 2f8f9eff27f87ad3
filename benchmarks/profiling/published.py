"""Shared by the benchmarks of prediction: the published tables, the error figures of a split, the specs of cards beyond the catalogue."""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fabric.throughputs import Throughputs, read_throughputs
from fabric.types import Flavor
from pools.flavors import load_catalogue
from profiler.tables import gavel_rows, mlperf_rows, read_mlperf
from profiler.transfer import Forecast, Row

DEVICES = ("k80", "p100", "v100")


class Held(NamedTuple):
    """A row that was held out, and what was forecast of it."""

    row: Row
    forecast: Forecast

    @property
    def error(self) -> float:
        """Of the throughput: |predicted / true - 1|, the prediction being the median."""
        return abs(math.exp(self.row.log_s - self.forecast.mean_log) - 1.0)

    @property
    def deviations(self) -> float:
        return abs(self.row.log_s - self.forecast.mean_log) / self.forecast.log_sd


def figures(held: Sequence[Held]) -> dict[str, float]:
    """Mean and median error, the mean doubt, and how many lie within one and two deviations (68 and 95 % of a normal one)."""
    return {
        "mape": statistics.fmean(one.error for one in held),
        "median": statistics.median(one.error for one in held),
        "log_sd": statistics.fmean(one.forecast.log_sd for one in held),
        "within_1_sd": statistics.fmean(one.deviations < 1.0 for one in held),
        "within_2_sd": statistics.fmean(one.deviations < 2.0 for one in held),
        "num": len(held),
    }


def data_file(*parts: str) -> Path:
    """A file below `FABRIC_DATA_DIR`, or `shared/data` beside the repository. Ends the process where it is absent."""
    root = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
    path = root.joinpath(*parts)
    if not path.is_file():
        sys.exit(f"skipped: no {'/'.join(parts)} in {root} (set FABRIC_DATA_DIR)")
    return path


def throughputs_of(table: str) -> Throughputs:
    """Gavel's, of consolidated jobs."""
    return read_throughputs(data_file("gavel", table), DEVICES)


def single_gpu_rows(table: str) -> list[Row]:
    """Gavel's 26 job types on one accelerator; a cell where it could not run is missing."""
    return gavel_rows({key: rate for key, rate in throughputs_of(table).items() if key[2] == 1})


def inference_rows() -> list[Row]:
    """MLPerf Inference v1.0: model by accelerator, the median of the submissions."""
    return mlperf_rows(read_mlperf(data_file("mlperf", "inference_v1.0_results.csv")), lambda name: SAME_CARD.get(name, name))


SAME_CARD = {"NVIDIA A100-SXM4-40GB": "NVIDIA A100-SXM-40GB", "NVIDIA A100-PCIe": "NVIDIA A100-PCIe-40GB"}
"""One card under two names would be predicted from itself."""


def cards() -> dict[str, Flavor]:
    """The flavors of the table by their names there: from the catalogue where it has them, else from the data sheets below."""
    catalogue = load_catalogue()
    found = {name: catalogue[flavor] for name, flavor in IN_CATALOGUE.items()}
    found |= {name: _card(name, *specs) for name, specs in SPECS.items()}
    found |= {name: _slice(found[card], name, compute, memory) for name, (card, compute, memory) in SLICES.items()}
    return found


def chip_of(accelerator: str) -> str:
    """Cards and slices of one chip."""
    return next((chip for chip in CHIPS if chip in accelerator), accelerator)


CHIPS = ("A100", "A30", "Centaur", "Cloud AI 100", "Xavier")
IN_CATALOGUE = {
    "NVIDIA A100-SXM-80GB": "a100-80g",
    "NVIDIA A100-SXM-40GB": "a100-40g",
    "NVIDIA A10": "a10",
    "NVIDIA T4": "t4",
    "Xilinx VCK5000": "vck5000",
    "Xilinx Alveo U250": "alveo-u250",
}
SPECS: dict[str, tuple[float, float | None, float]] = {
    # NVIDIA A100 Tensor Core GPU data sheet (June 2020), PCIe card.
    "NVIDIA A100-PCIe-40GB": (624.0, 312.0, 1555.0),
    # NVIDIA A30 and A40 data sheets, dense.
    "NVIDIA A30": (330.0, 165.0, 933.0),
    "NVIDIA A40": (299.3, 149.7, 696.0),
    # NVIDIA Quadro RTX 8000 data sheet; int8 of TU102: twice its fp16 (Turing whitepaper).
    "NVIDIA Quadro RTX 8000": (261.0, 130.5, 672.0),
    # NVIDIA Jetson AGX Xavier and Xavier NX data sheets: GPU and DLAs together.
    "NVIDIA AGX Xavier": (32.0, 16.0, 137.0),
    "NVIDIA Xavier NX": (21.0, 10.5, 59.7),
    # Qualcomm, Hot Chips 33 (2021): TOPS at 69, 20 and 12 W; one memory system.
    "QUALCOMM Cloud AI 100 PCIe HHHL": (363.0, None, 136.5),
    "QUALCOMM Cloud AI 100 DM.2": (197.0, None, 136.5),
    "QUALCOMM Cloud AI 100 DM.2e": (149.0, None, 136.5),
    # Henry et al., High-Performance Deep-Learning Coprocessor Integrated into x86 SoC, ISCA 2020: 4,096 int8 lanes, 102 GB/s.
    "Centaur Integrated AI Coprocessor (2.5GHz)": (20.5, None, 102.4),
    "Centaur Integrated AI Coprocessor (2.0GHz)": (16.4, None, 102.4),
}
"""Name -> int8 TOPS, fp16 TFLOP/s, GB/s. Of Neuchips RecAccel nothing is known."""
SLICES = {
    "NVIDIA A100-SXM-80GB 1g.10gb": ("NVIDIA A100-SXM-80GB", 1 / 7, 1 / 8),
    "NVIDIA A30 1g.3gb": ("NVIDIA A30", 1 / 4, 1 / 4),
}
"""MIG: the share of the card's compute and memory (NVIDIA MIG user guide)."""


def _card(name: str, int8_tops: float, fp16_tflops: float | None, gb_per_s: float) -> Flavor:
    peaks = {"int8": int8_tops * 1e12} | ({"fp16": fp16_tflops * 1e12} if fp16_tflops else {})
    return Flavor(name, "warm", "accelerator", name, "GPU", bandwidth_bytes_per_s=gb_per_s * 1e9, peak_flops=peaks)


def _slice(card: Flavor, name: str, compute_frac: float, memory_frac: float) -> Flavor:
    peaks = {dtype: compute_frac * peak for dtype, peak in card.peak_flops.items()}
    bandwidth = memory_frac * (card.bandwidth_bytes_per_s or 0.0)
    return Flavor(name, card.tier, card.kind, card.family, card.resource, bandwidth_bytes_per_s=bandwidth, peak_flops=peaks)


def without(rows: Iterable[Row], held: Iterable[Row]) -> list[Row]:
    gone = set(held)
    return [row for row in rows if row not in gone]
