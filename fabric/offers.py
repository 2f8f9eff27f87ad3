"""Where a model could be served: of every flavor what a replica would cost there, how long one request would take, and whether there is
room now. Which of them is taken is decided by `serve_apps.placing`.

A request's time comes from the model's measured runs on that flavor, else from a roofline of its FLOPs and bytes, corrected by what
was measured elsewhere, else from its domain alone, as for any task. Its profile is a task's, named `model:<name>`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fabric.capacity import FlavorCapacity
from fabric.client import Client, current, selector
from fabric.errors import FabricError, NoFitError, UnknownNameError
from fabric.routing import preferred_flavors, resources_on
from fabric.types import DOMAINS, Domain, Estimate, Fingerprint, Flavor, Offer, Resources, Variant, model_task
from profiler.estimate import Predictor, TaskProfile
from profiler.fingerprint import fingerprint_model
from profiler.onnx_model import read_onnx
from profiler.roofline import Cost, corrected, predict

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class ModelPrior:
    """What a model's file says: one request's FLOPs and bytes where they could be counted, and the kind of work."""

    cost: Cost | None = None
    fingerprint: Fingerprint = field(default_factory=Fingerprint)

    def declared(self, domain: Domain | str) -> ModelPrior:
        """With the domain that its deployer named, where it is one (`other` is none)."""
        known = next((one for one in DOMAINS if one == domain and one != "other"), None)
        return self if known is None else replace(self, fingerprint=Fingerprint(known, "inference", ("declared",)))

    def as_json(self) -> dict[str, Any]:
        """To be kept with the model: its file is not read again."""
        return {"cost": None if self.cost is None else asdict(self.cost), "domain": self.fingerprint.domain}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> ModelPrior:
        cost = (kept or {}).get("cost")
        return cls(Cost(**cost) if cost else None).declared((kept or {}).get("domain", "other"))


def read_prior(path: str | Path) -> ModelPrior:
    """Of an ONNX file; nothing is known of a file that cannot be read so. Takes seconds for a large graph; the model never runs."""
    try:
        facts = read_onnx(Path(path))
    except FabricError:  # another format, or the package onnx is not installed
        return ModelPrior()
    return ModelPrior(facts.cost, fingerprint_model(facts.sight, phase="inference"))


def model_offers(
    model: str, resources: Resources, *, tier: str | None = None, kinds: Sequence[str] = (CPU,), prior: ModelPrior | None = None
) -> list[Offer]:
    """Every flavor of the fabric (of the tier, where one is named) that can hold a replica. `kinds`: what the model's runtime computes
    on, of `cpu`, `gpu` and the kinds of the catalogue.

    Raises: UnknownNameError (`unknown_tier`), NoFitError where it fits on no node; UnavailableError outside a fabric.
    """
    client, prior = current(), prior or ModelPrior()
    if tier is not None and tier not in client.config.tier_names:
        raise UnknownNameError.of("tier", tier, client.config.tier_names)
    variants = [Variant(kind, CPU if kind == CPU else kind, resources) for kind in kinds]
    task = model_task(model)
    client.describe(task, _known(client, task, prior), variants)
    found = offers(variants, client.table.capacities, client.catalogue, client.profiles[task], prior, tier=tier)
    if not found:
        wanted = f" of tier {tier}" if tier else ""
        raise NoFitError(f"model {model} fits on no node{wanted}", hint="ask for less, or add a node that is large enough", shortfalls=())
    return found


def offers(
    variants: Sequence[Variant],
    capacities: Mapping[str, FlavorCapacity],
    catalogue: Mapping[str, Flavor],
    profile: TaskProfile,
    prior: ModelPrior,
    *,
    tier: str | None = None,
) -> list[Offer]:
    """Pure: `model_offers` from what is known."""
    preferred = preferred_flavors(profile.fingerprint.domain, capacities.values())
    found = []
    for variant in variants:
        times = _times(variant, catalogue, profile, prior)
        for capacity in capacities.values():
            flavor = capacity.flavor
            if (tier is not None and flavor.tier != tier) or not (variant.flavor == CPU or flavor.answers_to(variant.flavor)):
                continue
            asked = resources_on(variant, flavor)
            fit = capacity.fit(asked)
            if fit.slots == 0:
                continue
            is_borrowed = variant.flavor == CPU and not flavor.is_cpu
            estimate, source = times.get(flavor.name) or times.get("") or _by_domain(variant, flavor, catalogue, profile)
            is_preferred = flavor.name in preferred and not is_borrowed
            found.append(
                Offer(
                    flavor.name, flavor.tier, variant.name, asked, estimate, source, fit.usd_per_h, num_free(capacity, asked),
                    selector(capacity), is_preferred, is_borrowed, capacity.is_twin,
                )
            )  # fmt: skip
    return found


def num_free(capacity: FlavorCapacity, resources: Resources) -> int:
    """How many replicas fit into what is not used now, node borders left aside."""
    demand = resources.as_demand()
    free = (int((capacity.total.get(name, 0.0) - capacity.used.get(name, 0.0)) / amount + 1e-9) for name, amount in demand.items())
    return max(0, min(min(free, default=0), capacity.slots(demand)))


def _known(client: Client, task: str, prior: ModelPrior) -> Fingerprint:
    """What the file says, or what was known before."""
    known = client.profiles.get(task)
    return known.fingerprint if known is not None and prior.fingerprint == Fingerprint() else prior.fingerprint


def _times(variant: Variant, catalogue: Mapping[str, Flavor], profile: TaskProfile, prior: ModelPrior) -> dict[str, tuple[Estimate, str]]:
    """By flavor, what was measured or follows from the roofline; for host CPUs of accelerators, under "", what the cheapest CPU has."""
    flavors = {name: one for name, one in catalogue.items() if one.answers_to(variant.flavor)}
    measured = _measured(variant, profile)
    guesses = {}
    if prior.cost is not None:
        units = max(1.0, variant.resources.num_cpus) if variant.flavor == CPU else 1.0
        all_guesses = {name: predict(prior.cost, one, units=units if one.is_cpu else 1.0) for name, one in flavors.items()}
        guesses = {name: guess for name, guess in all_guesses.items() if guess is not None}
    on_flavors = {name: seen for name, seen in measured.items() if name in guesses}
    after = corrected(guesses, on_flavors, catalogue) if guesses else {}
    times = {name: (estimate, "roofline") for name, estimate in after.items()}
    times.update({name: (seen, "measured") for name, seen in measured.items()})
    plain = next((times[name] for name, one in flavors.items() if one.is_cpu and name in times), None)
    if variant.flavor == CPU and plain is not None:
        times[""] = plain
    return times


def _measured(variant: Variant, profile: TaskProfile) -> dict[str, Estimate]:
    """Of each flavor the runs of this variant, at the size that ran most often there."""
    best: dict[str, tuple[int, Estimate]] = {}
    for (_, name, flavor), seen in profile.measured.items():
        if name == variant.name and seen.num_runs > best.get(flavor, (0, None))[0]:
            estimate = Estimate(math.exp(seen.mean), math.sqrt(seen.var), seen.num_runs, seen.peak_memory_bytes)
            best[flavor] = (seen.num_runs, estimate)
    return {flavor: estimate for flavor, (_, estimate) in best.items()}


def _by_domain(variant: Variant, flavor: Flavor, catalogue: Mapping[str, Flavor], profile: TaskProfile) -> tuple[Estimate, str]:
    asked = replace(variant, resources=resources_on(variant, flavor))
    return Predictor(profile, catalogue, profile.bucket_of(-1)).estimate(flavor, asked), "domain"
