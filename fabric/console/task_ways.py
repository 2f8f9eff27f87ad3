"""Pure: every way that a call of a task could take now, ranked as the router would, with what was measured there beside it.

`foretold` is what would be predicted of a flavor had the task never run there: beside what was measured it tells how good predictions are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from fabric.capacity import FlavorCapacity
from fabric.errors import NoFitError
from fabric.lanes import Lanes
from fabric.routing import NO_NODES, NO_VARIANT, RoutingPolicy, compile_plan
from fabric.types import Alternative, Estimate, Flavor, Variant, name_of
from profiler.estimate import Measured, Predictor, TaskProfile, uses_accelerator

ReportOf = Callable[[TaskProfile], Mapping[str, Any]]
_FIGURES = ("wait_s", "run_s", "run_log_sd", "cost_usd")


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """`report_of`: the report of a profile (see `fabric.profiling.known`); where FLOPs are known its roofline predicts. `is_counted`:
    whether FLOPs are known. `bucket`: the size of argument that all of it is about."""

    profile: TaskProfile
    bucket: int
    catalogue: Mapping[str, Flavor]
    report_of: ReportOf
    is_counted: bool

    def rows(self, capacities: Mapping[str, FlavorCapacity], policy: RoutingPolicy) -> tuple[list[dict[str, Any]], str | None]:
        """The one that a call would take first, what ran where it cannot run now last; and why no call can run now, if so."""
        measured = {key[1:]: seen for key, seen in self.profile.measured.items() if key[0] == self.bucket}
        ranked, problem = self._ranked(capacities, policy)
        rows = []
        for other in ranked:
            row = _row(other, is_chosen=other is ranked[0] and other.excluded is None)
            rows.append(row | self._beside(row, measured.pop((other.variant, other.flavor), None)))
        for (variant, flavor), seen in measured.items():
            reason, detail = (NO_VARIANT, "not a variant of it now") if flavor in capacities else (NO_NODES, "no node of it now")
            tier = self.catalogue[flavor].tier if flavor in self.catalogue else ""
            row = {"tier": tier, "flavor": flavor, "variant": variant, "twin": False, "chosen": False}
            row |= {**dict.fromkeys(_FIGURES), "reason": reason, "detail": detail}
            rows.append(row | self._beside(row, seen))
        return rows, problem

    def _ranked(self, capacities: Mapping[str, FlavorCapacity], policy: RoutingPolicy) -> tuple[list[Alternative], str | None]:
        lanes, profile = Lanes(), self.profile
        for capacity in capacities.values():
            lanes.observe(capacity)
        variants, domain = list(profile.variants.values()), profile.fingerprint.domain
        estimate_of = self._estimate_of(profile)
        try:
            route = compile_plan(variants, capacities, estimate_of, policy, lanes, domain=domain, task=name_of(profile.task)).route()
        except NoFitError as error:
            return [], error.message
        return [route.chosen, *(other for other in route.alternatives if other is not route.chosen)], None

    def _estimate_of(self, profile: TaskProfile) -> Callable[[Flavor, Variant], Estimate]:
        form, predictor = self.report_of(profile), Predictor(profile, self.catalogue, self.bucket)
        known = {row["flavor"]: row for row in form["flavors"] if row["run_s"] is not None} if self.is_counted else {}

        def estimate_of(flavor: Flavor, variant: Variant) -> Estimate:
            row = known.get(flavor.name) if flavor.is_cpu or uses_accelerator(variant, flavor) else None
            return Estimate(row["run_s"], row["run_log_sd"], row["runs"]) if row else predictor.estimate(flavor, variant)

        return estimate_of

    def _beside(self, row: Mapping[str, Any], seen: Measured | None) -> dict[str, Any]:
        if seen is None:
            return {"foretold_s": None, "foretold_log_sd": None, "measured": None}
        run_s, guess = math.exp(seen.mean), self._foretold(row["flavor"], row["variant"])
        measured = {
            "runs": seen.num_runs,
            "run_s": run_s,
            "run_log_sd": math.sqrt(seen.var),
            "peak_memory_bytes": seen.peak_memory_bytes or None,
            "cost_usd": run_s * row["cost_usd"] / row["run_s"] if row["run_s"] and row["cost_usd"] is not None else None,
        }
        return {"foretold_s": guess and guess.run_s, "foretold_log_sd": guess and guess.log_sd, "measured": measured}

    def _foretold(self, flavor: str, variant: str) -> Estimate | None:
        known = self.profile.variants.get(variant)
        if known is None or flavor not in self.catalogue:
            return None
        others = {key: seen for key, seen in self.profile.measured.items() if key[2] != flavor}
        if not others and not self.is_counted:
            return None  # a figure that nothing stands behind is none
        return self._estimate_of(dataclasses.replace(self.profile, measured=others))(self.catalogue[flavor], known)


def _row(other: Alternative, *, is_chosen: bool) -> dict[str, Any]:
    # What can never hold a call was not predicted: its figures are no figures.
    is_known = other.estimate.run_s > 0.0
    figures = (other.wait_s, other.run_s, other.estimate.log_sd, other.cost_usd)
    return {
        "tier": other.tier,
        "flavor": other.flavor,
        "variant": other.variant,
        "twin": other.is_twin,
        "chosen": is_chosen,
        **dict(zip(_FIGURES, figures if is_known else (None,) * len(_FIGURES), strict=True)),
        "reason": other.excluded,
        "detail": other.detail,
    }
