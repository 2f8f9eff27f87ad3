"""Pure: ranks (flavor, variant) for a call by predicted wait + run time + cost; the client and the simulator call it.

score_usd = (wait_s + run_s) × what a second of waiting is worth + the cost of the node share the call occupies.

Invariants: CPU-only work is never sent to an accelerator node while a CPU node has room; within `TIE` of the best score
the domain's preference decides (tensor cores for CV, FP16 for NLP), so that the numbers decide and the domain only breaks
ties; a call that no single node can ever hold is refused with what each tier is short of.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fabric.capacity import Fit, FlavorCapacity
from fabric.errors import BugError, NoFitError
from fabric.lanes import Claim, Lane, Lanes
from fabric.types import Alternative, Domain, Estimate, Flavor, Resources, Route, Variant

TIE = 1.02

# Why a route was taken.
BEST_SCORE = "BestScore"
ONLY_FIT = "OnlyFit"
PATIENCE = "Patience"
FALLBACK = "Fallback"
DOMAIN_PREFERENCE = "DomainPreference"
PROBE = "Probe"
# Why an alternative was not.
NO_VARIANT = "NoVariant"
RESOURCES = "Resources"
NO_NODES = "NoNodes"
CPU_HAS_ROOM = "CpuHasRoom"

Load = tuple[tuple[float, float, float], ...]
EstimateOf = Callable[[Flavor, Variant], Estimate]
_NO_ESTIMATE = Estimate(run_s=0.0, log_sd=0.0)


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """`waiting_usd_per_h`: what an hour of waiting for a result is worth."""

    waiting_usd_per_h: float = 10.0

    @property
    def waiting_usd_per_s(self) -> float:
        return self.waiting_usd_per_h / 3600.0


class Candidate:
    """One (flavor, variant) that can hold the call, with everything of its score but the wait."""

    __slots__ = (
        "base_score",
        "capacity",
        "claims",
        "cost_usd",
        "estimate",
        "flavor",
        "is_cpu_only",
        "is_overflow",
        "resources",
        "run_s",
        "variant",
    )

    def __init__(
        self,
        capacity: FlavorCapacity,
        variant: Variant,
        resources: Resources,
        fit: Fit,
        claims: tuple[Claim, ...],
        estimate: Estimate,
        assumed_usd_per_h: float,
        waiting_usd_per_s: float,
    ) -> None:
        self.capacity = capacity
        self.flavor = capacity.flavor.name
        self.variant = variant
        self.resources = resources
        self.claims = claims
        self.estimate = estimate
        self.run_s = estimate.run_s
        known = fit.usd_per_h
        self.cost_usd = None if known is None else known / 3600.0 * self.run_s
        self.base_score = self.run_s * (waiting_usd_per_s + (assumed_usd_per_h if known is None else known) / 3600.0)
        self.is_cpu_only = fit.is_cpu_only
        self.is_overflow = self.is_cpu_only and not capacity.flavor.is_cpu and not _asks_for(variant, capacity.flavor)

    def on(self, lanes: Mapping[int, Lane]) -> Candidate:
        """The same candidate on other lanes, by the ids of those it has."""
        moved = copy.copy(self)
        moved.claims = tuple(Claim(lanes[id(claim.lane)], claim.share) for claim in self.claims)
        return moved

    def wait_s(self) -> float:
        run_s = self.run_s
        wait = self.capacity.wake_s
        for claim in self.claims:
            lane = claim.lane
            if lane.share + lane.other + claim.share > 1.000000001:
                wait = max(wait, self.capacity.wake_s + lane.wait_s(claim.share, run_s))
        return wait


class Plan:
    """All candidates of one task and size bucket under one table: compiled once, asked for every call.

    `untried`: a candidate that has not run yet and is worth one try (see `fabric.probing`); whoever compiles the plan sets it.
    `sums`: variant -> how the memory that it asks for came about, where it was sized.
    """

    __slots__ = ("_lanes", "_waiting", "candidates", "excluded", "overflow", "preferred", "sums", "untried")

    def __init__(
        self, candidates: Sequence[Candidate], excluded: Sequence[Alternative], preferred: frozenset[str], waiting_usd_per_s: float
    ) -> None:
        def order(candidate: Candidate) -> tuple[float, str, str]:
            return (candidate.base_score, candidate.flavor, candidate.variant.name)

        self.candidates = sorted((c for c in candidates if not c.is_overflow), key=order)
        self.overflow = sorted((c for c in candidates if c.is_overflow), key=order)
        self.excluded = tuple(excluded)
        self.preferred = preferred
        self.untried: Candidate | None = None
        self._waiting = waiting_usd_per_s
        self.sums: Mapping[str, str] = {}  # variant -> how its memory came about, where it was sized
        self._lanes = tuple({id(claim.lane): claim.lane for c in candidates for claim in c.claims}.values())

    def load(self) -> Load:
        """How full the plan's lanes are now; `replay` takes it."""
        return tuple((lane.share, lane.work_s, lane.other) for lane in self._lanes)

    def replay(self, load: Load, taken: Candidate | None = None) -> Route:
        """The route as it was decided under an earlier load, or `taken`; the lanes in use are left alone."""
        then = {id(lane): lane.at(*figures) for lane, figures in zip(self._lanes, load, strict=True)}
        past = copy.copy(self)
        past.candidates = [candidate.on(then) for candidate in self.candidates]
        past.overflow = [candidate.on(then) for candidate in self.overflow]
        if taken is None:
            return past.route()
        return past.route(next(c for c in (*past.candidates, *past.overflow) if (c.flavor, c.variant) == (taken.flavor, taken.variant)))

    def choose(self) -> Candidate:
        """The candidate with the lowest score now. Costs a few microseconds: it stops at the first that cannot be beaten."""
        best: Candidate | None = None
        favourite: Candidate | None = None
        best_score = favourite_score = float("inf")
        waiting = self._waiting
        preferred = self.preferred
        for candidate in self.candidates:
            if candidate.base_score > best_score * TIE:
                break
            score = candidate.base_score + candidate.wait_s() * waiting
            if score < best_score:
                best, best_score = candidate, score
            if score < favourite_score and candidate.flavor in preferred:
                favourite, favourite_score = candidate, score
        if self.overflow and not self._has_cpu_room():
            for candidate in self.overflow:
                score = candidate.base_score + candidate.wait_s() * waiting
                if score < best_score:
                    best, best_score = candidate, score
        if favourite is not None and favourite_score <= best_score * TIE:
            return favourite
        if best is None:
            raise BugError("a plan without candidates was asked to choose")
        return best

    def is_second_best(self, chosen: Candidate) -> bool:
        """Whether an idle fabric would have served the call better: it has to wait, or goes elsewhere because of others."""
        best = self.candidates[0] if self.candidates else self.overflow[0]
        return chosen is not best or chosen.wait_s() > 0.0

    def _has_cpu_room(self) -> bool:
        return any(c.is_cpu_only and c.capacity.flavor.is_cpu and c.wait_s() == 0.0 for c in self.candidates)

    def take_untried(self) -> Candidate | None:
        """The candidate that is worth a try, once, when it is idle."""
        untried = self.untried
        if untried is None or untried.wait_s() > 0.0:
            return None
        self.untried = None
        return untried

    def route(self, taken: Candidate | None = None) -> Route:
        """`choose`, with the figures of every alternative and the reason; of a call that was sent elsewhere, to `taken`."""
        best = self.choose()
        chosen = best if taken is None else taken
        has_cpu_room = self._has_cpu_room()
        shown = _alternative(chosen, self._waiting, None)
        rest = [_alternative(c, self._waiting, None) for c in self.candidates if c is not chosen]
        barred = CPU_HAS_ROOM if has_cpu_room else None
        rest += [_alternative(c, self._waiting, barred) for c in self.overflow if c is not chosen]
        rest.sort(key=lambda a: (a.excluded is not None, a.score))
        reason = self._reason(chosen, shown, rest) if chosen is best else PROBE
        return Route(chosen=shown, reason=reason, alternatives=(shown, *rest, *self.excluded))

    def _reason(self, chosen: Candidate, taken: Alternative, rest: Sequence[Alternative]) -> str:
        usable = [a for a in rest if a.excluded is None]
        if not usable:
            return ONLY_FIT
        if any(a.score < taken.score for a in usable):
            return DOMAIN_PREFERENCE
        if taken.wait_s > 0 and any(a.wait_s == 0 for a in usable):
            return PATIENCE
        if any(c.base_score < chosen.base_score for c in self.candidates if c is not chosen):
            return FALLBACK
        return BEST_SCORE


def compile_plan(
    variants: Sequence[Variant],
    capacities: Mapping[str, FlavorCapacity],
    estimate_of: EstimateOf,
    policy: RoutingPolicy,
    lanes: Lanes,
    *,
    domain: Domain = "other",
    task: str = "the task",
) -> Plan:
    """Pair every variant with every flavor.

    Raises: NoFitError, with `shortfalls` (tier, what it is short of), where no ready node can ever hold the call.
    """
    candidates: list[Candidate] = []
    excluded: list[Alternative] = []
    dearest = _dearest_by_tier(capacities.values())
    waiting = policy.waiting_usd_per_s
    for capacity in capacities.values():
        matching = [variant for variant in variants if _matches(variant, capacity.flavor)]
        if not matching:
            wanted = ", ".join(sorted({variant.flavor or "any" for variant in variants}))
            excluded.append(_excluded(capacity, "-", NO_VARIANT, f"its variants are for {wanted}"))
        for variant in matching:
            resources = resources_on(variant, capacity.flavor)
            fit = capacity.fit(resources)
            if fit.slots == 0:
                excluded.append(_excluded(capacity, variant.name, *_shortfall(capacity, resources.as_demand())))
                continue
            # An unknown price is scored as the dearest of its tier.
            assumed_usd_per_h = fit.node_share * dearest[capacity.flavor.tier]
            claims = lanes.claims(capacity.flavor.name, fit.shares)
            estimate = estimate_of(capacity.flavor, variant)
            candidates.append(Candidate(capacity, variant, resources, fit, claims, estimate, assumed_usd_per_h, waiting))
    if not candidates:
        raise _no_fit(task, excluded)
    return Plan(candidates, excluded, preferred_flavors(domain, capacities.values()), waiting)


@functools.lru_cache(maxsize=4096)
def resources_on(variant: Variant, flavor: Flavor) -> Resources:
    """The variant's request on this flavor: one unit of its accelerator where the variant names it and says no amount."""
    resources = variant.resources
    is_named = variant.flavor in (flavor.name, flavor.family, flavor.kind)
    if not is_named or flavor.is_cpu or resources.uses_accelerator:
        return resources
    if flavor.resource == "GPU":
        return replace(resources, num_gpus=flavor.units)
    return replace(resources, custom=((flavor.resource, flavor.units),))


def preferred_flavors(domain: Domain, capacities: Iterable[FlavorCapacity]) -> frozenset[str]:
    """Where the domain goes first among equals: CV to tensor cores, NLP to accelerators with FP16, others nowhere."""
    flavors = [capacity.flavor for capacity in capacities]
    if domain == "cv":
        return frozenset(f.name for f in flavors if f.tensor_cores)
    if domain == "nlp":
        return frozenset(f.name for f in flavors if not f.is_cpu and ("fp16" in f.peak_flops or "bf16" in f.peak_flops))
    return frozenset()


def _asks_for(variant: Variant, flavor: Flavor) -> bool:
    return bool(variant.flavor) and variant.flavor != "cpu" and flavor.answers_to(variant.flavor)


def _matches(variant: Variant, flavor: Flavor) -> bool:
    if not variant.flavor:
        return True
    # Every node has CPUs: work for "any CPU" may overflow onto the host CPUs of an accelerator node.
    return variant.flavor == "cpu" or flavor.answers_to(variant.flavor)


def _dearest_by_tier(capacities: Iterable[FlavorCapacity]) -> dict[str, float]:
    """The dearest node of each tier; of the whole fabric where no price of the tier is known, so that unknown is never free."""
    known: dict[str, float] = {}
    tiers: set[str] = set()
    for capacity in capacities:
        tier = capacity.flavor.tier
        tiers.add(tier)
        for usd in (capacity.usd_per_h(shape) for shape, _ in capacity.shapes):
            if usd is not None:
                known[tier] = max(usd, known.get(tier, 0.0))
    return {tier: known.get(tier, max(known.values(), default=0.0)) for tier in tiers}


def _alternative(candidate: Candidate, waiting_usd_per_s: float, excluded: str | None) -> Alternative:
    wait_s = candidate.wait_s()
    flavor = candidate.capacity.flavor
    score = candidate.base_score + wait_s * waiting_usd_per_s
    return Alternative(
        flavor.name,
        flavor.tier,
        candidate.variant.name,
        wait_s,
        candidate.run_s,
        candidate.cost_usd,
        score,
        candidate.estimate,
        candidate.capacity.is_twin,
        excluded,
    )


def _excluded(capacity: FlavorCapacity, variant: str, code: str, detail: str) -> Alternative:
    flavor = capacity.flavor
    return Alternative(
        flavor.name, flavor.tier, variant, 0.0, 0.0, None, float("inf"), _NO_ESTIMATE, capacity.is_twin, excluded=code, detail=detail
    )


def _shortfall(capacity: FlavorCapacity, demand: Mapping[str, float]) -> tuple[str, str]:
    if not capacity.shapes:
        state = f"{len(capacity.closed)} cordoned or draining" if capacity.closed else "none left"
        return NO_NODES, f"no ready node ({state})"
    short = [
        f"{amount:g} {name} on one node, the largest has {capacity.largest(name):g}"
        for name, amount in demand.items()
        if amount > capacity.largest(name)
    ]
    return RESOURCES, "needs " + ("; ".join(short) or f"{dict(demand)} together on one node")


def _no_fit(task: str, excluded: Sequence[Alternative]) -> NoFitError:
    if not excluded:
        hint = 'start nodes with `ray start --labels "$(fabric node labels)"`; `fabric doctor` names unlabelled ones'
        return NoFitError(f"{task} fits nowhere: the fabric has no labelled node", hint=hint, shortfalls=(), retryable=True)
    shortfalls = tuple((a.tier, f"{a.flavor}: {a.detail}") for a in excluded)
    lines = "; ".join(f"{tier} ({detail})" for tier, detail in shortfalls)
    is_passing = any(a.excluded == NO_NODES for a in excluded)
    hint = "uncordon a node, or wait for one" if is_passing else "ask for less, or add a node that is large enough"
    return NoFitError(f"{task} fits nowhere: {lines}", hint=hint, shortfalls=shortfalls, retryable=is_passing)
