"""What Serve starts: one replica, at work in its process, kept in the directory. Knows nothing of Ray; `deployment` makes it Serve's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fabric.errors import FabricError, RuntimeFault
from serve_apps.beats import Beats
from serve_apps.directory.table import ReplicaId
from serve_apps.replica_host import ReplicaHost
from serve_apps.replica_settings import DirectoryPort, ReplicaSettings, RunsPort

DRAIN_S = 20.0
"""What requests that run may take to end when a replica is stopped."""
SETTLE_S = 1.0
"""Between good-bye and the end of listening: ingresses hear of it meanwhile."""


class Replica:
    """`place()`: (this replica's id, its node's id, its node's address). `open_runs`: where the runs of a model are reported.
    `read_gpu()`: percent of its cards, None where it has none."""

    def __init__(
        self,
        settings: ReplicaSettings,
        directory: DirectoryPort,
        place: Callable[[], tuple[str, str, str]],
        open_runs: Callable[[ReplicaSettings], RunsPort] | None = None,
        read_gpu: Callable[[], float | None] | None = None,
    ) -> None:
        replica_id, node_id, node_host = place()
        settings = replace(settings, host=settings.host or node_host)
        try:
            runs = open_runs(settings) if open_runs is not None else None
            self._host = ReplicaHost(settings, ReplicaId(replica_id), node_id=node_id, runs=runs, read_gpu=read_gpu)
        except FabricError as error:
            # Serve passes on only the text of the traceback, and that shows notes but neither our code nor our hint.
            error.add_note(f"code: {error.code}")
            if error.hint:
                error.add_note(f"hint: {error.hint}")
            raise
        self._beats = Beats(directory, self._host.report, self._host.access, self._host.tend, self._host.heed)
        self._beats.start()

    async def predict(self, arguments: dict[str, Any]) -> Any:
        """Python's remote `predict`, its arguments by name."""
        return await asyncio.wrap_future(self._host.server.run(self._host.call(arguments)))

    async def wake(self) -> None:
        """Nothing but a request that waits for a replica, so that Serve starts one."""

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook: called every few seconds, kept per replica, handed to the autoscaling policy."""
        return self._host.stats()

    def check_health(self) -> None:
        """Serve's hook. Raises: RuntimeFault: Serve then starts another replica in this one's place."""
        if not self._host.server.is_alive:
            raise RuntimeFault("the replica's HTTP server has ended", code="server_ended")

    async def __del__(self) -> None:
        """Serve's hook for a graceful end."""
        if (host := vars(self).get("_host")) is None:
            return
        await asyncio.to_thread(self._beats.stop)
        await asyncio.sleep(SETTLE_S)
        await asyncio.to_thread(host.stop, DRAIN_S)
