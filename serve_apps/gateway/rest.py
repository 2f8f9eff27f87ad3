"""The gateway's ASGI application: the server's own routes, the OpenAI dialect, and all of a model's routes passed on.

Health, the document of the API and its page are open; every other route of the gateway's own asks who calls. What is passed on carries
the caller's `authorization`, and the replica asks.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fabric.errors import FabricError, UserError
from serve_apps.directory.choose_version import USER_HEADER
from serve_apps.gateway.caller import Caller
from serve_apps.gateway.docs_page import CONTENT_POLICY, docs_page
from serve_apps.gateway.feedback import Feedback, read_feedback
from serve_apps.gateway.fleet import Fleet
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.openapi import openapi_document
from serve_apps.gateway.replica_metrics import merged
from serve_apps.gateway.rest_forward import Passing, RestForward
from serve_apps.oip.answer import Answer, Receive, Send, error_answer, json_answer, send_answer
from serve_apps.oip.body import ClientGone, read_body
from serve_apps.oip.hooks import Authorize, Limits
from serve_apps.oip.json_document import parse_object, read_parameters
from serve_apps.oip.routes import Route, route_of

log = logging.getLogger(__name__)

_OPEN = frozenset({"live", "ready", "openapi", "docs"})
_OWN: Mapping[str, Route] = {
    "/openapi.json": Route("openapi", ("GET", "HEAD")),
    "/docs": Route("docs", ("GET", "HEAD")),
    "/metrics": Route("metrics", ("GET", "HEAD")),
}
_HERE = frozenset({"server_metadata", "live", "ready", "index", "load", "unload", "openapi", "docs", "metrics", "feedback"})
_FEEDBACK = re.compile(r"/v2/models/([^/]+)/feedback/?")
_FEEDBACK_BYTES = 2**14
_CLIENT_GONE = 499
_DOCUMENT_BYTES = 2**20

OpenAi = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class _Call:
    route: Route
    headers: Mapping[bytes, bytes]
    receive: Receive


class GatewayApp:
    """An ASGI application. `openai`: the application under `/v1`."""

    def __init__(
        self,
        fleet: Fleet,
        metrics: GatewayMetrics,
        *,
        authorize: Authorize,
        openai: OpenAi,
        feedback: Feedback,
        limits: Limits | None = None,
    ) -> None:
        self._feedback = feedback
        self._fleet = fleet
        self._metrics = metrics
        self._authorize = authorize
        self._openai = openai
        self._forward = RestForward(fleet, authorize)
        self._limits = limits or Limits()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _other_than_http(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path.startswith("/v1/"):
            await self._openai(scope, receive, send)
            return
        route = _OWN.get(path) or route_of(path) or _feedback_route(path)
        if route is None or route.kind.startswith("grpc_"):
            await send_answer(send, error_answer(UserError(f"nothing is at {path[:200]}", code="not_found")), is_head=method == "HEAD")
        elif method not in route.methods:
            answer = error_answer(UserError(f"{path[:200]} does not take {method[:20]}", code="method_not_allowed"))
            answer.headers.append((b"allow", ", ".join(route.methods).encode()))
            await send_answer(send, answer)
        elif route.kind in _HERE or (route.kind == "statistics"):
            await self._answer_here(_Call(route, dict(scope["headers"]), receive), send, is_head=method == "HEAD")
        else:
            await self._pass_on(Passing(scope, route, Caller(receive), send))

    # -- the server's own routes ---------------------------------------------------------------------------------------

    async def _answer_here(self, call: _Call, send: Send, *, is_head: bool) -> None:
        try:
            if call.route.kind not in _OPEN:
                self._authorize(call.headers)
            answer = await self._here(call)
        except ClientGone:
            return
        except Exception as error:
            answer = _failed(call.route, error)
        await send_answer(send, answer, is_head=is_head)

    async def _here(self, call: _Call) -> Answer:
        fleet, route = self._fleet, call.route
        match route.kind:
            case "live":
                return json_answer({"live": True})
            case "ready":
                return json_answer({"ready": not fleet.is_draining}, 400 if fleet.is_draining else 200)
            case "server_metadata":
                return json_answer(fleet.server_metadata())
            case "statistics":
                return json_answer(await fleet.statistics(route.model, route.version, _passed(call.headers)))
            case "openapi":
                return json_answer(self._document())
            case "docs":
                page = docs_page(self._document()).encode()
                headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", CONTENT_POLICY.encode())]
                return Answer(200, headers, [page])
            case "metrics":
                return await self._metrics_answer(call)
            case "feedback":
                return await self._posted(call)
            case _:
                return await self._repository(call)

    async def _repository(self, call: _Call) -> Answer:
        body = await read_body(call.receive, call.headers, self._limits, limit=self._limits.json_bytes)
        document = parse_object(body) if body else {}
        if call.route.kind == "index":
            only_ready = document.get("ready", False)
            if type(only_ready) is not bool:
                raise UserError("ready is a boolean", code="bad_request")
            return json_answer(await self._fleet.index(only_ready=only_ready))
        act = self._fleet.repository.load if call.route.kind == "load" else self._fleet.repository.unload
        await act(call.route.model, read_parameters(document))
        return Answer(200, [], [])

    async def _posted(self, call: _Call) -> Answer:
        """A user's metric, for the deployment that gave the answer. Raises: UserError, UnknownNameError, RejectedError."""
        model = call.route.model
        given = read_feedback(parse_object(await read_body(call.receive, call.headers, self._limits, limit=_FEEDBACK_BYTES)))
        routes = self._fleet.routes
        user = {USER_HEADER.encode(): given.user_key.encode()}
        target = routes.find(model, given.version) if given.version else routes.pick(model, "", user)
        self._feedback.note(model, target.deployment, given.metric, given.value)
        return json_answer({"model_name": model, "model_version": target.version, "metric": given.metric, "value": given.value}, 202)

    async def _metrics_answer(self, call: _Call) -> Answer:
        """The gateway's own, and those of all replicas, told apart by the label `replica`."""
        addresses = sorted(self._fleet.routes.addresses())
        bodies = await self._fleet.gathered(addresses, "/metrics", _passed(call.headers))
        text = self._metrics.text() + merged({str(address): body for address, body in bodies.items()})
        return Answer(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], [text])

    def _document(self) -> Mapping[str, Any]:
        return openapi_document(self._fleet.version)

    # -- the routes of models ------------------------------------------------------------------------------------------

    async def _pass_on(self, passing: Passing) -> None:
        began_s = time.monotonic()
        is_head = passing.scope["method"] == "HEAD"
        try:
            answer = await self._forward.answer_for_sleeping(passing)
            if answer is None:
                await passing.caller.unless_gone(self._forward.pass_on(passing))
                return
        except ClientGone:
            passing.status = _CLIENT_GONE
            return
        except Exception as error:
            answer = _failed(passing.route, error)
            if passing.has_begun:
                # The status is out: an answer that breaks off is all that can still be said.
                raise
        finally:
            if passing.status:
                self._metrics.answered(passing.target, "rest", str(passing.status), time.monotonic() - began_s)
        self._metrics.answered(passing.target, "rest", str(answer.status), time.monotonic() - began_s)
        await send_answer(passing.send, answer, is_head=is_head)


def _feedback_route(path: str) -> Route | None:
    found = _FEEDBACK.fullmatch(path)
    return None if found is None else Route("feedback", ("POST",), found[1])


def _passed(headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What a replica needs to know who asks."""
    return [(name, value) for name, value in headers.items() if name == b"authorization"]


def _failed(route: Route, error: Exception) -> Answer:
    if not isinstance(error, FabricError):
        log.exception("request_failed kind=%s model=%s", route.kind, route.model)
    return error_answer(error)


async def _other_than_http(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while scope["type"] == "lifespan":
        stage = (await receive())["type"]
        await send({"type": f"{stage}.complete"})
        if stage == "lifespan.shutdown":
            return
