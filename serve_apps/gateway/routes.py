"""Decides which replica answers a request: the one with the fewest requests of ours outstanding, of two drawn at random.

Plain and synchronous; the clock and the draw come from outside. Invariants: a count never falls below zero and belongs to an address,
not to a table, so that it outlives `replace`; a replica that refused a connection is left out for a while, unless all of them did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from fabric.errors import UnknownNameError
from serve_apps.gateway.table import Address, ModelEntry, Table, VersionEntry

EJECTED_S = 2.0
"""As long as a replica that died takes to leave the directory; a living one that was wrongly left out is back soon."""


class Target(NamedTuple):
    """A model's version as the table has it, by its true names."""

    model: str
    version: str
    entry: VersionEntry


class Routes:
    """The table and the counts. For one thread: the event loop's."""

    def __init__(self, table: Table | None = None, draw: Callable[[int], int] = random.randrange) -> None:
        """`draw(n)`: a number from 0 to n - 1."""
        self._table = table or Table()
        self._draw = draw
        self._outstanding: dict[Address, int] = {}
        self._ejected_until_s: dict[Address, float] = {}

    @property
    def table(self) -> Table:
        return self._table

    def replace(self, table: Table) -> None:
        """The newest table. Counts of replicas that are gone go with their last request."""
        self._table = table
        living = {address for _, _, entry in self.targets() for address in entry.replicas}
        self._ejected_until_s = {address: until_s for address, until_s in self._ejected_until_s.items() if address in living}

    def targets(self) -> Iterator[Target]:
        """Every version of every model, by name and then as the versions stand in the table."""
        for model, known in sorted(self._table.models.items()):
            for version, entry in known.versions.items():
                yield Target(model, version, entry)

    def model(self, name: str) -> tuple[str, ModelEntry]:
        """A model by its name or an alias, with its true name. Raises: UnknownNameError (`unknown_model`)."""
        entry = self._table.models.get(name)
        if entry is None:
            name = self._table.aliases.get(name, (name, ""))[0]
            entry = self._table.models.get(name)
        if entry is None:
            raise UnknownNameError.of("model", name, self._table.models)
        return name, entry

    def find(self, model: str, version: str = "") -> Target:
        """The version that answers; the alias's or the default one where none is named.

        Raises: UnknownNameError (`unknown_model`, `unknown_version`).
        """
        known = self._table.models.get(model)
        if known is None:
            version = version or self._table.aliases.get(model, ("", ""))[1]
            model, known = self.model(model)
        version = version or known.default_version
        entry = known.versions.get(version)
        if entry is None:
            raise UnknownNameError.of("version", version, known.versions)
        return Target(model, version, entry)

    def choose(self, target: Target, now_s: float, refused_by: Collection[Address] = ()) -> Address | None:
        """The replica for the next request, or None if the version has none besides those that refused it just now."""
        replicas = target.entry.replicas
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
