"""The protocol over HTTP: an ASGI application without a framework, around one data plane.

For each request: its route, who asks, the handler, the answer, one usage record (a shadow copy leaves none). Only health is answered
without asking who. Whatever is raised becomes a declared status.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabric.errors import FabricError, UserError
from serve_apps.oip import descriptions, grpc_bodies, grpc_http1
from serve_apps.oip.answer import Answer, Receive, Send, Stream, error_answer, json_answer, send_answer, send_stream
from serve_apps.oip.body import ClientGone, read_body
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.hooks import Authorize, HeldModels, Limits, Record, Repository, Watch, anybody, nowhere, unwatched
from serve_apps.oip.inference import Call, Inference
from serve_apps.oip.json_document import parse_object, read_parameters
from serve_apps.oip.predict import plain_error
from serve_apps.oip.routes import Route, route_of
from serve_apps.shadow_call import SHADOW_HEADER, shadow_call
from serve_apps.tensors import new_request_id

log = logging.getLogger("ray.serve")

_HEALTH = frozenset({"live", "ready", "healthz"})
_PLAIN = frozenset({"predict", "healthz"})
_INFERENCE = frozenset({"infer", "generate", "generate_stream", "predict", "grpc_infer", grpc_http1.KIND, "grpc_stream"})
_GONE_STATUS = 499
"""Of a request whose caller went away, in the usage record only. Source: nginx."""


class RestApp:
    """An ASGI application. `authorize`, `record` and `watch`: see `hooks`; without them everybody may ask, and usage goes nowhere."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        authorize: Authorize = anybody,
        record: Record = nowhere,
        watch: Watch = unwatched,
        repository: Repository | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.plane = plane
        self._authorize, self._record, self._watch = authorize, record, watch
        self._repository = HeldModels(plane) if repository is None else repository
        self._limits = limits or Limits()
        inference = Inference(plane, self._limits)
        self._handlers: Mapping[str, Callable[[Call], Awaitable[Answer | Stream]]] = {
            "infer": inference.infer,
            "generate": inference.generate,
            "generate_stream": inference.generate_stream,
            "predict": inference.predict,
            "grpc_infer": inference.grpc_infer,
            grpc_http1.KIND: inference.grpc_infer,
            "grpc_stream": inference.grpc_stream,
            "grpc_describe": self._grpc_describe,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _other_than_http(scope, receive, send)
            return
        started_s = time.perf_counter()
        method = scope["method"]
        route = route_of(scope["path"])
        if route is None or method not in route.methods:
            await send_answer(send, _nowhere(scope["path"], method, route), is_head=method == "HEAD")
            return
        if route.kind in _HEALTH:
            await send_answer(send, self._health(route), is_head=method == "HEAD")
            return
        headers = dict(scope["headers"])
        call = Call(route, headers, receive, request_id=_given_id(headers))
        try:
            call.principal = self._authorize(headers)
        except Exception as error:
            await _send(send, route, _failed(route, error), is_head=method == "HEAD")
            return
        if SHADOW_HEADER in headers and route.kind in _INFERENCE:
            call.is_shadow = True
            with shadow_call():
                await self._answer(call, send, started_s, is_head=False)
            return
        outcome = await self._answer(call, send, started_s, is_head=method == "HEAD")
        if route.kind in _INFERENCE:
            self._watch(call, *outcome)

    async def _answer(self, call: Call, send: Send, started_s: float, *, is_head: bool) -> tuple[Answer | Stream | None, int, float]:
        """What was sent (None: the caller went away), its status, and the seconds until then."""
        status, version, units = _GONE_STATUS, "", 0
        answer: Answer | Stream | None = None
        try:
            try:
                handler = self._handlers.get(call.route.kind)
                answer = self._described(call.route) if handler is None else await handler(call)
                if isinstance(answer, Stream):
                    version = answer.version
                    answer.headers.append((b"x-request-id", call.request_id.encode("latin-1")))
                    await send_stream(send, call.receive, answer)
                    status, units = 200, 1
                    return answer, status, time.perf_counter() - started_s
            except ClientGone:
                return None, status, time.perf_counter() - started_s
            except Exception as error:
                answer = _failed(call.route, error)
                if answer.status == 413 and b"content-length" not in call.headers:
                    # The server throws away what is left of the body, so that the caller gets to read its answer; but that must end.
                    answer.headers.append((b"connection", b"close"))
            status, version, units = answer.status, answer.version, answer.units
        finally:
            # Before it leaves: whatever happens then, what was answered is on record.
            duration_s = time.perf_counter() - started_s
            if not call.is_shadow:
                self._note(call, status, version, units, duration_s)
        if call.is_shadow:
            answer.headers.append((b"x-shadow-ms", b"%.3f" % (1e3 * (time.perf_counter() - started_s))))
        if call.request_id:
            answer.headers.append((b"x-request-id", call.request_id.encode("latin-1")))
        await _send(send, call.route, answer, is_head=is_head)
        return answer, status, duration_s

    def _note(self, call: Call, status: int, version: str, units: int, duration_s: float) -> None:
        self._record(
            request_id=call.request_id or new_request_id(),
            principal=call.principal,
            model=call.route.model,
            version=version or call.route.version,
            units=units,
            status=status,
            duration_s=duration_s,
        )

    def _health(self, route: Route) -> Answer:
        if route.kind == "live":
            return json_answer({"live": True})
        if route.kind == "ready":
            is_ready = self.plane.is_ready
            return json_answer({"ready": is_ready}, 200 if is_ready else 400)
        if self.plane.is_model_ready(route.model):
            return json_answer({"status": "ok"})
        return plain_error(503, "unavailable", f"{route.model[:200]!r} is not ready", None)

    def _described(self, route: Route) -> Answer:
        plane, name, version = self.plane, route.model, route.version
        if route.kind == "server_metadata":
            return json_answer(descriptions.server_metadata(plane))
        if route.kind == "statistics":
            return json_answer(descriptions.statistics(plane.statistics(name, version)))
        if route.kind == "model_ready":
            if not plane.is_model_ready(name, version):
                raise UserError("Model version not ready", code="not_ready")
            return json_answer({"name": name, "ready": True})
        metadata = plane.metadata(name, version)
        if route.kind == "model_config":
            return json_answer(descriptions.model_config(metadata))
        return json_answer(descriptions.model_metadata(metadata))

    async def _index(self, call: Call) -> Answer:
        document = await self._document(call)
        only_ready = document.get("ready", False)
        if type(only_ready) is not bool:
            raise UserError("ready is a boolean", code="bad_request")
        return json_answer(descriptions.repository_index(await self._repository.index(only_ready=only_ready)))

    async def _load(self, call: Call) -> Answer:
        await self._repository.load(call.route.model, read_parameters(await self._document(call)))
        return Answer(200, [], [])

    async def _unload(self, call: Call) -> Answer:
        await self._repository.unload(call.route.model, read_parameters(await self._document(call)))
        return Answer(200, [], [])

    async def _grpc_describe(self, call: Call) -> Answer:
        body = await read_body(call.receive, call.headers, self._limits, limit=2**20)
        method, call.route = call.route.model, Route(call.route.kind, call.route.methods)
        return grpc_bodies.describe(self.plane, method, body)

    async def _document(self, call: Call) -> Mapping[str, Any]:
        body = await read_body(call.receive, call.headers, self._limits)
        return parse_object(body) if body else {}


async def _send(send: Send, route: Route, answer: Answer, *, is_head: bool) -> None:
    if route.kind == grpc_http1.KIND:
        await grpc_http1.send_call(send, answer)
    else:
        await send_answer(send, answer, is_head=is_head)


def _failed(route: Route, error: Exception) -> Answer:
    if not isinstance(error, FabricError):
        log.exception("request failed kind=%s model=%r", route.kind, route.model)
    if route.kind.startswith("grpc_"):
        return grpc_bodies.error_answer(error)
    answer = error_answer(error)
    if route.kind in _PLAIN:
        hint = error.hint if isinstance(error, FabricError) else None
        plain = plain_error(answer.status, getattr(error, "code", "internal"), str(error), hint)
        answer.parts = plain.parts
    return answer


def _nowhere(path: str, method: str, route: Route | None) -> Answer:
    if route is None:
        return error_answer(UserError(f"nothing is at {path[:200]}", code="not_found"))
    answer = error_answer(UserError(f"{path[:200]} does not take {method[:20]}", code="method_not_allowed", hint=f"use {route.methods[0]}"))
    answer.headers.append((b"allow", ", ".join(route.methods).encode()))
    return answer


def _given_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's `x-request-id`, if it is short and printable."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if 0 < len(given) <= 128 and given.isascii() and given.decode().isprintable() else ""


async def _other_than_http(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while scope["type"] == "lifespan":
        stage = (await receive())["type"]
        await send({"type": f"{stage}.complete"})
        if stage == "lifespan.shutdown":
            return
