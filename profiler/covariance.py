"""How much the log run time of one task on one flavor says of another's: the covariance of a Gaussian process.

A cell is a task on a flavor. Its log time is a base, plus what its family, its input size and the task itself add, less the speed of the
flavor: half the log ratio of peak FLOP/s and half that of bandwidth, and deviations from that by flavor, by family, by family and size, and
by task. Each deviation is normal around 0 and is a term here; cells that share it teach each other. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.types import Flavor

Floats = NDArray[np.float64]

REFERENCE_FLOPS = 10e12
REFERENCE_BANDWIDTH = 600e9
ROOFLINE_SHARE = 0.5
"""Prior: log speed follows peak and bandwidth by half each, their geometric mean."""
SIZE_SHARE = 0.5
"""Prior: log time grows by so much per log input size; 0 is all overhead, 1 is all work."""
FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "int8": ("int8", "fp8", "fp16", "bf16", "fp32"),
    "fp8": ("fp8", "int8", "fp16", "bf16", "fp32"),
    "fp16": ("fp16", "bf16", "tf32", "fp32", "int8"),
    "bf16": ("bf16", "fp16", "tf32", "fp32", "int8"),
    "tf32": ("tf32", "fp32", "bf16", "fp16", "int8"),
    "fp32": ("fp32", "tf32", "bf16", "fp16", "int8"),
    "fp64": ("fp64", "fp32", "bf16", "fp16", "int8"),
}
"""Which peak stands for a dtype that the catalogue does not give."""

FIXED = {"base": 4.0, "family": 4.0, "family_size": 0.25, "flavor": 0.25, "compute": 0.06, "bandwidth": 0.06}
"""Variances that one table cannot teach, as it has few families and flavors: task times span decades, a flavor's speed is known from its
data sheet to a factor of 1.6 (what MLPerf v1.0 shows)."""
UNKNOWN_FLAVOR_FACTOR = 9.0
"""So much more variance has a flavor of which no peak or no bandwidth is known: a factor of 4.5."""
TUNED = {
    "task": 0.02,
    "near": 0.1,
    "family_compute": 0.04,
    "family_bandwidth": 0.04,
    "family_flavor": 0.04,
    "near_speed": 0.04,
    "near_flavor": 0.02,
    "task_speed": 0.02,
    "cell": 0.01,
}
"""Variances before any table is seen; `profiler.tuning` fits them to the rows at hand. `near`: same family, sizes near each other."""
LEAST_CELL_VAR = 0.03**2
"""However alike its relatives, a cell that has not run may surprise by 3 %."""
LENGTH = 1.0
"""Sizes a factor of e apart still say much of each other."""
Spread = Mapping[str, float]
"""Variance of every tuned term, and `length`."""
DEFAULT: Spread = {**TUNED, "length": LENGTH}


@dataclass(frozen=True, slots=True)
class Cells:
    """Arrays of one length: codes of task, family and flavor; centred log size; log peak and bandwidth over the reference; `doubt`: the
    factor on the flavor's own variance."""

    task: NDArray[np.int64]
    family: NDArray[np.int64]
    flavor: NDArray[np.int64]
    size: Floats
    compute: Floats
    bandwidth: Floats
    doubt: Floats

    def mean(self) -> Floats:
        """Prior log seconds over the base."""
        return SIZE_SHARE * self.size - ROOFLINE_SHARE * (self.compute + self.bandwidth)


def joined(a: Cells, b: Cells) -> Cells:
    """Those of `a`, then those of `b`."""
    return Cells(*(np.concatenate((getattr(a, name), getattr(b, name))) for name in Cells.__slots__))


def specs_of(flavor: Flavor | None, dtype: str) -> tuple[float, float, float]:
    """Log peak FLOP/s and log bandwidth over the reference, and the factor on the flavor's own variance."""
    peaks = flavor.peak_flops if flavor is not None else {}
    peak = next((peaks[name] for name in FALLBACKS.get(dtype, FALLBACKS["fp32"]) if peaks.get(name, 0.0) > 0), 0.0)
    bandwidth = (flavor.bandwidth_bytes_per_s or 0.0) if flavor is not None else 0.0
    if peak <= 0 and bandwidth <= 0:
        return 0.0, 0.0, UNKNOWN_FLAVOR_FACTOR
    compute = np.log(peak / REFERENCE_FLOPS) if peak > 0 else np.log(bandwidth / REFERENCE_BANDWIDTH)
    return (
        float(compute),
        float(np.log(bandwidth / REFERENCE_BANDWIDTH)) if bandwidth > 0 else float(compute),
        1.0 if peak > 0 and bandwidth > 0 else UNKNOWN_FLAVOR_FACTOR,
    )


def fixed_part(a: Cells, b: Cells) -> Floats:
    """Covariance [len(a), len(b)] of the terms that are never tuned."""
    same_family = _same(a.family, b.family)
    part = FIXED["base"] + same_family * (FIXED["family"] + FIXED["family_size"] * _product(a.size, b.size))
    part += FIXED["flavor"] * _same(a.flavor, b.flavor) * np.sqrt(_product(a.doubt, b.doubt))
    part += FIXED["compute"] * _product(a.compute, b.compute) + FIXED["bandwidth"] * _product(a.bandwidth, b.bandwidth)
    return np.asarray(part)


def tuned_parts(a: Cells, b: Cells, length: float) -> list[Floats]:
    """The correlations [len(a), len(b)] of the terms of `TUNED`, in its order."""
    same_task, same_family, same_flavor = _same(a.task, b.task), _same(a.family, b.family), _same(a.flavor, b.flavor)
    compute, bandwidth = _product(a.compute, b.compute), _product(a.bandwidth, b.bandwidth)
    speed = 0.5 * (compute + bandwidth)
    near = same_family * np.exp(-0.5 * (np.subtract.outer(a.size, b.size) / length) ** 2)
    return [
        same_task,
        near,
        same_family * compute,
        same_family * bandwidth,
        same_family * same_flavor,
        near * speed,
        near * same_flavor,
        same_task * speed,
        same_task * same_flavor,
    ]


def covariance(a: Cells, b: Cells, spread: Spread) -> Floats:
    """[len(a), len(b)]"""
    total = fixed_part(a, b)
    for name, part in zip(TUNED, tuned_parts(a, b, spread["length"]), strict=True):
        total += spread[name] * part
    return total


def _same(a: NDArray[np.int64], b: NDArray[np.int64]) -> Floats:
    return np.equal.outer(a, b).astype(np.float64)


def _product(a: Floats, b: Floats) -> Floats:
    return np.multiply.outer(a, b)
