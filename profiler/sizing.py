"""Decides how much memory a call asks for: from what earlier calls of its variant needed, by the size of their input.

The logarithm of the need is fitted over that of the input's size by all runs together, with log-normal noise (Gaussian process
regression; Rasmussen & Williams, ch. 2). So a size that was seen twice borrows the spread of all others, and a size that was never
seen gets a wide margin. The margin is the one that costs least: what it reserves against what an out-of-memory costs (`OOM_COST`).

Invariants: an answer depends only on the facts given; no request is as little as what a call no larger ran out of; no call asks for
more than the largest node has before it ran out of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fabric.sizes import stepped
from fabric.types import shown_bytes
from profiler.needs import Needs

OOM_COST = 7.0
"""What an out-of-memory costs, in reservations of the same call: it ran in vain, a new worker starts (3.6 s), somebody waits twice."""
LEVELS = tuple(1.0 - 0.05 * 0.8**step for step in range(24))
"""The quantiles that a request may stand for: from p95 to p99.97."""
REQUEST_STEPS_PER_OCTAVE = 32
PRIOR_SD = 0.25
"""Of the logarithm of what calls of one size need, before runs show it: with `PRIOR_RUNS` runs' weight."""
PRIOR_RUNS = 3.0
PRIOR_SLOPE = 0.8 * math.log(2.0)
"""Per octave: needs grow a little less than the input."""
SLOPE_RATIO = (0.35 / PRIOR_SD) ** 2
LEVEL_RATIO = 1e4
KERNELS = ((0.0, 1.0), (2.0, 3.0), (4.0, 1.5), (16.0, 0.75))
"""(bend, octaves): a line, and ever more crooked ways."""
BASE_FRACS = (0.0, 0.4, 0.8)
SHAPES_MIN_RUNS = 16
_NORMAL = NormalDist()
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks for and how that came about. `level` is the quantile of the need that it covers, by the fit; 0 of a probe."""

    memory_bytes: int
    sum: str
    num_runs: int = 0
    p95_bytes: int = 0
    level: float = 0.0


class Sizing:
    """Answers for one state of the needs of a variant; fitted once, asked for many sizes."""

    def __init__(self, needs: Needs, *, probe_bytes: int, most_bytes: int) -> None:
        """`probe_bytes`: what a call of an unknown need asks for; `most_bytes`: the memory of the largest node."""
        self._needs = needs
        self._probe_bytes = probe_bytes
        self._most_bytes = max(most_bytes, 1)
        self._fits: dict[bool, Fit | None] = {}

    def _fit(self, is_size_known: bool) -> Fit | None:
        """Of the runs of known size; with an unknown one every run counts, whatever its size. None without any."""
        if is_size_known not in self._fits:
            points = self._needs.points() if self._needs.runs else []
            points = [(size, need) for size, need in points if size >= 0] if is_size_known else [(1, need) for _, need in points]
            self._fits[is_size_known] = fit([(math.log2(max(size, 1)), need) for size, need in points]) if points else None
        return self._fits[is_size_known]

    def request(self, input_bytes: int) -> Request:
        """What a call with an input of so many bytes asks for (-1: unknown)."""
        found = self._fit(input_bytes >= 0)
        floor = self._needs.floor_bytes(input_bytes, self._most_bytes)
        if found is None:
            asked = max(self._probe_bytes, floor)
            return Request(asked, f"probe, nothing is known of its need: {shown_bytes(asked)}" + _because_of(floor, asked))
        at = math.log2(max(input_bytes, 1)) if input_bytes >= 0 else 0.0
        level, wanted = cheapest(found.quantile(at))
        p95 = math.ceil(found.quantile(at)(0.95))
        num_runs = len(self._needs.runs)
        asked = max(min(stepped(wanted, REQUEST_STEPS_PER_OCTAVE), self._most_bytes), floor)
        margin = f" + {asked / p95 - 1.0:.0%} = {shown_bytes(asked)}" if asked >= p95 else f", the largest node has {shown_bytes(asked)}"
        of = f"p95 of {num_runs} run{'s' if num_runs > 1 else ''}{self._near(input_bytes)}: "
        return Request(asked, of + shown_bytes(p95) + margin + _because_of(floor, asked), num_runs, p95, level)

    def _near(self, input_bytes: int) -> str:
        """How many of the runs had inputs of about this size, in words."""
        if input_bytes < 0:
            return " with inputs of all sizes" if any(size >= 0 for size, _ in self._needs.runs) else ""
        low = 1 << max(input_bytes.bit_length() - 1, 0)
        near = sum(low <= size < 2 * low for size, _ in self._needs.runs)
        octave = f"{shown_bytes(low)} to {shown_bytes(2 * low)} inputs"
        if near == len(self._needs.runs):
            return f" of {octave}"
        return f" ({near or 'none'} of {octave})"


class Fit:
    """A Gaussian process over log2 size: a line (its slope drawn to `PRIOR_SLOPE`), a smooth departure from it, and noise."""

    def __init__(self, sizes: Floats, logs: Floats, kernel: Kernel, base: float) -> None:
        """`sizes`: log2 of the input sizes; `logs`: log(need - base)."""
        self._sizes, self._kernel, self._base = sizes, kernel, base
        self._level = float(logs.mean())
        self.dof = PRIOR_RUNS + len(sizes) - 0.5
        rest = logs - self._level - PRIOR_SLOPE * kernel.offsets
        self._weights = kernel.inverse @ rest
        squares = PRIOR_RUNS * PRIOR_SD**2 + float(rest @ self._weights)
        self._sd = math.sqrt(squares / self.dof)
        self.score = -0.5 * kernel.log_det - 0.5 * (PRIOR_RUNS + len(sizes)) * math.log(squares) - float(logs.sum())

    @property
    def num_runs(self) -> int:
        return len(self._sizes)

    def quantile(self, at: float) -> Callable[[float], float]:
        """Level -> bytes that a call of log2 size `at` needs at most, with that probability."""
        kernel = self._kernel
        shared = kernel.between(at)
        middle = self._level + PRIOR_SLOPE * (at - kernel.centre) + float(shared @ self._weights)
        variance = 1.0 + kernel.own(at) - float(shared @ kernel.inverse @ shared)
        sd = self._sd * math.sqrt(max(variance, 1.0))
        return lambda level: self._base + math.exp(min(middle + student_t(level, self.dof) * sd, 60.0))


class Kernel:
    """How much runs of different sizes say of each other, in units of the noise's variance: `bend` of the departure from a line,
    which is alike within `octaves`."""

    def __init__(self, sizes: Floats, bend: float, octaves: float) -> None:
        self._bend, self._octaves = bend, octaves
        self.centre = float(sizes.mean())
        self.offsets = sizes - self.centre
        matrix = self._of(self.offsets[:, None], self.offsets[None, :]) + np.eye(len(sizes))
        self.inverse = np.linalg.inv(matrix)
        self.log_det = float(np.linalg.slogdet(matrix)[1])

    def between(self, at: float) -> Floats:
        return self._of(at - self.centre, self.offsets)

    def own(self, at: float) -> float:
        return float(self._of(at - self.centre, np.array([at - self.centre]))[0])

    def _of(self, one: Floats | float, other: Floats) -> Floats:
        bent: Floats = self._bend * np.exp(-0.5 * ((one - other) / self._octaves) ** 2)
        return bent + LEVEL_RATIO + SLOPE_RATIO * one * other


def fit(runs: Sequence[tuple[float, int]]) -> Fit:
    """The likeliest of several kernels and bases: parts of the need that do not depend on the input. `runs`: (log2 size, bytes)."""
    sizes, needs = np.array([size for size, _ in runs]), np.array([float(need) for _, need in runs])
    is_much = len(runs) >= SHAPES_MIN_RUNS
    kernels = [Kernel(sizes, bend, octaves) for bend, octaves in (KERNELS if is_much else KERNELS[:1])]
    bases = [frac * float(needs.min()) for frac in (BASE_FRACS if is_much else BASE_FRACS[:1])]
    found = [Fit(sizes, np.log(np.maximum(needs - base, 1.0)), kernel, base) for base in bases for kernel in kernels]
    return max(found, key=lambda one: one.score)


def cheapest(need_at: Callable[[float], float], levels: Iterable[float] = LEVELS) -> tuple[float, float]:
    """The level whose request costs least, and that request: what it reserves, and with the rest of the probability an
    out-of-memory, which costs as much as `OOM_COST` reservations of the p95."""
    price = OOM_COST * need_at(0.95)
    return min(((level, need_at(level)) for level in levels), key=lambda found: found[1] + (1.0 - found[0]) * price)


def student_t(level: float, dof: float) -> float:
    """Student's t quantile. Source: Abramowitz & Stegun 26.7.5 (within 2 % for 3 degrees of freedom at p99)."""
    z = _NORMAL.inv_cdf(level)
    first = (z**3 + z) / 4.0
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96.0
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0
    return z + first / dof + second / dof**2 + third / dof**3


def _because_of(floor_bytes: int, asked_bytes: int) -> str:
    return ", as one ran out of memory" if 0 < floor_bytes == asked_bytes else ""
