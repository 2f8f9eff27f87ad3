"""Jobs as Gavel's generator draws them (OSDI'20, `scheduler/utils.py: generate_job`, commit c4fa4009): same distributions, same
order of draws from the same seeded generators, so a seed names the same instance as in Gavel's own simulator.

Durations are V100 times: 10^U(1.5,3) minutes (80 %) or 10^U(3,4) minutes (20 %); steps = duration x V100 throughput. Deadlines are
{1.2, 2, 10} x the duration, in thirds. Arrivals are Poisson; the first job comes at 0.
"""

from __future__ import annotations

import ast
import json
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FLAVORS = ("v100", "p100", "k80")
GCP_USD_PER_H: Mapping[str, float] = {"v100": 0.74, "p100": 0.43, "k80": 0.135}
"""Prices of one accelerator-hour that Gavel's simulator uses for GCP."""

DISTRIBUTED = (
    [f"ResNet-18 (batch size {size})" for size in (16, 32, 64, 128, 256)]
    + [f"ResNet-50 (batch size {size})" for size in (16, 32, 64, 128)]
    + [f"Transformer (batch size {size})" for size in (16, 32, 64, 128, 256)]
    + [f"LM (batch size {size})" for size in (5, 10, 20, 40, 80)]
)
SINGLE = [f"Recommendation (batch size {size})" for size in (512, 1024, 2048, 4096, 8192)] + ["A3C", "CycleGAN"]
JOB_TYPES = DISTRIBUTED + SINGLE

Throughputs = Mapping[tuple[str, str, int], float]
"""(flavor, job type, accelerators) -> steps per second alone."""


@dataclass(frozen=True, slots=True)
class GavelJob:
    """`duration_s`: time on V100s. `rates`: flavor -> steps per second with `gpus` accelerators, for flavors that can run it."""

    num: int
    job_type: str
    gpus: int
    steps: float
    arrival_s: float
    duration_s: float
    deadline_s: float | None
    rates: Mapping[str, float]


def data_dir() -> Path:
    """`FABRIC_DATA_DIR`, or `shared/data` beside the repository."""
    return Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))


def load_throughputs(name: str = "simulation_throughputs.json") -> Throughputs:
    """Rows of jobs that run alone. Raises: FileNotFoundError where Gavel's data are absent."""
    table = json.loads((data_dir() / "gavel" / name).read_text())
    rows: dict[tuple[str, str, int], float] = {}
    for flavor in FLAVORS:
        for key, value in table[flavor].items():
            job_type, gpus = ast.literal_eval(key)
            rows[flavor, job_type, gpus] = value["null"]
    return rows


def generate(
    throughputs: Throughputs, *, num_jobs: int, lam_s: float, seed: int, multi_gpu: bool = False, with_deadlines: bool = True
) -> list[GavelJob]:
    """`num_jobs` jobs, `lam_s` seconds apart on average. With `multi_gpu` 70/10/15/5 % ask for 1/2/4/8 accelerators."""
    job_rng, arrival_rng, slo_rng = random.Random(seed + 2), random.Random(seed + 3), random.Random(seed + 6)
    jobs, arrival_s = [], 0.0
    for num in range(num_jobs):
        gpus = _draw_gpus(job_rng)
        duration_s = _draw_duration_s(job_rng)
        gpus = gpus if multi_gpu else 1
        job_type = job_rng.choice(JOB_TYPES)
        while gpus > 1 and job_type not in DISTRIBUTED:
            job_type = job_rng.choice(JOB_TYPES)
        deadline_s = arrival_s + _draw_slo(slo_rng) * duration_s if with_deadlines else None
        rates = {flavor: throughputs.get((flavor, job_type, gpus), 0.0) for flavor in FLAVORS}
        rates = {flavor: rate for flavor, rate in rates.items() if rate > 0}
        jobs.append(GavelJob(num, job_type, gpus, duration_s * rates["v100"], arrival_s, duration_s, deadline_s, rates))
        if lam_s > 0:
            arrival_s += -math.log(1.0 - arrival_rng.random()) * lam_s
    return jobs


def _draw_gpus(rng: random.Random) -> int:
    share = rng.uniform(0, 1)
    if 0.7 <= share <= 0.8:
        return 2
    if 0.8 <= share <= 0.95:
        return 4
    return 8 if share >= 0.95 else 1


def _draw_duration_s(rng: random.Random) -> float:
    is_long = rng.random() >= 0.8
    exponent: float = rng.uniform(3, 4) if is_long else rng.uniform(1.5, 3)
    return float(60 * 10**exponent)


def _draw_slo(rng: random.Random) -> float:
    share = rng.uniform(0, 1)
    if share < 0.33:
        return 1.2
    return 2.0 if share < 0.67 else 10.0
