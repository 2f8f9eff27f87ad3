"""The conformance kit against an application in this process: its REST side without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from serve_apps.oip.conformance.catalogue import chosen
from serve_apps.oip.conformance.check import Finding, judged
from serve_apps.oip.conformance.discovery import discover, set_aside
from serve_apps.oip.conformance.rest import Reply, Rest
from serve_apps.oip.conformance.target import Target
from tests.unit.oip.server import call


class InProcess(Rest):
    """`Rest` whose requests go straight into an ASGI application, on a loop that outlives them."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__("http://in-process")
        self._app, self._loop = app, loop

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        content = body if isinstance(body, bytes) else b"" if body is None else b"".join(body)
        reply = self._loop.run_until_complete(call(self._app, method, path, content, headers))
        return Reply(reply.status, reply.headers, reply.body)


def findings(app: Any, loop: asyncio.AbstractEventLoop, only: tuple[str, ...] = (), identities: tuple[str, ...] = ()) -> dict[str, Finding]:
    """Check id -> what the kit found."""
    target = Target(InProcess(app, loop))
    discover(target, identities=identities)
    set_aside(target)
    return {check.id: judged(check, target) for check in chosen(only, is_robust=True)}
