"""What the gateway is told of the models: who serves which version where. Nouns only; `routes` decides over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from serve_apps.tensors import ModelMetadata

READY, PARKED, LOADING, UNAVAILABLE = "READY", "PARKED", "LOADING", "UNAVAILABLE"


class Address(NamedTuple):
    """Where a replica's own HTTP server listens. A tuple: it is a key on every request's way."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version of one model. `state`: `READY`, `PARKED` (a request wakes it), `LOADING` or `UNAVAILABLE`; `reason` says why.

    A version that takes requests may stand here without replicas, when none is known to live at this moment.
    """

    metadata: ModelMetadata
    replicas: tuple[Address, ...] = ()
    state: str = READY
    reason: str = ""

    @property
    def can_answer(self) -> bool:
        """Whether a request to it will be answered: at once, or after it was woken."""
        return self.state == PARKED or (self.state == READY and bool(self.replicas))


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model by name. `default_version` answers requests that name none."""

    versions: Mapping[str, VersionEntry]
    default_version: str

    @property
    def default(self) -> VersionEntry | None:
        return self.versions.get(self.default_version)


@dataclass(frozen=True, slots=True)
class Table:
    """All models, and other names for them: `aliases` maps a name to a model's name, or to (model, version)."""

    models: Mapping[str, ModelEntry] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, tuple[str, str]] = field(default_factory=lambda: MappingProxyType({}))
