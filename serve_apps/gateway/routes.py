"""Decides which replica answers a request: of the deployment that `choose_version` gives it, the one with the fewest requests of ours
outstanding, of two drawn at random.

Plain and synchronous; the clock and the draw come from outside. Invariants: a count never falls below zero and belongs to an address,
not to a table, so that it outlives `replace`; a replica that refused a connection is left out for a while, unless all of them did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fabric.errors import UnknownNameError
from serve_apps.directory.choose_version import VERSION_HEADER as _VERSION
from serve_apps.directory.choose_version import choose_version, names_of
from serve_apps.directory.table import ModelEntry, ServingTable, VersionEntry
from serve_apps.tensors import ModelMetadata

EJECTED_S = 2.0
"""As long as a replica that died takes to leave the directory; a living one that was wrongly left out is back soon."""

VERSION_HEADER = _VERSION.encode()

State = Literal["READY", "PARKED", "UNAVAILABLE"]


class Address(NamedTuple):
    """Where a replica's own HTTP server listens. A tuple: it is a key on every request's way."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment of a model, as requests are routed by it. `PARKED`: it has no replica, and a request wakes one.

    `version` is what clients see. `metadata` has all versions of the name; it is bare where no replica has ever loaded the model.
    `fallback`: who answers where the split chose this one and it cannot be reached; None for a request that names a version.
    """

    model: str
    deployment: str
    version: str
    metadata: ModelMetadata
    replicas: tuple[Address, ...]
    state: State
    reason: str
    fallback: Target | None = None

    @property
    def can_answer(self) -> bool:
        """Whether a request will be answered: at once, or by a replica that it wakes."""
        return self.state != "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class _Model:
    """`targets` by deployment, oldest first; `names`: what a request may call them."""

    entry: ModelEntry
    targets: Mapping[str, Target]
    names: Mapping[str, str]
    default: str


class Routes:
    """The table and the counts. For one thread: the event loop's."""

    def __init__(self, table: ServingTable | None = None, draw: Callable[[int], int] = random.randrange) -> None:
        """`draw(n)`: a number from 0 to n - 1."""
        self._draw = draw
        self._models: dict[str, _Model] = {}
        self._outstanding: dict[Address, int] = {}
        self._ejected_until_s: dict[Address, float] = {}
        self.replace(table or ServingTable())

    def replace(self, table: ServingTable) -> None:
        """The newest table. Counts of replicas that are gone go with their last request."""
        self._models = {name: _routed(entry) for name, entry in sorted(table.models.items()) if entry.versions}
        living = self.addresses()
        self._ejected_until_s = {address: until_s for address, until_s in self._ejected_until_s.items() if address in living}

    # -- what there is -------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Of all models, sorted."""
        return list(self._models)

    def targets(self, model: str = "") -> list[Target]:
        """Every deployment of every model, or of one. Raises: UnknownNameError (`unknown_model`)."""
        models = [self._model(model)] if model else self._models.values()
        return [target for known in models for target in known.targets.values()]

    def addresses(self) -> set[Address]:
        """Of all replicas."""
        return {address for target in self.targets() for address in target.replicas}

    def find(self, model: str, version: str = "") -> Target:
        """The deployment of a version; the default one where none is named.

        Raises: UnknownNameError (`unknown_model`, `unknown_version`).
        """
        known = self._model(model)
        return _named(known, version) if version else known.targets[known.default]

    def at(self, model: str, deployment: str) -> Target:
        """Raises: UnknownNameError, where it has gone."""
        known = self._model(model)
        target = known.targets.get(deployment)
        return _named(known, deployment) if target is None else target

    def pick(self, model: str, version: str, headers: Mapping[bytes, bytes]) -> Target:
        """Who answers one request: the version that it names or that its headers do, else an arm of the split, else the default one.
        `headers`: names in lower case. Raises: as `find`."""
        known = self._model(model)
        if not version and VERSION_HEADER not in headers and known.entry.split is None:
            return known.targets[known.default]
        deployment = choose_version(known.entry, version, headers, self._draw)
        if deployment is None:
            return _named(known, version or headers[VERSION_HEADER].strip().decode("latin-1"))
        chosen = known.targets[deployment or known.default]
        if version or headers.get(VERSION_HEADER) or chosen.deployment == known.default:
            return chosen
        return replace(chosen, fallback=known.targets[known.default])

    def _model(self, name: str) -> _Model:
        known = self._models.get(name)
        if known is None:
            raise UnknownNameError.of("model", name, self._models)
        return known

    # -- which replica -------------------------------------------------------------------------------------------------

    def choose(self, target: Target, now_s: float, refused_by: Collection[Address] = ()) -> Address | None:
        """The replica for the next request, or None if the version has none besides those that refused it just now."""
        replicas = target.replicas
        if refused_by or self._ejected_until_s:
            replicas = self._usable(replicas, now_s, refused_by)
        if len(replicas) < 2:
            return replicas[0] if replicas else None
        first = self._draw(len(replicas))
        second = self._draw(len(replicas) - 1)
        second += second >= first
        one, other = replicas[first], replicas[second]
        return one if self.outstanding(one) <= self.outstanding(other) else other

    def _usable(self, replicas: tuple[Address, ...], now_s: float, refused_by: Collection[Address]) -> tuple[Address, ...]:
        left = tuple(address for address in replicas if address not in refused_by)
        fit = tuple(address for address in left if self._ejected_until_s.get(address, 0.0) <= now_s)
        # If all were left out, one that may be back is better than none.
        return fit or left

    def outstanding(self, address: Address) -> int:
        return self._outstanding.get(address, 0)

    def began(self, address: Address) -> None:
        self._outstanding[address] = self._outstanding.get(address, 0) + 1

    def ended(self, address: Address) -> None:
        left = self._outstanding.get(address, 0) - 1
        if left > 0:
            self._outstanding[address] = left
        else:
            self._outstanding.pop(address, None)

    def refused(self, address: Address, now_s: float) -> None:
        """It took no connection. The next requests go elsewhere for `EJECTED_S`."""
        self._ejected_until_s[address] = now_s + EJECTED_S

    def connected(self, address: Address) -> None:
        """It took a connection: whatever it refused before, it lives."""
        self._ejected_until_s.pop(address, None)


def _named(known: _Model, version: str) -> Target:
    target = known.targets.get(known.names.get(version, ""))
    if target is None:
        hint = f"it has {', '.join(known.names)}"
        raise UnknownNameError(f"model {known.entry.name!r} has no version {version[:100]!r}", code="unknown_version", hint=hint)
    return target


def _routed(entry: ModelEntry) -> _Model:
    deployments = sorted(entry.versions, key=_age)
    versions = tuple(dict.fromkeys(entry.versions[deployment].version for deployment in deployments))
    targets = {deployment: _target(entry.name, deployment, versions, entry.versions[deployment]) for deployment in deployments}
    return _Model(entry, targets, names_of(entry), entry.default if entry.default in targets else deployments[-1])


def _target(model: str, deployment: str, versions: tuple[str, ...], entry: VersionEntry) -> Target:
    state: State = "READY" if entry.replicas else "PARKED" if entry.is_ready else "UNAVAILABLE"
    known = entry.metadata
    metadata = ModelMetadata(model, versions, "", (), ()) if known is None else replace(known, name=model, versions=versions)
    addresses = tuple(Address(replica.host, replica.port) for replica in entry.replicas)
    return Target(model, deployment, entry.version, metadata, addresses, state, entry.reason)


def _age(deployment: str) -> tuple[int, int, str]:
    version, _, nth = deployment.partition(".")
    return (int(version) if version.isdecimal() else -1, int(nth) if nth.isdecimal() else 0, deployment)
