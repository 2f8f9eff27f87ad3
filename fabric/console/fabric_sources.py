"""The console's sources in a running fabric: its pools over Ray, its API over HTTP with the token of the fabric's owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric import ray_io
from fabric.api.address import ADDRESS_FILE, TOKEN_FILE, read_address
from fabric.api.tokens import read_token_file
from fabric.api_client import ApiClient, HttpTransport
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.types import PoolSnapshot
from profiler.estimate import TaskProfile
from profiler.stragglers import Straggler

POOL_TIMEOUT_S = 10.0
OPEN = "PENDING,ADMITTED,RUNNING,PREEMPTING"
MOST_JOBS = 10_000


class RayPools:
    """See `PoolsSource`. All pools are asked at once."""

    def __init__(self, tiers: Sequence[str]) -> None:
        self._tiers = tuple(tiers)

    def snapshots(self) -> Mapping[str, PoolSnapshot | FabricError]:
        return ray_io.pool_snapshots(self._tiers, POOL_TIMEOUT_S)

    def slow_factors(self) -> Mapping[str, float]:
        try:
            stragglers: Sequence[Straggler] = ray_io.ask(ray_io.actor("profiler").stragglers.remote(), timeout_s=POOL_TIMEOUT_S)
        except FabricError:
            return {}
        return {straggler.node_id: straggler.factor for straggler in stragglers}

    def task_profiles(self) -> Sequence[TaskProfile]:
        profiles: Sequence[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote(), timeout_s=POOL_TIMEOUT_S)
        return profiles


class OwnApi:
    """See `ApiSource`. It has no patience: who asks asks again."""

    def __init__(self, config: FabricConfig) -> None:
        state = config.state_path
        transport = HttpTransport(lambda: read_address(state / ADDRESS_FILE))
        self._client = ApiClient(transport, lambda: read_token_file(state / TOKEN_FILE), patience_s=0.0)

    def open_jobs(self) -> list[Mapping[str, Any]]:
        jobs: list[Mapping[str, Any]] = self._client.get("/v1/jobs", {"state": OPEN, "limit": MOST_JOBS})["jobs"]
        return jobs

    def models(self) -> Any:
        return self._client.get("/v1/models"), self._client.get("/v1/rollouts")
