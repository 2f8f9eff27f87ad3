"""What happens to a lot of parked processes (past tense), and what its book orders (imperative)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from fabric.errors import FabricError
from serve_apps.parking.rules import ModelVersion

SlotId = NewType("SlotId", int)
"""One process of the lot, from its fork to its end; never used twice."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a version that no process holds. `idle_s`: of this model, None: as the rules have it."""

    model: ModelVersion
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class ZygoteReady:
    pass


@dataclass(frozen=True, slots=True)
class ZygoteLost:
    pass


@dataclass(frozen=True, slots=True)
class Parked:
    slot: SlotId


@dataclass(frozen=True, slots=True)
class WentLive:
    slot: SlotId


@dataclass(frozen=True, slots=True)
class AdoptionFailed:
    """The process is ending by itself."""

    slot: SlotId
    error: FabricError


@dataclass(frozen=True, slots=True)
class Ended:
    slot: SlotId
    reason: str


@dataclass(frozen=True, slots=True)
class Used:
    """The process has answered requests since it last told, or answers `num_in_flight` now."""

    slot: SlotId
    num_in_flight: int


@dataclass(frozen=True, slots=True)
class ReplicaRegistered:
    """A Serve replica answers for this version."""

    model: ModelVersion


@dataclass(frozen=True, slots=True)
class ReplicaGone:
    """No Serve replica answers for this version any more."""

    model: ModelVersion


@dataclass(frozen=True, slots=True)
class Dropped:
    """The version was deleted or superseded."""

    model: ModelVersion


@dataclass(frozen=True, slots=True)
class Ticked:
    pass


ProcessEvent = Parked | WentLive | AdoptionFailed | Ended | Used
Event = ProcessEvent | Wanted | ZygoteReady | ZygoteLost | ReplicaRegistered | ReplicaGone | Dropped | Ticked


@dataclass(frozen=True, slots=True)
class StartZygote:
    pass


@dataclass(frozen=True, slots=True)
class Fork:
    slot: SlotId


@dataclass(frozen=True, slots=True)
class Adopt:
    slot: SlotId
    model: ModelVersion


@dataclass(frozen=True, slots=True)
class Retire:
    """Let it finish the requests that it answers, then leave."""

    slot: SlotId
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """All that wait for this version get the error."""

    model: ModelVersion
    error: FabricError


@dataclass(frozen=True, slots=True)
class AskReplica:
    model: ModelVersion
    reason: str


Command = StartZygote | Fork | Adopt | Retire | Refuse | AskReplica
