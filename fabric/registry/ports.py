"""The seams of the registry: where its rows are kept, and who knows what is served. Protocols, nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from fabric.registry.query import Page, Query
from fabric.registry.signature import Signature
from fabric.registry.version import By, ModelVersion, NewVersion, RegisteredModel, State


class ServedPort(Protocol):
    """Which versions of a model are deployed, in whatever state they are. Raises: UnavailableError where that cannot be told."""

    def __call__(self, name: str) -> Collection[int]: ...


class VersionsPort(Protocol):
    """Each call is one transaction: whole, or not at all. All of them raise UnavailableError where the database is gone and RuntimeFault
    (`storage_full`) where its disk is full; those that change something, RejectedError (`forbidden`)."""

    def register(self, name: str, new: NewVersion, by: By, now_s: float) -> ModelVersion: ...

    def model(self, name: str) -> RegisteredModel: ...

    def aliases_of(self, names: Sequence[str]) -> dict[str, dict[str, int]]: ...

    def find(self, name: str, word: str) -> ModelVersion: ...

    def discover(self, query: Query) -> Page: ...

    def set_aliases(self, name: str, aliases: Mapping[str, int | None], by: By) -> RegisteredModel: ...

    def mark(self, name: str, number: int, state: State, why: str, by: By) -> ModelVersion: ...

    def set_metrics(self, name: str, number: int, metrics: Mapping[str, float | None], by: By) -> ModelVersion: ...

    def learn_signature(self, name: str, number: int, signature: Signature) -> ModelVersion: ...

    def delete(self, name: str, number: int, by: By) -> None: ...
