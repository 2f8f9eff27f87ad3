"""Pure: how much of each flavor's capacity is spoken for, as one client sees it.

A lane is one resource of one flavor (`a100-80g` × `GPU`). Every call in flight claims a share of the lanes it needs; a
call waits when its share and all the others' exceed one. Own calls are counted by the client itself, so that one stale
table never herds a burst onto one tier; what others use comes from the last snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabric.capacity import FlavorCapacity

SNAPSHOT_LAG = 3
_ROUNDING = 1e-9


class Lane:
    """One resource of one flavor. Shares are fractions of all that its ready nodes have."""

    __slots__ = ("flavor", "high", "other", "past_highs", "resource", "share", "work_s")

    def __init__(self, flavor: str, resource: str) -> None:
        self.flavor = flavor
        self.resource = resource
        self.share = 0.0
        self.work_s = 0.0
        self.other = 0.0
        self.high = 0.0
        self.past_highs = (0.0,) * SNAPSHOT_LAG

    def at(self, share: float, work_s: float, other: float) -> Lane:
        """A lane like this one, as full as these figures say."""
        lane = Lane(self.flavor, self.resource)
        lane.share, lane.work_s, lane.other = share, work_s, other
        return lane

    def wait_s(self, share: float, run_s: float) -> float:
        """Predicted seconds until a call that needs `share` of the lane, and runs `run_s`, can start."""
        excess = self.share + self.other + share - 1.0
        if excess <= _ROUNDING:
            return 0.0
        return excess * (self.work_s / self.share if self.share > _ROUNDING else run_s)


@dataclass(frozen=True, slots=True)
class Claim:
    """A call's share of one lane while it is in flight."""

    lane: Lane
    share: float


class Lanes:
    """All lanes of one client. Lanes live as long as the client: a new table only changes what others use."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._claims: dict[tuple[str, tuple[tuple[str, float], ...]], tuple[Claim, ...]] = {}

    def lane(self, flavor: str, resource: str) -> Lane:
        key = (flavor, resource)
        if key not in self._lanes:
            self._lanes[key] = Lane(flavor, resource)
        return self._lanes[key]

    def claims(self, flavor: str, shares: tuple[tuple[str, float], ...]) -> tuple[Claim, ...]:
        """The lanes that one call with these shares of a flavor's resources occupies while it is in flight."""
        key = (flavor, shares)
        claims = self._claims.get(key)
        if claims is None:
            claims = self._claims[key] = tuple(Claim(self.lane(flavor, resource), share) for resource, share in shares)
        return claims

    def observe(self, capacity: FlavorCapacity) -> None:
        """Take the use of others from a snapshot: all that is used less what this client's own calls can be using.

        A snapshot is up to `SNAPSHOT_LAG` refreshes old, so own calls that ended since then are still in it.
        """
        for resource, total in capacity.total.items():
            lane = self.lane(capacity.flavor.name, resource)
            used = capacity.used.get(resource, 0.0) / total if total else 0.0
            own = max(lane.high, *lane.past_highs)
            lane.other = max(0.0, used - min(own, 1.0))
            lane.past_highs = (lane.high, *lane.past_highs[:-1])
            lane.high = lane.share

    def share(self, flavor: str) -> float:
        """The fullest lane of a flavor, own calls only."""
        return max((lane.share for (name, _), lane in self._lanes.items() if name == flavor), default=0.0)


def start(claims: tuple[Claim, ...], run_s: float) -> None:
    """One more call in flight."""
    for claim in claims:
        lane = claim.lane
        lane.share += claim.share
        if lane.share > lane.high:
            lane.high = lane.share
        lane.work_s += claim.share * run_s


def finish(claims: tuple[Claim, ...], run_s: float) -> None:
    """The call is no longer in flight; `run_s` is the prediction that it was started with."""
    for claim in claims:
        lane = claim.lane
        lane.share = max(0.0, lane.share - claim.share)
        lane.work_s = max(0.0, lane.work_s - claim.share * run_s)
