"""Predicts how long jobs run and what memory they need, from the history of their family and the progress of their own.

A family is a task to the estimator: one unit of hardware, one whole job. Times on several units are brought to one by the
same speed-up that the scheduler assumes. Invariants: estimates depend only on what was recorded; a job's own reported
progress outweighs its family's history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fabric.job import SCALING, JobEstimate, JobSpec, Shape
from fabric.selectors import flavors_of
from fabric.sizes import UNKNOWN as UNKNOWN_SIZE
from fabric.types import Estimate, Fingerprint, Flavor, Resources, Run, Variant
from profiler.estimate import Estimator, Forecasts, TaskProfile
from profiler.needs import Needs
from profiler.sizing import Sizing

BASE_JOB_S = 600.0
"""Median of a job of which nothing is known, on one vCPU's worth of a GPU: ten minutes, give or take a factor of 4.5."""
ACCELERATED = Variant("accelerated", "", Resources(num_gpus=1))
ON_CPUS = Variant("cpus", "", Resources())
UNKNOWN = ""
"""Stands for every family of which nothing has been measured."""
MAX_UNKNOWN = 1000
HEARD_LOG_SD = 0.4
"""The doubt of a job of whose family one runs and has told its pace."""
HEARD_NEWS_FRAC = 0.2
OWN_LOG_SD = 0.1
"""The doubt of a job that has told how much it has done of how much."""


class Families:
    """Histories of all families; the estimator's profiles are what is kept of them."""

    def __init__(self, catalogue: Mapping[str, Flavor]) -> None:
        self.catalogue = catalogue
        self.estimator = Estimator(catalogue, base_s=BASE_JOB_S)
        self._unknown: dict[tuple[Shape, ...], JobEstimate] = {}
        self._heard: dict[str, float] = {}

    def estimate(self, spec: JobSpec) -> JobEstimate:
        """The prediction for a job before it has said anything itself: work 1 is the whole job."""
        if self._is_measured(spec.family):
            return self._estimate(spec.family, spec.shapes)
        unknown, ratio = self._prior(spec), self._heard.get(spec.family)
        if ratio is None:
            return unknown
        return JobEstimate(1.0, {way: ratio * rate for way, rate in unknown.rates.items()}, HEARD_LOG_SD)

    def hear(self, spec: JobSpec, shape_number: int, flavor: str, whole_per_s: float) -> bool:
        """A job that runs makes so much of its whole in a second: until one of its family has ended, that speaks for the others.
        Whether it says much else than what was heard before."""
        prior = self._prior(spec).rates.get((shape_number, flavor), 0.0)
        if prior <= 0 or self._is_measured(spec.family):
            return False
        before, ratio = self._heard.get(spec.family), whole_per_s / prior
        self._heard[spec.family] = ratio
        return before is None or abs(ratio - before) > HEARD_NEWS_FRAC * before

    def _is_measured(self, family: str) -> bool:
        profile = self.estimator.profiles.get(family)
        return profile is not None and bool(profile.measured)

    def _prior(self, spec: JobSpec) -> JobEstimate:
        found = self._unknown.get(spec.shapes)
        if found is None:
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            found = self._unknown[spec.shapes] = self._estimate(UNKNOWN, spec.shapes)
        return found

    def _estimate(self, family: str, shapes: Sequence[Shape]) -> JobEstimate:
        rates: dict[tuple[int, str], float] = {}
        doubts = []
        for number, shape in enumerate(shapes):
            variant = _variant(shape)
            self._describe(family, variant)
            predictor = self.estimator.predictor(family, 0)
            for name in flavors_of(shape.selector, self.catalogue):
                predicted = predictor.estimate(self.catalogue[name], variant)
                rates[number, name] = _units(shape) ** SCALING / max(predicted.run_s, 1e-3)
                doubts.append(predicted.log_sd)
        return JobEstimate(1.0, rates, min(doubts, default=1.0))

    def learn(self, spec: JobSpec, shape_number: int, flavor: str, num_bundles: int, run_s: float) -> None:
        """A job has succeeded; `run_s` is what the whole of it takes this way."""
        shape = spec.shapes[shape_number]
        variant = _variant(shape)
        self._describe(spec.family, variant)
        self._heard.pop(spec.family, None)
        one_unit_s = run_s * (_units(shape) * num_bundles / shape.num_bundles) ** SCALING
        run = Run(spec.job_id, spec.family, 0, variant.name, flavor, "", one_unit_s, 0.0, 0, "ok", spec.user, spec.queue)
        self.estimator.record(run)

    def learn_memory(self, spec: JobSpec, shape_number: int, peak_bytes: int, *, is_oom: bool) -> None:
        """A rank of this shape has used so much of memory, or run out of it then."""
        shape = spec.shapes[shape_number]
        self._describe(spec.family, _variant(shape))
        needs = self.estimator.needs_of(spec.family, _variant(shape).name)
        if is_oom:
            needs.add_oom(UNKNOWN_SIZE, shape.memory_bytes, peak_bytes)
        else:
            needs.add(UNKNOWN_SIZE, peak_bytes)
        self.estimator.dirty.add(spec.family)

    def sized(self, spec: JobSpec, node_bytes: Callable[[Shape], tuple[int, int]]) -> JobSpec:
        """The job with the memory that ranks of its family needed, and how that came about. `node_bytes`: memory of the smallest and
        the largest node that a shape may use; a shape without any stays as it is."""
        profile, shapes, sums = self.estimator.profiles.get(spec.family), [], {}
        for shape in spec.shapes:
            least_bytes, most_bytes = node_bytes(shape)
            name = _variant(shape).name
            needs = profile.needs.get(name) if profile is not None else None
            request = Sizing(needs or Needs(), probe_bytes=least_bytes // 2, most_bytes=most_bytes).request(UNKNOWN_SIZE)
            shapes.append(replace(shape, memory_bytes=request.memory_bytes) if most_bytes else shape)
            if most_bytes:
                sums[request.sum] = f"{request.sum} ({name})"
        told = next(iter(sums)) if len(sums) == 1 else "; ".join(sums.values())
        return replace(spec, shapes=tuple(dict.fromkeys(shapes)), memory_sum=told)

    def measured(self, spec: JobSpec, shape_number: int, flavor: str, num_bundles: int) -> Estimate | None:
        """What whole jobs of its family took on this flavor, brought to so many bundles; None where none has ended there."""
        profile, shape = self.estimator.profiles.get(spec.family), spec.shapes[shape_number]
        seen = profile.measured.get((0, _variant(shape).name, flavor)) if profile is not None else None
        if seen is None:
            return None
        faster = (_units(shape) * num_bundles / shape.num_bundles) ** SCALING
        return Estimate(math.exp(seen.mean) / faster, math.sqrt(seen.var), seen.num_runs)

    def from_progress(self, spec: JobSpec, last: JobEstimate, shape_number: int, flavor: str, rate: float, total: float) -> JobEstimate:
        """The estimate of a job that works at `rate` units per second here and has `total` to do: other ways keep their
        predicted ratio to this one."""
        here = last.rates.get((shape_number, flavor), 0.0)
        if here <= 0 or rate <= 0:
            return last
        return JobEstimate(total, {way: rate * each / here for way, each in last.rates.items()}, OWN_LOG_SD)

    def changed(self) -> list[TaskProfile]:
        """The histories that changed since the last call."""
        names, self.estimator.dirty = self.estimator.dirty - {UNKNOWN}, set()
        return [self.estimator.profiles[name] for name in sorted(names)]

    def copies(self) -> list[TaskProfile]:
        """The histories as they are now, for whoever reads them while they change."""
        return [profile for profile in self.estimator.copies() if profile.task != UNKNOWN]

    def take_forecasts(self, forecasts: Mapping[str, Forecasts]) -> None:
        """What the families' runs say of accelerators on which one of them has not run (see `profiler.sharing`)."""
        for family, profile in self.estimator.profiles.items():
            profile.forecasts = forecasts.get(family, {})

    def restore(self, profiles: Iterable[TaskProfile]) -> None:
        self.estimator.profiles.update({profile.task: profile for profile in profiles})

    def _describe(self, family: str, variant: Variant) -> None:
        known = self.estimator.profile(family).variants
        if variant.name not in known:
            self.estimator.describe(family, Fingerprint("nlp", "training"), [*known.values(), variant])


def _variant(shape: Shape) -> Variant:
    return ACCELERATED if shape.accelerators else ON_CPUS


def _units(shape: Shape) -> float:
    return max(1.0, (shape.accelerators or shape.cpus) * shape.num_bundles)
