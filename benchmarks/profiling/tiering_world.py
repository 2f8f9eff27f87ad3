"""What `tiering.py` runs on: pools and prices from files, service times from MLPerf, training rates from Gavel.

Service times, per (accelerator, model): MLPerf Inference v1.0, closed division, medians over submissions, per accelerator. A batch of n
takes a + b n: b is one over the Offline throughput, a + b the p90 latency of SingleStream. Where nobody submitted SingleStream (data centre
cards, CPUs) the p90 latency under the Server load stands for it. That is too slow for a request alone, so it never flatters those flavors.
Training rates: Gavel's `simulation_throughputs.json`, jobs alone on one accelerator. What a table does not have is not made up: A100
and the inference cards do not train here, V100, P100 and K80 do not serve (MLPerf v1.0 has no results of them).
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scheduling"))

from gavel_jobs import FLAVORS as TRAINERS
from gavel_jobs import JOB_TYPES, GavelJob, data_dir, generate, load_throughputs

from fabric.batching import ServiceTime, service_time
from fabric.tiering import Supply
from fabric.types import Domain
from pools.flavors import load_catalogue, lookup

MLPERF_NAMES = {
    "a100-80g": "NVIDIA A100-SXM-80GB",
    "a100-40g": "NVIDIA A100-SXM4-40GB",
    "a10": "NVIDIA A10",
    "t4": "NVIDIA T4",
    "cloud-ai-100": "QUALCOMM Cloud AI 100 PCIe HHHL",
    "vck5000": "Xilinx VCK5000",
    "cpu-vnni": "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz",
}
"""Flavor -> MLPerf's name of the accelerator, or of the host's CPU where there is none: then a unit is the whole node of two sockets."""
SINGLE_STREAM_NAMES = {"cloud-ai-100": "QUALCOMM Cloud AI 100 DM.2", "a100-40g": "NVIDIA A100-PCIe-40GB"}
"""Where only a sibling with the same chip has SingleStream results; it is slower, which does not flatter either."""
CPU_UNITS = {"cpu-vnni": 160}
"""vCPUs of such a node."""
PRICE_ROWS = {"a100-80g": "A100-80GB", "a100-40g": "A100-40GB", "v100": "v100", "p100": "p100", "k80": "k80"}
"""Flavor -> its row of prices.csv. V100, P100 and K80 from one source and of one kind (Gavel's GCP prices): a cheap spot price of one
beside a list price of another would be a saving on paper only. Other flavors have the catalogue's price: the row A10 is a sixth of a
card."""
MODEL_DOMAINS: dict[str, Domain] = {
    "resnet50": "cv",
    "ssd-resnet34": "cv",
    "ssd-mobilenet": "cv",
    "3d-unet-99": "cv",
    "bert-99": "nlp",
    "rnnt": "nlp",
}


@dataclass(frozen=True)
class World:
    """`times`: model -> flavor -> service time. `rates`: job type -> flavor -> steps per second. `supply`: hot first, then warm, cold."""

    supply: tuple[Supply, ...]
    times: Mapping[str, Mapping[str, ServiceTime]]
    rates: Mapping[str, Mapping[str, float]]
    num_jobs: int
    seeds: tuple[int, ...]
    server_checks: tuple[tuple[str, str, float, float], ...]

    def usd_per_h(self, flavor: str) -> float | None:
        return next(one.usd_per_h for one in self.supply if one.flavor.name == flavor)

    def units(self, *, hot_only: bool = False) -> dict[str, int]:
        return {one.flavor.name: one.units for one in self.supply if one.units > 0 and (one.flavor.tier == "hot" or not hot_only)}


def read_world(pools: Path, prices: Path) -> World:
    """Raises: SystemExit where data are absent, or a pool or model is unknown to the tables."""
    if not (data_dir() / "gavel").is_dir():
        sys.exit(f"skipped: no data in {data_dir()} (set FABRIC_DATA_DIR)")
    said = json.loads(pools.read_text())
    catalogue = load_catalogue()
    rows = _price_rows(prices)
    supply = []
    for name, units in said["units"].items():
        flavor = lookup(catalogue, name)
        listed = flavor.usd_per_h if flavor.usd_per_h is None else flavor.usd_per_h * CPU_UNITS.get(name, 1)
        supply.append(Supply(flavor, int(units), rows.get(PRICE_ROWS.get(name, ""), listed)))
    supply.sort(key=lambda one: ("hot", "warm", "cold").index(one.flavor.tier))
    table = _mlperf_rows()
    present = [name for name in said["units"] if name in MLPERF_NAMES]
    times = {model: {name: found for name in present if (found := _time(table, name, model))} for model in said["models"]}
    throughputs = load_throughputs()
    rates = {
        kind: {name: rate for name in said["units"] if name in TRAINERS and (rate := throughputs.get((name, kind, 1), 0.0)) > 0}
        for kind in JOB_TYPES
    }
    checks = tuple(_server_checks(table, times))
    return World(tuple(supply), times, rates, int(said.get("jobs", 80)), tuple(said["seeds"]), checks)


def domain_of(job_type: str) -> Domain:
    """The domain of a Gavel job type by its name: image models, translation and language models, the rest."""
    if job_type.startswith(("ResNet", "CycleGAN")):
        return "cv"
    return "nlp" if job_type.startswith(("Transformer", "LM")) else "other"


def draw_jobs(num: int, seed: int, units: int, load: float, domains: Sequence[Domain]) -> list[GavelJob]:
    """Jobs as Gavel draws them, of these domains only, without deadlines; their arrivals are stretched such that they offer
    exactly `load` of `units` V100s until the last one comes."""
    drawn = [
        job
        for job in generate(load_throughputs(), num_jobs=4 * num, lam_s=3600.0, seed=seed, with_deadlines=False)
        if domain_of(job.job_type) in domains
    ]
    jobs = drawn[:num]
    window_s = sum(job.duration_s for job in jobs) / (load * units)
    stretch = window_s / jobs[-1].arrival_s
    return [
        GavelJob(number, job.job_type, 1, job.steps, job.arrival_s * stretch, job.duration_s, None, job.rates)
        for number, job in enumerate(jobs)
    ]


def _price_rows(path: Path) -> dict[str, float]:
    with path.open(newline="") as file:
        return {row["accelerator"]: float(row["usd_per_gpu_hour"]) for row in csv.DictReader(file) if "1/6" not in row["kind"]}


Row = Mapping[str, Any]


def _mlperf_rows() -> dict[tuple[str, str, str], list[Row]]:
    """(accelerator or CPU, model, scenario) -> its valid rows of the closed division."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    with (data_dir() / "mlperf" / "inference_v1.0_results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["division"] == "closed" and row["valid"] == "VALID":
                is_cpu = row["accelerator"] in ("-", "N/A") and row["host_cpus_per_node"] == "2"
                found[row["host_cpu"] if is_cpu else row["accelerator"], row["model"], row["scenario"].lower()].append(row)
    return found


def _per_unit(rows: Sequence[Row]) -> float | None:
    figures = [float(row["samples_per_s"]) / max(1, int(row["accelerators_per_node"] or 0)) for row in rows if row["samples_per_s"]]
    return statistics.median(figures) if figures else None


def _latency_s(rows: Sequence[Row], column: str) -> float | None:
    figures = [float(row[column]) * 1e-9 for row in rows if row[column]]
    return statistics.median(figures) if figures else None


def _time(table: Mapping[tuple[str, str, str], list[Row]], flavor: str, model: str) -> ServiceTime | None:
    name = MLPERF_NAMES[flavor]
    items_per_s = _per_unit(table.get((name, model, "offline"), []))
    single_s = _latency_s(table.get((SINGLE_STREAM_NAMES.get(flavor, name), model, "singlestream"), []), "p90_ns")
    if single_s is None:
        single_s = _latency_s(table.get((name, model, "server"), []), "p90_ns")
    return service_time(single_s, items_per_s) if items_per_s and single_s else None


def _server_checks(
    table: Mapping[tuple[str, str, str], list[Row]], times: Mapping[str, Mapping[str, ServiceTime]]
) -> Sequence[tuple[str, str, float, float]]:
    """(flavor, model, Server requests per second of one unit, the p99 that was measured under them in seconds)."""
    found = []
    for model, flavors in times.items():
        for flavor in flavors:
            rows = table.get((MLPERF_NAMES[flavor], model, "server"), [])
            rate, p99_s = _per_unit(rows), _latency_s(rows, "p99_ns")
            if rate and p99_s:
                found.append((flavor, model, rate, p99_s))
    return found
