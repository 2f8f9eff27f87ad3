"""Passes a model's own REST routes on to a replica, bodies both ways as they come; answers for a model that sleeps what the table knows.

The usual way is past the gateway, straight from HAProxy to a replica. This one is for a model without a living replica, and for where
there is no HAProxy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fabric.errors import UnavailableError, UserError
from serve_apps.gateway.caller import Caller
from serve_apps.gateway.fleet import Fleet
from serve_apps.gateway.heads import http_head, passed_back
from serve_apps.gateway.routes import VERSION_HEADER, Target
from serve_apps.gateway.waking import no_replica
from serve_apps.oip import descriptions
from serve_apps.oip.answer import Answer, Send, json_answer
from serve_apps.oip.hooks import Authorize
from serve_apps.oip.routes import Route
from serve_apps.shadow_call import SHADOW_HEADER

_MAX_KEPT_BYTES = 2**16
"""Of a body that is read whole, so that it can be sent to another version; as in HAProxy's buffers."""
_SPLIT = frozenset({"infer", "generate", "generate_stream", "predict"})
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
        target = passing.target = self._target(passing)
        if route.kind not in _KNOWN_BY_TABLE or target.replicas:
            return None
        if route.kind == "model_metadata":
            return json_answer(descriptions.model_metadata(target.metadata))
        if route.kind == "model_config":
            return json_answer(descriptions.model_config(target.metadata))
        if route.kind == "model_ready":
            return json_answer({"name": route.model, "ready": True})
        if not target.can_answer:
            raise no_replica(target.model, target.version, target.reason)
        return json_answer({"status": "ok"})

    def _target(self, passing: Passing) -> Target:
        """Only inference is split: what is asked about a model is asked of its default version."""
        route, headers = passing.route, dict(passing.scope["headers"])
        if route.kind in _SPLIT:
            return self._fleet.routes.pick(route.model, route.version, headers)
        named = route.version or headers.get(VERSION_HEADER, b"").strip().decode("latin-1")
        return self._fleet.routes.find(route.model, named)

    async def pass_on(self, passing: Passing) -> None:
        """Send the request to a replica, and what it answers to the caller. Raises: as `Forwarder.opened`, and ClientGone."""
        scope, target = passing.scope, passing.target
        assert target is not None
        headers: list[tuple[bytes, bytes]] = [header for header in scope["headers"] if header[0] != SHADOW_HEADER]
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
        parts: list[bytes] = [head]
        if target.fallback is not None and body is not None and size is not None and size <= _MAX_KEPT_BYTES:
            parts, body = [head, *[part async for part in body]], None
        try:
            await self._answered(passing, target, parts, body, may_wake)
        except UnavailableError:
            is_lost = passing.has_begun or body is not None or target.fallback is None or target.metadata.has_side_effects
            if is_lost:
                raise
            assert target.fallback is not None
            await self._answered(passing, target.fallback, parts, None, may_wake)

    async def _answered(
        self, passing: Passing, target: Target, parts: list[bytes], body: AsyncIterator[bytes] | None, may_wake: Callable[[], object]
    ) -> None:
        async with self._fleet.forwarder.opened(target, parts, body, may_wake) as (reply, chunks):
            passing.status, passing.has_begun = reply.status, True
            await passing.send({"type": "http.response.start", "status": reply.status, "headers": passed_back(reply.headers)})
            if passing.scope["method"] != "HEAD":
                async for chunk in chunks:
                    await passing.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await passing.send({"type": "http.response.body", "body": b""})
