"""Passes a model's own REST routes on to a replica, bodies both ways as they come; answers for a model that sleeps what the table knows.

The usual way is past the gateway, straight from HAProxy to a replica. This one is for a model without a living replica, and for where
there is no HAProxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fabric.errors import UserError
from serve_apps.gateway.caller import Caller
from serve_apps.gateway.fleet import Fleet
from serve_apps.gateway.heads import http_head, passed_back
from serve_apps.gateway.routes import Target
from serve_apps.gateway.waking import no_replica
from serve_apps.oip.answer import Answer, Send, json_answer
from serve_apps.oip.hooks import Authorize
from serve_apps.oip.routes import Route

_KNOWN_BY_TABLE = frozenset({"model_metadata", "model_ready", "model_config", "healthz"})


@dataclass(slots=True)
class Passing:
    """One request on its way. `target` and `status` are set as it goes, for the metrics."""

    scope: Mapping[str, Any]
    route: Route
    caller: Caller
    send: Send
    target: Target | None = None
    status: int = 0
    has_begun: bool = False


class RestForward:
    def __init__(self, fleet: Fleet, authorize: Authorize) -> None:
        self._fleet = fleet
        self._authorize = authorize

    async def answer_for_sleeping(self, passing: Passing) -> Answer | None:
        """The table's answer to what needs no replica, where none lives. Raises: UnknownNameError, UserError (`not_ready`)."""
        route = passing.route
        if route.kind == "model_ready" and not self._fleet.is_model_ready(route.model, route.version):
            # Triton says so of a model that it does not know, too.
            raise UserError("Model version not ready", code="not_ready")
        target = passing.target = self._fleet.routes.find(route.model, route.version)
        if route.kind not in _KNOWN_BY_TABLE or target.replicas:
            return None
        if route.kind == "model_metadata":
            return json_answer(self._fleet.model_metadata(route.model, route.version))
        if route.kind == "model_config":
            return json_answer(self._fleet.model_config(route.model, route.version))
        if route.kind == "model_ready":
            return json_answer({"name": route.model, "ready": True})
        if not target.can_answer:
            raise no_replica(target.model, target.version, target.reason)
        return json_answer({"status": "ok"})

    async def pass_on(self, passing: Passing) -> None:
        """Send the request to a replica, and what it answers to the caller. Raises: as `Forwarder.opened`, and ClientGone."""
        scope, target = passing.scope, passing.target
        assert target is not None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        claimed = dict(headers).get(b"content-length")
        has_body = claimed not in (None, b"0") or any(name == b"transfer-encoding" for name, _ in headers)
        size = 0 if not has_body else int(claimed) if claimed is not None else None
        # HEAD is asked as GET: of an answer to HEAD the length would be waited for.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        head = http_head(method, scope["path"], scope["query_string"], headers, size)
        body = None if not has_body else passing.caller.chunked() if size is None else passing.caller.parts()
        if not has_body:
            passing.caller.has_all()
        may_wake = partial(self._authorize, dict(headers))
        async with self._fleet.forwarder.opened(target, [head], body, may_wake) as (reply, chunks):
            passing.status, passing.has_begun = reply.status, True
            await passing.send({"type": "http.response.start", "status": reply.status, "headers": passed_back(reply.headers)})
            if scope["method"] != "HEAD":
                async for chunk in chunks:
                    await passing.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await passing.send({"type": "http.response.body", "body": b""})
