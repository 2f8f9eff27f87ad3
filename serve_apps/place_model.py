"""Asks the fabric for a model's offers and chooses among them: what `deploy` does first, and what the directory repeats to move a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fabric.offers import CPU, ModelPrior, model_offers
from fabric.types import Offer, Resources
from serve_apps.placing import Choice, Need, choose

GPU = "gpu"


@dataclass(frozen=True, slots=True)
class Wish:
    """What was said of a place when the model was deployed. With a latency target, accelerators are looked at as well: without one they
    are never the cheapest, and not every runtime can use one."""

    name: str
    num_cpus: float
    tier: str | None = None
    latency_target_ms: float | None = None
    num_replicas: int = 1

    @property
    def kinds(self) -> tuple[str, ...]:
        return (CPU,) if self.latency_target_ms is None else (CPU, GPU)

    def need(self, rate_per_s: float = 0.0) -> Need:
        return Need(self.latency_target_ms, rate_per_s, self.num_replicas)


def offers_for(wish: Wish, prior: ModelPrior | None = None) -> list[Offer]:
    """Raises: as `fabric.offers.model_offers`."""
    return model_offers(wish.name, Resources(num_cpus=wish.num_cpus), tier=wish.tier, kinds=wish.kinds, prior=prior)


def place_model(wish: Wish, prior: ModelPrior | None = None) -> Choice:
    """Where the model goes now. Raises: UnknownNameError, NoFitError, UnavailableError."""
    return choose(offers_for(wish, prior), wish.need())


def placement_json(choice: Choice, prior: ModelPrior | None = None) -> dict[str, Any]:
    """A placement as the directory keeps it: Ray's options, why, the places that were looked at, best first, and what the model's file
    said, by which it is judged again when it could move."""
    placement, offer = choice.placement, choice.taken.offer
    fallback = [{key: dict(labels) for key, labels in one.items()} for one in placement.fallback_strategy]
    return {
        **asdict(placement),
        "label_selector": dict(placement.label_selector),
        "fallback_strategy": fallback,
        "kind": offer.kind,
        "ray_options": ray_options(offer.resources),
        "reason": choice.reason,
        "why": choice.explain(),
        "prior": (prior or ModelPrior()).as_json(),
        "places": [
            {
                "flavor": one.offer.flavor,
                "tier": one.offer.tier,
                "kind": one.offer.kind,
                "p95_ms": round(one.p95_ms, 3),
                "usd_per_h": None if one.offer.usd_per_h is None else round(one.usd_per_h, 4),
                "replica_usd_per_h": one.offer.usd_per_h,
                "source": one.offer.source,
                "is_in_time": one.is_in_time,
                "num_free": one.offer.num_free,
                "twin": one.offer.is_twin,
            }
            for one in choice.ranked
        ],
    }


def ray_options(resources: Resources) -> Mapping[str, Any]:
    """What a replica asks of Ray beside its CPUs."""
    options: dict[str, Any] = {"num_gpus": resources.num_gpus} if resources.num_gpus else {}
    return {**options, "resources": dict(resources.custom)} if resources.custom else options
