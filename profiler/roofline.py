"""Predicts the time of work whose FLOPs and bytes are known, on any flavor of the catalogue, before it has run there.

    time = max(FLOPs / (peak × what is reached of it), bytes / (bandwidth × what is reached of it)) + one call + kernels × launch

Times are medians of log-normal predictions. Two flavors' errors have causes in common (a model that no machine runs well, code
that one kind of machine runs badly), so that a run measured on one flavor also corrects the others: most those that are alike.

Invariants: no clock, no I/O; never a figure without its doubt; a flavor whose peak or bandwidth is not known has no prediction.

Source: S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009, for the model. What is reached of the peaks was set on
MLPerf Inference v1.0 closed Offline results of the A100 and the T4 for ResNet-50 and SSD-ResNet-34 alone (0.36 to 0.68 of the int8
peak), launches on their SingleStream results; `tests/unit/test_roofline.py` checks other machines and models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fabric.types import Estimate, Flavor

SHARED_LOG_SD = 0.3
"""The model's own part of the error: it is the same on every flavor."""
OWN_LOG_SD = 0.2
"""The flavor's own part, which only its own runs tell."""
LEAST_LOG_SD = 0.03
LEAST_NOISE_LOG_SD = 0.1
_KIND_COVARIANCE = 0.8
"""How much of a kind's doubt two of its flavors have in common."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call computes and moves. `flops` counts a multiply-add as two. `moved_bytes` is what passes between the chip and its
    memory where nothing stays in a cache: weights once, activations written and read. `memory_bytes` is the most that is held at
    once. `num_kernels` counts the operations that are launched one by one. `dtype` is that of most weights (`fp32`, `fp16`, …)."""

    flops: float
    moved_bytes: float
    dtype: str = "fp32"
    weights_bytes: int = 0
    memory_bytes: int = 0
    num_kernels: int = 0

    @property
    def intensity(self) -> float:
        """FLOPs per byte moved: the place on a roofline's horizontal axis."""
        return self.flops / max(self.moved_bytes, 1.0)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a kind of machine reaches of its peaks in ordinary, compiled inference, what a call and each of its kernels cost beyond
    that, and how far all of it differs (as a log sd)."""

    compute: float
    bandwidth: float
    call_s: float
    launch_s: float
    log_sd: float


REACH: Mapping[str, Reach] = {
    "gpu": Reach(0.48, 0.7, 40e-6, 5e-6, 0.35),
    "hpu": Reach(0.4, 0.7, 40e-6, 5e-6, 0.6),
    "tpu": Reach(0.4, 0.7, 40e-6, 5e-6, 0.6),
    "asic": Reach(0.3, 0.6, 60e-6, 8e-6, 0.7),
    "npu": Reach(0.3, 0.6, 60e-6, 8e-6, 0.7),
    "fpga": Reach(0.3, 0.6, 60e-6, 8e-6, 0.8),
    "cpu": Reach(0.5, 0.7, 4e-6, 4e-6, 0.4),
}
_UNKNOWN_KIND = Reach(0.3, 0.5, 60e-6, 8e-6, 1.0)

# What a model of one precision runs as elsewhere: itself where the hardware has it, else the nearest that its compilers make of it.
_RUNS_AS: Mapping[str, tuple[str, ...]] = {
    "fp64": ("fp64", "fp32"),
    "fp32": ("tf32", "fp32", "bf16", "fp16", "int8"),
    "tf32": ("tf32", "fp32", "bf16", "fp16", "int8"),
    "fp16": ("fp16", "bf16", "fp32", "int8"),
    "bf16": ("bf16", "fp16", "fp32", "int8"),
    "fp8": ("fp8", "int8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp8", "fp16", "bf16", "fp32"),
}
_BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
DTYPES = frozenset(_BYTES)


def runs_as(dtype: str, flavor: Flavor) -> str | None:
    """The precision in which this flavor runs a model of that precision; None where its peaks are not known.

    fp32 counts as tf32 where there is one, as the libraries' convolutions do; an fp16 model runs as fp32 on a CPU without fp16.
    """
    return next((name for name in _RUNS_AS[dtype] if name in flavor.peak_flops), None)


class Parts(NamedTuple):
    """Where the time of one call goes, in seconds; computing and moving overlap. `dtype`: as what it runs."""

    dtype: str
    compute_s: float
    move_s: float
    launch_s: float

    @property
    def run_s(self) -> float:
        return max(self.compute_s, self.move_s) + self.launch_s

    @property
    def limit(self) -> Literal["compute", "memory", "launches"]:
        """What the most of the time goes to."""
        if self.launch_s > max(self.compute_s, self.move_s):
            return "launches"
        return "compute" if self.compute_s >= self.move_s else "memory"


def parts(cost: Cost, flavor: Flavor, *, dtype: str | None = None, units: float = 1.0) -> Parts | None:
    """The times behind `predict`; None where the flavor's peak or bandwidth is not known."""
    used = runs_as(dtype or cost.dtype, flavor)
    if used is None or flavor.bandwidth_bytes_per_s is None:
        return None
    reach = reach_of(flavor)
    return Parts(
        used,
        cost.flops / (flavor.peak_flops[used] * units * reach.compute),
        moved_bytes_as(cost, used) / (flavor.bandwidth_bytes_per_s * units * reach.bandwidth),
        reach.call_s + cost.num_kernels * reach.launch_s,
    )


def reach_of(flavor: Flavor) -> Reach:
    return REACH.get(flavor.kind, _UNKNOWN_KIND)


def moved_bytes_as(cost: Cost, dtype: str) -> float:
    """What one call moves where it runs as another precision."""
    return cost.moved_bytes * _BYTES[dtype] / _BYTES[cost.dtype]


def is_converted(wanted: str, dtype: str) -> bool:
    """Whether a model must be quantised, or otherwise made smaller, to run so."""
    return _BYTES[dtype] < _BYTES[wanted]


def memory_bytes_as(cost: Cost, dtype: str) -> int:
    """What one call holds at once where it runs as another precision: its weights at least, where no more is known."""
    return int(max(cost.memory_bytes, cost.weights_bytes) * _BYTES[dtype] / _BYTES[cost.dtype])


def predict(cost: Cost, flavor: Flavor, *, dtype: str | None = None, units: float = 1.0) -> Estimate | None:
    """Seconds of one call on `units` of a flavor (accelerators, vCPUs), with the log sd of the prediction; None where the flavor's
    peak or bandwidth is not known. `dtype`: run as that precision instead of the model's own."""
    wanted = dtype or cost.dtype
    found = parts(cost, flavor, dtype=dtype, units=units)
    if found is None:
        return None
    # A model in a precision that the flavor lacks is another model there, by a compiler that was not looked at.
    foreign = 0.0 if found.dtype in (wanted, "tf32") else 0.3
    # What GPUs reach was seen on those with tensor cores alone.
    unseen = 0.4 if flavor.kind == "gpu" and not flavor.tensor_cores else 0.0
    log_sd = math.sqrt(SHARED_LOG_SD**2 + reach_of(flavor).log_sd ** 2 + OWN_LOG_SD**2 + foreign**2 + unseen**2)
    return Estimate(found.run_s, log_sd, 0, memory_bytes_as(cost, found.dtype) or None)


def corrected(
    prior: Mapping[str, Estimate],
    measured: Mapping[str, Estimate],
    catalogue: Mapping[str, Flavor],
    *,
    noise_log_sd: float = LEAST_NOISE_LOG_SD,
) -> dict[str, Estimate]:
    """The predictions after runs on some flavors, by the names of flavors; a measured flavor keeps its own figure.

    `measured`: median seconds and the log sd of single runs. `noise_log_sd`: how far a machine differs from its flavor's catalogue
    entry and its runs from day to day. Exact for jointly normal logarithms (Source: any text on Gaussian conditioning).
    """
    import numpy as np

    seen = [name for name in measured if name in prior]
    done = {name: measured[name] for name in measured}
    if not seen:
        return {**prior, **done}
    among = np.array([[_covariance(prior, catalogue, a, b) for b in seen] for a in seen])
    among += np.diag([noise_log_sd**2 + measured[name].log_sd ** 2 / max(measured[name].num_runs, 1) for name in seen])
    errors = np.array([math.log(measured[name].run_s / prior[name].run_s) for name in seen])
    answer = {}
    for name, guess in prior.items():
        across = np.array([_covariance(prior, catalogue, name, other) for other in seen])
        gain = np.linalg.solve(among, across)
        var = guess.log_sd**2 - float(gain @ across)
        shifted = guess.run_s * math.exp(float(gain @ errors))
        answer[name] = guess._replace(run_s=shifted, log_sd=math.sqrt(max(var, LEAST_LOG_SD**2)))
    return {**answer, **done}


def _covariance(prior: Mapping[str, Estimate], catalogue: Mapping[str, Flavor], one: str, other: str) -> float:
    """Of two flavors' log errors: the model's part, and most of the kind's part where they are of one kind."""
    if one == other:
        return prior[one].log_sd ** 2
    kind = catalogue[one].kind
    if kind != catalogue[other].kind:
        return SHARED_LOG_SD**2
    return SHARED_LOG_SD**2 + _KIND_COVARIANCE * REACH.get(kind, _UNKNOWN_KIND).log_sd ** 2
