"""Predicts how long a task runs on a flavor: a prior from the catalogue, corrected by every measured run.

Times are kept as logarithms, so that ratios between flavors add up. One task and size bucket has an unknown base (its
time on one reference CPU); every flavor has a prior speed-up over that CPU with its own doubt. A run on one flavor thus
also sharpens the prediction for the others, and a flavor's own runs soon outweigh every prior.

Invariants: estimates depend only on the facts given (no clock); a flavor's own measurements win as they grow in number;
old runs fade (`MEMORY_RUNS`), so that a machine that became slower is believed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fabric.sizes import UNKNOWN, bucket
from fabric.types import Domain, Estimate, Fingerprint, Flavor, Forecast, Run, Variant
from profiler.needs import Needs, Use
from profiler.roofline import Cost

BASE_S = 0.05
BASE_LOG_VAR = 1.5**2
RATIO_LOG_VAR = 0.8**2
NOISE_LOG_VAR = 0.3**2
MEMORY_RUNS = 50.0
HALF_LIFE_S = 30 * 86400.0
"""What was measured so long ago counts half: drivers, data and machines change."""
AGEING_STEP_S = 86400.0
LEAST_WEIGHT = 1e-3
USE_MIN_S = 0.01
"""Shorter runs say little of how many CPUs a call keeps busy."""
BUCKET_LOG_STEP = 0.8 * math.log(4.0)
"""Run time grows a little less than the input: size buckets are a factor of 4 apart."""
BUCKET_LOG_VAR = 0.5**2
REFERENCE_FLOPS = 0.0384e12
REFERENCE_BANDWIDTH = 2.74e9
"""One vCPU of the catalogue's `cpu` flavor, FP32."""

# Amdahl: the part of a call's CPU time that is dense arithmetic and so gains from faster hardware (own estimate: a CV
# call is nearly all convolutions; an NLP call spends more outside of them; other Python code gains nothing).
DENSE_FRAC: dict[Domain, float] = {"cv": 0.95, "nlp": 0.92, "tabular": 0.5, "other": 0.0}


@dataclass(slots=True)
class Measured:
    """Running mean and variance of log seconds on one (variant, flavor), with fading memory, and the largest memory peak."""

    weight: float = 0.0
    mean: float = 0.0
    var: float = NOISE_LOG_VAR
    num_runs: int = 0
    peak_memory_bytes: int = 0

    def add(self, log_s: float, peak_memory_bytes: int) -> None:
        self.num_runs += 1
        self.weight = min(self.weight + 1.0, MEMORY_RUNS)
        delta = log_s - self.mean
        step = 1.0 / self.weight
        self.mean += step * delta
        if self.num_runs > 1:
            self.var += step * (delta * (log_s - self.mean) - self.var)
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory_bytes)

    def age(self, factor: float) -> None:
        """Let what is known count for less: the mean stays, the doubt grows."""
        self.weight = max(self.weight * factor, LEAST_WEIGHT)


Forecasts = dict[tuple[int, str], Forecast]
"""(size bucket, flavor) -> forecast."""


@dataclass(slots=True)
class TaskProfile:
    """Everything known of one task: what it is, its runs per (bucket, variant, flavor), and the memory it must be given.

    `as_of_s`: the wall clock that the weights refer to; None: they have never aged.
    """

    task: str
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    variants: dict[str, Variant] = field(default_factory=dict)
    measured: dict[tuple[int, str, str], Measured] = field(default_factory=dict)
    needs: dict[str, Needs] = field(default_factory=dict)
    """Variant -> what its calls needed of memory."""
    as_of_s: float | None = None
    costs: dict[int, Cost] = field(default_factory=dict)
    """Size bucket -> what one such call computes and moves, where somebody counted it."""
    forecasts: Forecasts = field(default_factory=dict, compare=False)
    """What runs of all tasks say of accelerators on which this one has not run (see `profiler.sharing`); never stored."""

    def forget(self, variant: str) -> None:
        """Drop what was measured of a variant: its code is another now."""
        self.measured = {key: seen for key, seen in self.measured.items() if key[1] != variant}
        self.needs.pop(variant, None)

    def buckets(self) -> set[int]:
        return {bucket for bucket, _, _ in self.measured}

    def bucket_of(self, input_bytes: int) -> int:
        """The size bucket of a call; of one whose size is not known (-1), the commonest."""
        if input_bytes >= 0:
            return bucket(input_bytes)
        counts: dict[int, int] = {}
        for (each, _, _), seen in self.measured.items():
            counts[each] = counts.get(each, 0) + seen.num_runs
        return max(counts, key=lambda b: counts[b], default=0)

    def num_runs(self) -> int:
        return sum(seen.num_runs for seen in self.measured.values())


class Estimator:
    """All task profiles of a fabric. `dirty` names those that changed since the caller last cleared it."""

    def __init__(self, catalogue: Mapping[str, Flavor], *, base_s: float = BASE_S) -> None:
        """`base_s`: the median time on the reference CPU of what has never run."""
        self.catalogue = catalogue
        self.base_log_s = math.log(base_s)
        self.profiles: dict[str, TaskProfile] = {}
        self.dirty: set[str] = set()

    def profile(self, task: str) -> TaskProfile:
        return self.profiles.setdefault(task, TaskProfile(task))

    def describe(self, task: str, fingerprint: Fingerprint, variants: Iterable[Variant]) -> None:
        """Take what a client saw of a task. A later description replaces an earlier one."""
        profile = self.profile(task)
        named = {variant.name: variant for variant in variants}
        for variant in named.values():
            known = profile.variants.get(variant.name)
            if known is not None and known.code_hash != variant.code_hash:
                profile.forget(variant.name)
        if (profile.fingerprint, profile.variants) != (fingerprint, named):
            profile.fingerprint, profile.variants = fingerprint, named
            self.dirty.add(task)

    def record(self, run: Run) -> None:
        """Learn from one measured run; failed runs teach nothing about time."""
        if run.outcome != "ok":
            return
        if run.wall_s >= USE_MIN_S:
            self.needs_of(run.task, run.variant).add_use(Use(run.cpu_s / run.wall_s, run.gpu_frac, run.gpu_memory_bytes))
        if run.peak_memory_bytes:  # of short calls only some are read
            self.needs_of(run.task, run.variant).add(run.input_bytes, run.peak_memory_bytes)
        measured = self.profile(run.task).measured.setdefault((run.bucket, run.variant, run.flavor), Measured())
        measured.add(math.log(max(run.wall_s, 1e-6)), run.peak_memory_bytes)
        self.dirty.add(run.task)

    def count(self, task: str, input_bytes: int, cost: Cost) -> None:
        """Take what one call with such inputs computes and moves."""
        self.profile(task).costs[bucket(input_bytes)] = cost
        self.dirty.add(task)

    def needs_of(self, task: str, variant: str) -> Needs:
        return self.profile(task).needs.setdefault(variant, Needs())

    def remember_oom(self, task: str, variant: str, asked_bytes: int, used_bytes: int, input_bytes: int = UNKNOWN) -> None:
        """After an OOM calls with inputs as large ask for more."""
        self.needs_of(task, variant).add_oom(input_bytes, asked_bytes, used_bytes)
        self.dirty.add(task)

    def age(self, now_s: float) -> None:
        """Let old runs fade; `now_s` by the wall clock. A clock that jumps back changes nothing, one that jumps forward
        widens the doubt, by one step at most as much as two half-lives."""
        for task, profile in self.profiles.items():
            elapsed_s = now_s - (now_s if profile.as_of_s is None else profile.as_of_s)
            if profile.as_of_s is None or elapsed_s < 0:
                profile.as_of_s = now_s
                self.dirty.add(task)
            elif elapsed_s >= AGEING_STEP_S:
                profile.as_of_s = now_s
                for measured in profile.measured.values():
                    measured.age(0.5 ** min(elapsed_s / HALF_LIFE_S, 2.0))
                self.dirty.add(task)

    def merge(self, others: Iterable[TaskProfile]) -> int:
        """Take in what another fabric measured; of one row measured in both, the one with more runs. Runs of code that is
        another here are left out. Returns how many rows were taken."""
        return sum(self._merge(other) for other in others)

    def _merge(self, other: TaskProfile) -> int:
        mine = self.profiles.get(other.task)
        if mine is None:
            mine = self.profiles[other.task] = TaskProfile(other.task, other.fingerprint, as_of_s=other.as_of_s)
        for name, variant in other.variants.items():
            mine.variants.setdefault(name, variant)
        is_same = {name for name, variant in other.variants.items() if mine.variants[name].code_hash == variant.code_hash}
        taken = 0
        for key, seen in other.measured.items():
            own = mine.measured.get(key)
            if key[1] in is_same and (own is None or own.num_runs < seen.num_runs):
                mine.measured[key], taken = seen, taken + 1
        for name, needs in other.needs.items():
            if name in is_same and (name not in mine.needs or len(mine.needs[name].runs) < len(needs.runs)):
                mine.needs[name] = needs
        mine.costs = {**other.costs, **mine.costs}
        self.dirty.add(other.task)
        return taken

    def copies(self) -> list[TaskProfile]:
        """All profiles as they are now, for whoever reads them while they change."""
        return [replace(profile, measured=dict(profile.measured), costs=dict(profile.costs)) for profile in self.profiles.values()]

    def predictor(self, task: str, bucket: int) -> Predictor:
        """Estimates of a task for calls of this size bucket."""
        return Predictor(self.profiles.get(task) or TaskProfile(task), self.catalogue, bucket, self.base_log_s)

    def estimate(self, task: str, bucket: int, flavor: Flavor, variant: Variant) -> Estimate:
        """One estimate; `predictor` is the cheaper way to several."""
        return self.predictor(task, bucket).estimate(flavor, variant)


class Predictor:
    """Estimates of one task and size bucket for any flavor; what the flavors share is worked out once."""

    __slots__ = ("_base", "_base_var", "_distance", "_domain", "_forecasts", "_near", "_own")

    def __init__(self, profile: TaskProfile, catalogue: Mapping[str, Flavor], bucket: int, base_log_s: float = math.log(BASE_S)) -> None:
        self._domain: Domain = profile.fingerprint.domain
        self._forecasts = profile.forecasts
        self._near = min(profile.buckets(), key=lambda b: (abs(b - bucket), b), default=bucket)
        self._distance = bucket - self._near
        self._base, self._base_var = _base(profile, catalogue, self._near, base_log_s)
        # A flavor's own runs at another size say more about it than the others' runs at this one and the priors between them.
        self._own: dict[tuple[str, str], tuple[int, Measured]] = {}
        for row, variant, flavor in sorted(profile.measured, key=lambda key: -abs(key[0] - self._near)):
            self._own[(variant, flavor)] = (self._near - row, profile.measured[(row, variant, flavor)])

    def estimate(self, flavor: Flavor, variant: Variant) -> Estimate:
        """Median seconds of one call on this flavor, with its doubt."""
        mean = self._base - log_speedup(flavor, variant, self._domain)
        var = self._base_var + RATIO_LOG_VAR
        found = self._own.get((variant.name, flavor.name))
        distance = self._distance
        shift, doubt = distance * BUCKET_LOG_STEP, distance * distance * BUCKET_LOG_VAR
        if found is None:
            if (shared := self._forecasts.get((self._near, flavor.name))) is not None and uses_accelerator(variant, flavor):
                return Estimate(math.exp(min(shared.mean_log + shift, 20.0)), math.sqrt(shared.log_sd**2 + NOISE_LOG_VAR + doubt))
            noise = NOISE_LOG_VAR if self._own else 0.0
            return Estimate(math.exp(min(mean + shift, 20.0)), math.sqrt(var + noise + doubt))
        off, own = found
        own_var = own.var / own.weight + off * off * BUCKET_LOG_VAR + 1e-6
        gain = var / (var + own_var)
        mean += gain * (own.mean + off * BUCKET_LOG_STEP - mean) + shift
        log_sd = math.sqrt((1 - gain) * var + own.var + doubt)
        return Estimate(math.exp(min(mean, 20.0)), log_sd, 0 if distance or off else own.num_runs, own.peak_memory_bytes)


def uses_accelerator(variant: Variant, flavor: Flavor) -> bool:
    """Whether the variant computes on the flavor's accelerator, not on the host's CPUs."""
    return not flavor.is_cpu and (variant.resources.uses_accelerator or variant.flavor in (flavor.name, flavor.family, flavor.kind))


@functools.lru_cache(maxsize=4096)
def log_speedup(flavor: Flavor, variant: Variant, domain: Domain) -> float:
    """Prior: logarithm of how much faster the variant runs on this flavor than on one reference vCPU.

    Amdahl over the dense part, which gains by the geometric mean of the compute and bandwidth ratios. CPU-only variants
    gain by their number of CPUs alone, wherever they run.
    """
    dense = DENSE_FRAC[domain]
    if uses_accelerator(variant, flavor):
        ratio = _hardware_ratio(flavor, domain)
    else:
        host = _hardware_ratio(flavor, domain) if flavor.is_cpu else 1.0
        ratio = max(host * max(variant.resources.num_cpus, 1.0), 1e-3)
    return -math.log((1.0 - dense) + dense / ratio)


def _hardware_ratio(flavor: Flavor, domain: Domain) -> float:
    wanted = ("fp16", "bf16", "fp32", "int8") if domain in ("cv", "nlp") and not flavor.is_cpu else ("fp32", "fp16", "int8")
    peak = next((flavor.peak_flops[dtype] for dtype in wanted if dtype in flavor.peak_flops), REFERENCE_FLOPS)
    bandwidth = flavor.bandwidth_bytes_per_s or REFERENCE_BANDWIDTH
    return math.sqrt((peak / REFERENCE_FLOPS) * (bandwidth / REFERENCE_BANDWIDTH))


def _base(profile: TaskProfile, catalogue: Mapping[str, Flavor], bucket: int, base_log_s: float) -> tuple[float, float]:
    """Mean and variance of the task's log time on the reference CPU, from the prior and every flavor measured."""
    weight = 1.0 / BASE_LOG_VAR
    mean = weight * base_log_s
    for (row_bucket, variant_name, flavor_name), seen in profile.measured.items():
        flavor, variant = catalogue.get(flavor_name), profile.variants.get(variant_name)
        if row_bucket != bucket or flavor is None or variant is None:
            continue
        precision = 1.0 / (RATIO_LOG_VAR + seen.var / max(seen.weight, 1.0))
        weight += precision
        mean += precision * (seen.mean + log_speedup(flavor, variant, profile.fingerprint.domain))
    return mean / weight, 1.0 / weight
