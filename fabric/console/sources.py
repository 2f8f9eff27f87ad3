"""What the console asks of others: seams, so that it runs over a simulated fabric as over a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fabric.errors import FabricError
from fabric.types import PoolSnapshot
from profiler.estimate import TaskProfile


class PoolsSource(Protocol):
    """The pools and the profiler; called from threads that may wait."""

    def snapshots(self) -> Mapping[str, PoolSnapshot | FabricError]:
        """Tier -> its pool's snapshot, or why there is none; tiers best first."""
        ...

    def slow_factors(self) -> Mapping[str, float]:
        """Node id -> how many times slower it is than its like, of those that are."""
        ...

    def task_profiles(self) -> Sequence[TaskProfile]:
        """What was measured of every task. Raises: FabricError."""
        ...


class ApiSource(Protocol):
    """What the console reads of the fabric's API by itself; called from a thread of its own. Raises: FabricError."""

    def open_jobs(self) -> list[Mapping[str, Any]]:
        """All jobs that have not ended, in the form of `fabric.job_form`."""
        ...

    def models(self) -> Any:
        """The documents of `/v1/models` (None: not known) and `/v1/rollouts`, as a pair."""
        ...


class HandedOn(NamedTuple):
    """An answer of the API. `chunks` ends with the body; closing it lets the API's connection go."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class ApiDoor(Protocol):
    """Where requests are handed on to. `target`: path and query, as they came."""

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HandedOn:
        """Raises: UnavailableError."""
        ...
