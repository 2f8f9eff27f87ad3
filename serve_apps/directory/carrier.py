"""Carries deployments: brings them up in Serve, changes how many replicas they have, and ends them. On the directory's loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from fabric.errors import FabricError
from serve_apps.directory.core import Directory
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.requests import ServePort

POLL_S = 0.2
AGAIN_S = 5.0
RETIRE_AFTER_S = 2.0
"""Between the change of the table and the end of what is not in it any more: every ingress has heard of it by then."""
_log = logging.getLogger(__name__)


class Carrier:
    """`keep(name)` writes what of a model must outlive this process, and tells the ingresses."""

    def __init__(self, core: Directory, port: ServePort, keep: Callable[[str], Awaitable[None]]) -> None:
        self._core = core
        self._port = port
        self._keep = keep

    async def bring_up(self, record: DeployRecord) -> str:
        """Empty when its replicas report; else why it does not start. Raises: UnknownNameError where it is deleted meanwhile."""
        try:
            await asyncio.to_thread(self._port.start, record)
            return await self._until_running(record)
        except Exception as error:
            self._core.deployment(record.name, record.key)
            _log.exception("deploy failed model=%s deployment=%s", record.name, record.key)
            return error.render() if isinstance(error, FabricError) else f"{type(error).__name__}: {error}"

    async def scale(self, record: DeployRecord, num_replicas: int) -> str:
        """Empty when so many replicas report; else why they do not. Serve keeps those that stay."""
        scaled = replace(record, settings={**record.settings, "replicas": num_replicas})
        try:
            await asyncio.to_thread(self._port.start, scaled)
            return await self._until_running(scaled)
        except FabricError as error:
            return error.render()

    async def fail(self, record: DeployRecord, why: str) -> None:
        """It is shown with its reason, and its replicas end."""
        if self._core.deployment(record.name, record.key).state != "failed":
            self._core.fail(record.name, record.key, why)
            await self._keep(record.name)
        await self.end_app(record)

    async def end(self, record: DeployRecord) -> None:
        """Its replicas end, and it is forgotten."""
        await self.end_app(record)
        self._core.retired(record.name, record.key)
        await self._keep(record.name)

    async def end_later(self, records: Sequence[DeployRecord]) -> None:
        """As `end`, when every ingress has heard that nothing is routed to them."""
        await asyncio.sleep(RETIRE_AFTER_S)
        await asyncio.gather(*(self.end(record) for record in records))

    async def end_app(self, record: DeployRecord) -> None:
        """Tried until it is done: Serve may be restarting."""
        while True:
            try:
                await asyncio.to_thread(self._port.delete, record)
                return
            except Exception:
                _log.exception("cannot end model=%s deployment=%s yet", record.name, record.key)
                await asyncio.sleep(AGAIN_S)

    async def _until_running(self, record: DeployRecord) -> str:
        deadline_s = time.monotonic() + float(record.settings.get("timeout_s", 180.0))
        wanted = num_wanted(record)
        while True:
            if self._core.deployment(record.name, record.key).state in ("failed", "retiring"):
                return "given up"
            num_running = len(self._core.reports(record.name, record.key))
            app = await asyncio.to_thread(self._port.state, record)
            if num_running >= wanted and app.state == "running":
                return ""
            if app.state == "failed":
                return app.why
            if time.monotonic() > deadline_s:
                return f"deploy_timeout: {num_running} of {wanted} replicas run"
            await asyncio.sleep(POLL_S)


def num_wanted(record: DeployRecord) -> int:
    """Replicas that must report before it answers."""
    return max(1, int(record.settings.get("replicas", 1)))
