"""Looks after where models run: which of them should move, from their records and the fabric's offers. A move is a deploy of the same
source at another place: the version there answers first, then the one before goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fabric.claims import Room
from fabric.errors import NoFitError
from fabric.offers import ModelPrior
from fabric.types import Offer
from serve_apps.directory.records import DeployRecord, ReplicaReport
from serve_apps.place_model import Wish
from serve_apps.placing import Move, Mover

LOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's default version as it runs: `num_running` replicas report."""

    record: DeployRecord
    num_running: int
    rate_per_s: float = 0.0


class Movers:
    """All models' memories. `offers`: asks the fabric."""

    def __init__(self, offers: Callable[[Wish, ModelPrior], Sequence[Offer]]) -> None:
        self._offers = offers
        self._movers: dict[tuple[str, str], Mover] = {}

    def look(self, standing: Iterable[Standing], now_s: float) -> list[tuple[DeployRecord, Move]]:
        """The moves to make now, each told once. Raises: UnavailableError where the fabric cannot be asked."""
        moves = []
        found = {(one.record.name, one.record.key): one for one in standing if one.record.placement}
        self._movers = {key: self._movers.get(key) or Mover(now_s) for key in found}
        for key, one in found.items():
            move = self._ask(self._movers[key], one, now_s)
            if move is not None:
                moves.append((one.record, move))
        return moves

    def rooms(self) -> list[Room]:
        """What models wait for, as the last look found it."""
        waiting = [(name, mover.wanted) for (name, _), mover in self._movers.items() if mover.wanted is not None]
        return [Room(name, one.offer.tier, one.offer.flavor, one.offer.resources, one.num_replicas) for name, one in waiting]

    def _ask(self, mover: Mover, one: Standing, now_s: float) -> Move | None:
        place, wish = one.record.placement, wish_of(one.record)
        try:
            offers = self._offers(wish, ModelPrior.from_json(place.get("prior")))
        except NoFitError:  # nothing can hold it any more: it stays where it is
            return None
        current = (str(place.get("flavor", "")), str(place.get("kind", "cpu")))
        num_missing = max(0, int(one.record.settings.get("min_replicas", 1)) - one.num_running)
        return mover.should_move(current, offers, wish.need(one.rate_per_s), now_s, num_missing=num_missing)


def standing_of(record: DeployRecord, reports: Sequence[ReplicaReport]) -> Standing:
    """From what its replicas say."""
    return Standing(record, len(reports), sum(report.stats.get("requests_per_s", 0.0) for report in reports))


def wish_of(record: DeployRecord) -> Wish:
    """What was wished when it was deployed, from its settings."""
    settings = record.settings
    replicas = max(1, int(settings.get("min_replicas", settings.get("replicas", 1))))
    wish = Wish(record.name, float(settings.get("num_cpus", 0.1)), num_replicas=replicas)
    return replace(wish, tier=settings.get("tier"), latency_target_ms=settings.get("latency_target_ms"))
