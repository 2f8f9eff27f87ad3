"""What each model has cost: hours of its replicas by flavor, at the price of their place, and the requests that they answered.

`Bill` is plain and synchronous; `keep` writes it down. Invariants: sums never fall, and stay when the model is gone; what a replica counted
counts once, also when this process restarts; a replica's time is that between its reports, so that one which died ends with its last. A
process that only stands in (`is_bridge`) has its requests counted and costs nothing: it holds no place of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fabric.errors import FabricError
from serve_apps.directory.records import DeployRecord, ReplicaReport, replica_price
from serve_apps.directory.table import ReplicaId

STREAM = "model-usage"
EVERY_S = 30.0
FORGET_S = 86_400.0
"""A replica that has been silent for so long does not come back."""
LONGEST_AWAY_S = 3600.0
"""At most so much is charged for the time in which this process was away."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """A replica's last report: what it had counted, and when: `wall_s` for a later life of this process, `at_s` (monotonic) for its own."""

    requests: int
    errors: int
    wall_s: float
    at_s: float | None = None

    def seconds_to(self, now_s: float, wall_s: float) -> float:
        """How long ago that was. A clock that was set counts for nothing while this process lives, and for little after that."""
        if self.at_s is not None:
            return max(0.0, now_s - self.at_s)
        return min(max(0.0, wall_s - self.wall_s), LONGEST_AWAY_S)


@dataclass(slots=True)
class _Account:
    """One model's sums. `usd`: by flavor; None where no price was known for some of the time."""

    since_s: float
    user: str = ""
    requests: int = 0
    errors: int = 0
    replica_s: dict[str, float] = field(default_factory=dict)
    usd: dict[str, float | None] = field(default_factory=dict)
    seen: dict[ReplicaId, _Seen] = field(default_factory=dict)


class Bill:
    """Of all models, by name."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._changed: set[str] = set()

    def note(self, report: ReplicaReport, record: DeployRecord, now_s: float, wall_s: float) -> None:
        """A replica of this deployment reports. `now_s` is monotonic."""
        account = self._accounts.setdefault(report.name, _Account(wall_s))
        account.user = record.user
        observed, seen = report.observed, account.seen.get(report.id)
        now = _Seen(observed.num_requests, observed.num_errors, wall_s, now_s)
        if seen is not None and now.requests >= seen.requests:
            account.requests += now.requests - seen.requests
            account.errors += max(0, now.errors - seen.errors)
        else:  # it is new, or began anew under its name
            account.requests += now.requests
            account.errors += now.errors
        if seen is not None and not report.is_bridge:
            self._charge(account, report.flavor, seen.seconds_to(now_s, wall_s), replica_price(record, report.flavor))
        account.seen[report.id] = now
        self._changed.add(report.name)

    def rows(self) -> list[dict[str, Any]]:
        """The sums of `fabric.usage_form.MODEL_ROW_KEYS`, by name; what runs now is for others to add."""
        return [_row(name, account) for name, account in sorted(self._accounts.items())]

    def changed(self, wall_s: float) -> dict[str, Any]:
        """A document for each model of which something was noted since it was last asked."""
        names, self._changed = self._changed, set()
        for name in names:
            account = self._accounts[name]
            account.seen = {replica: seen for replica, seen in account.seen.items() if wall_s - seen.wall_s < FORGET_S}
        return {name: _document(self._accounts[name]) for name in sorted(names)}

    def note_unwritten(self, documents: Mapping[str, Any]) -> None:
        """They could not be written: the next `changed` has them again."""
        self._changed |= documents.keys()

    def restore(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Of an earlier life; unknown keys, of a later release, are left out."""
        for name, body in documents.items():
            known = {key: value for key, value in body.items() if key in _Account.__slots__}
            seen = {
                ReplicaId(replica): _Seen(one["requests"], one["errors"], one["wall_s"]) for replica, one in body.get("seen", {}).items()
            }
            self._accounts[name] = _Account(**{**known, "seen": seen})

    def _charge(self, account: _Account, flavor: str, seconds: float, usd_per_h: float | None) -> None:
        if seconds <= 0:
            return
        account.replica_s[flavor] = account.replica_s.get(flavor, 0.0) + seconds
        before = account.usd.get(flavor, 0.0)
        account.usd[flavor] = None if before is None or usd_per_h is None else before + usd_per_h * seconds / 3600


async def keep(bill: Bill, save: Callable[[str, Mapping[str, Any]], Awaitable[None]], wall_s: Callable[[], float]) -> None:
    """For ever: what was noted is on disk `EVERY_S` later."""
    while True:
        await asyncio.sleep(EVERY_S)
        documents = bill.changed(wall_s())
        try:
            if documents:
                await save(STREAM, documents)
        except FabricError as error:
            bill.note_unwritten(documents)
            _log.warning("usage of models not written yet: %s", error)


def _document(account: _Account) -> dict[str, Any]:
    seen = {replica: {"requests": one.requests, "errors": one.errors, "wall_s": one.wall_s} for replica, one in account.seen.items()}
    return {**asdict(account), "seen": seen}


def _row(name: str, account: _Account) -> dict[str, Any]:
    costs = list(account.usd.values())
    cost_usd = sum(cost for cost in costs if cost is not None) if None not in costs else None
    return {
        "name": name,
        "user": account.user,
        "since_s": account.since_s,
        "requests": account.requests,
        "errors": account.errors,
        "flavor_hours": {flavor: seconds / 3600 for flavor, seconds in sorted(account.replica_s.items())},
        "replica_hours": sum(account.replica_s.values()) / 3600,
        "cost_usd": cost_usd,
        "usd_per_1000": None if cost_usd is None or not account.requests else 1000 * cost_usd / account.requests,
    }
