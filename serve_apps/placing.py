"""Decides on which flavor a model is served: where it meets its latency target at least cost; and when it moves.

Pure: offers and the time come in, a choice or a move comes out. A model falls back at once where its place has no room, and comes back
only when the better place has had room for a while: a move starts replicas anew. Unknown prices are never taken for free.

Invariants: no choice without an offer; a place without room is chosen only where none has any; with the same offers at the same times
the moves are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fabric.types import Offer, Placement

P95_SDS = 1.645
LOADED_FACTOR = 2.0
"""p95 over the time of one request alone, on a replica that is half busy. Source: `fabric.batching.p95_s` of one unit."""
BUSY_FRAC = 0.7
"""How busy replicas are kept: what they are counted by where the rate is known."""
TIE = 1.02
WORTH_MOVING_FRAC = 0.15
"""A move for money alone must save this much."""
BETTER_FOR_S = 120.0
STAY_S = 600.0
STUCK_FOR_S = 20.0
"""A place that cannot hold its replicas is left after this."""
RETRY_S = 300.0
"""Leaving is tried again after this, where the model did not start at its new place."""

CHEAPEST_IN_TIME = "CheapestInTime"
CHEAPEST = "Cheapest"
DOMAIN_PREFERENCE = "DomainPreference"
ONLY_FIT = "OnlyFit"
FASTEST = "TargetOutOfReach"
FALLBACK = "Fallback"
NO_ROOM = "NoRoom"
CAME_BACK = "CameBack"
GONE = "PlaceGone"


@dataclass(frozen=True, slots=True)
class Need:
    """`latency_target_ms` None: any time will do. `rate_per_s`: requests, 0 where it is not known yet."""

    latency_target_ms: float | None = None
    rate_per_s: float = 0.0
    num_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer with what is thought of it. `usd_per_h`: of all replicas; of an unknown price, the dearest known one's."""

    offer: Offer
    p95_ms: float
    usd_per_h: float
    num_replicas: int
    is_in_time: bool

    @property
    def has_room(self) -> bool:
        return self.offer.num_free >= self.num_replicas


@dataclass(frozen=True, slots=True)
class Choice:
    """The place taken, why, and all places, best first. `wanted`: the best place, where that one had no room."""

    taken: Ranked
    reason: str
    ranked: tuple[Ranked, ...]
    wanted: Ranked | None = None

    @property
    def placement(self) -> Placement:
        """In Ray's terms. Ray may fall back only to places that take the same resources; to others the model is moved."""
        offer = self.taken.offer
        same = [one.offer for one in self.ranked if one is not self.taken and one.offer.resources == offer.resources]
        fallback = tuple({"label_selector": other.label_selector} for other in same)
        return Placement(offer.tier, offer.flavor, offer.label_selector, fallback, offer.is_twin)

    def explain(self) -> str:
        """One line for people: the place, its figures, the reason."""
        one, offer = self.taken, self.taken.offer
        price = "price unknown" if offer.usd_per_h is None else f"${one.usd_per_h:.3g} per hour"
        told = f"{offer.flavor} ({offer.tier}): {self.reason}; p95 {one.p95_ms:.3g} ms ({offer.source}), {price}"
        return told if self.wanted is None else f"{told}; {self.wanted.offer.flavor} would be better and has no room"


def p95_ms(offer: Offer) -> float:
    """Predicted p95 at half load. What is not measured counts as slow as it may well be."""
    estimate = offer.estimate
    return 1e3 * LOADED_FACTOR * estimate.run_s * math.exp(P95_SDS * (estimate.log_sd if estimate.num_runs == 0 else 0.0))


def num_replicas_on(offer: Offer, need: Need) -> int:
    """So many replicas that they keep up with the rate; never fewer than asked for."""
    return max(need.num_replicas, math.ceil(need.rate_per_s * offer.estimate.run_s / BUSY_FRAC - 1e-9))


def rank(offers: Sequence[Offer], need: Need) -> list[Ranked]:
    """Those in time first, the cheapest first; then the others, the fastest first. Host CPUs of accelerators come after their like, and
    among places that cost nearly the same the domain's preferred ones come first."""
    dearest = max((offer.usd_per_h for offer in offers if offer.usd_per_h is not None), default=0.0)
    found = []
    for offer in offers:
        count, late_ms = num_replicas_on(offer, need), p95_ms(offer)
        price = dearest if offer.usd_per_h is None else offer.usd_per_h
        in_time = need.latency_target_ms is None or late_ms <= need.latency_target_ms
        found.append(Ranked(offer, late_ms, price * count, count, in_time))
    found.sort(key=_order)
    return _with_preference(found)


def choose(offers: Sequence[Offer], need: Need) -> Choice:
    """The best place that has room; the best of all where none has. `offers`: at least one."""
    ranked = rank(offers, need)
    best = ranked[0]
    with_room = next((one for one in ranked if one.has_room and (one.is_in_time or not best.is_in_time)), None)
    with_room = with_room or next((one for one in ranked if one.has_room), None)
    if with_room is None:
        return Choice(best, NO_ROOM, tuple(ranked))
    if with_room is not best:
        return Choice(with_room, FALLBACK, tuple(ranked), best)
    return Choice(best, _why(ranked, need), tuple(ranked))


@dataclass(frozen=True, slots=True)
class Move:
    """Deploy the model at `choice`, then retire the replicas where it was."""

    choice: Choice
    reason: str


@dataclass(slots=True)
class Mover:
    """One model's memory of where it could have been. `moved_s`: when it came to where it is."""

    moved_s: float
    _better_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _stuck_since_s: float | None = None
    _left_s: float = -math.inf
    wanted: Ranked | None = None
    """The place that it waits for: room there should go to it, not to jobs. Its `num_replicas`: so many are to be had room for."""

    def should_move(
        self, current: tuple[str, str], offers: Sequence[Offer], need: Need, now_s: float, *, num_missing: int = 0
    ) -> Move | None:
        """Ask this every few seconds. `current`: flavor and kind; `num_missing`: replicas that are asked for there and do not run."""
        self.wanted = None
        if not offers:
            return None
        ranked = rank(offers, need)
        here = next((one for one in ranked if (one.offer.flavor, one.offer.kind) == current), None)
        others = [one for one in ranked if one is not here and one.has_room]
        # Replicas that only take long to start are no reason to go elsewhere; those that nobody has room for are.
        if here is None or num_missing > here.offer.num_free:
            self.wanted = ranked[0] if here is None else replace(here, num_replicas=num_missing)
            return self._leave(others, ranked, now_s, GONE if here is None else FALLBACK)
        self._stuck_since_s = None
        better = [one for one in others if _is_better(one, here)]
        keys = {(one.offer.flavor, one.offer.kind) for one in better}
        self._better_since = {key: self._better_since.get(key, now_s) for key in keys}
        if now_s - self.moved_s < STAY_S:
            return None
        if _is_better(ranked[0], here):
            self.wanted = ranked[0]
        ready = [one for one in better if now_s - self._better_since[(one.offer.flavor, one.offer.kind)] >= BETTER_FOR_S]
        return self._go(ready[0], ranked, CAME_BACK, now_s) if ready else None

    def _leave(self, others: Sequence[Ranked], ranked: Sequence[Ranked], now_s: float, reason: str) -> Move | None:
        self._stuck_since_s = now_s if self._stuck_since_s is None else self._stuck_since_s
        if not others or now_s - self._stuck_since_s < STUCK_FOR_S or now_s - self._left_s < RETRY_S:
            return None
        self._left_s = now_s
        return self._go(others[0], ranked, reason, now_s)

    def _go(self, to: Ranked, ranked: Sequence[Ranked], reason: str, now_s: float) -> Move:
        self.moved_s, self._stuck_since_s, self._better_since = now_s, None, {}
        wanted = ranked[0] if ranked[0] is not to else None
        return Move(Choice(to, reason, tuple(ranked), wanted), reason)


def _is_better(one: Ranked, here: Ranked) -> bool:
    if one.is_in_time != here.is_in_time:
        return one.is_in_time
    if not one.is_in_time:
        return one.p95_ms < (1 - WORTH_MOVING_FRAC) * here.p95_ms
    return one.usd_per_h < (1 - WORTH_MOVING_FRAC) * here.usd_per_h


def _order(one: Ranked) -> tuple[bool, bool, float, float, str, str]:
    first = one.usd_per_h if one.is_in_time else one.p95_ms
    return (not one.is_in_time, one.offer.is_borrowed, first, one.p95_ms, one.offer.flavor, one.offer.kind)


def _with_preference(ranked: list[Ranked]) -> list[Ranked]:
    best = ranked[0] if ranked else None
    if best is None or best.offer.is_preferred or not best.is_in_time:
        return ranked
    near = [one for one in ranked if one.is_in_time and one.offer.is_preferred and one.usd_per_h <= TIE * best.usd_per_h]
    return [near[0], *(one for one in ranked if one is not near[0])] if near else ranked


def _why(ranked: Sequence[Ranked], need: Need) -> str:
    best = ranked[0]
    if len(ranked) == 1:
        return ONLY_FIT
    if not best.is_in_time:
        return FASTEST
    if best.offer.is_preferred and any(one.is_in_time and _order(one) < _order(best) for one in ranked[1:]):
        return DOMAIN_PREFERENCE
    return CHEAPEST if need.latency_target_ms is None else CHEAPEST_IN_TIME
