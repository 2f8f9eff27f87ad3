"""The routes under `/v1`, as an ASGI application: who asks, which model, one or more inference requests, the answer in OpenAI's form."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fabric.errors import FabricError, UserError
from serve_apps.gateway.caller import Caller
from serve_apps.gateway.infer_client import InferClient
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.openai import embeddings, fields, generation
from serve_apps.gateway.openai.errors import error_answer, error_form
from serve_apps.gateway.openai.text_tensors import requests_of, text_of
from serve_apps.gateway.openai.usage import reports, usage
from serve_apps.gateway.openai.written import DONE, Written, event
from serve_apps.gateway.refusal import ReplicaRefusal
from serve_apps.gateway.routes import Routes, Target
from serve_apps.oip.answer import EVENTS, Answer, Receive, Send, json_answer, send_answer
from serve_apps.oip.body import ClientGone, read_body
from serve_apps.oip.hooks import Authorize, Limits
from serve_apps.oip.json_document import parse_object
from serve_apps.tensors import InferRequest, InferResponse

log = logging.getLogger(__name__)

_POSTS = frozenset({"/v1/embeddings", "/v1/completions", "/v1/chat/completions"})
_CLIENT_GONE = 499
_PASSED = frozenset({b"authorization", b"traceparent", b"tracestate", b"x-request-id", b"x-request-timeout-ms"})


@dataclass(slots=True)
class _Call:
    path: str
    headers: Mapping[bytes, bytes]
    caller: Caller
    send: Send
    document: Mapping[str, Any]
    target: Target | None = None
    status: int = 200
    has_begun: bool = False


class OpenAiApp:
    def __init__(
        self, routes: Routes, client: InferClient, metrics: GatewayMetrics, *, authorize: Authorize, limits: Limits | None = None
    ) -> None:
        self._routes = routes
        self._client = client
        self._metrics = metrics
        self._authorize = authorize
        self._limits = limits or Limits()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        path, method, headers = scope["path"].rstrip("/"), scope["method"], dict(scope["headers"])
        try:
            self._authorize(headers)
            if path in _POSTS and method == "POST":
                body = await read_body(receive, headers, self._limits, limit=self._limits.json_bytes)
                caller = Caller(receive)
                caller.has_all()
                await self._post(_Call(path, headers, caller, send, parse_object(body)))
                return
            answer = self._got(path, method)
        except ClientGone:
            return
        except Exception as error:
            answer = _failed(error, path)
        await send_answer(send, answer, is_head=method == "HEAD")

    def _got(self, path: str, method: str) -> Answer:
        """Raises: UserError, UnknownNameError."""
        if path in _POSTS:
            raise UserError(f"{path} takes POST", code="method_not_allowed")
        if path != "/v1/models" and not path.startswith("/v1/models/"):
            raise UserError(f"nothing is at {path[:200]}", code="not_found")
        if method not in ("GET", "HEAD"):
            raise UserError(f"{path[:200]} takes GET", code="method_not_allowed")
        if path == "/v1/models":
            return json_answer({"object": "list", "data": [_model(name) for name in self._routes.names()]})
        name = path.removeprefix("/v1/models/")
        self._routes.find(*name.split(":", 1))
        return json_answer(_model(name))

    async def _post(self, call: _Call) -> None:
        began_s = time.monotonic()
        try:
            await call.caller.unless_gone(self._answered(call))
        except ClientGone:
            call.status = _CLIENT_GONE
        except Exception as error:
            call.status = error_form(error)[0]
            if call.has_begun:
                log.exception("stream_failed path=%s", call.path)
                return
            await send_answer(call.send, _failed(error, call.path))
        finally:
            self._metrics.answered(call.target, "openai", str(call.status), time.monotonic() - began_s)

    async def _answered(self, call: _Call) -> None:
        call.target = self._picked(call)
        if call.path == "/v1/embeddings":
            await send_answer(call.send, await self._embed(call, call.target))
            return
        metadata = call.target.metadata
        generation.check_generates(metadata)
        is_chat = call.path == "/v1/chat/completions"
        asked = generation.read_chat(call.document, metadata) if is_chat else generation.read_completion(call.document)
        prefix = "chatcmpl-" if is_chat else "cmpl-"
        written = Written(prefix + uuid.uuid4().hex, asked.model, int(time.time()), is_chat)
        if asked.is_stream:
            await self._stream(call, call.target, asked, written)
        else:
            await send_answer(call.send, json_answer(await self._generate(call, call.target, asked, written)))

    def _picked(self, call: _Call) -> Target:
        """`name` or `name:version`, the version a number or an alias. Raises: UserError, UnknownNameError."""
        name, _, version = fields.text(call.document, "model").partition(":")
        return self._routes.pick(name, version, call.headers)

    async def _embed(self, call: _Call, target: Target) -> Answer:
        metadata = target.metadata
        embeddings.check_embeds(metadata)
        asked = embeddings.read_embeddings(call.document)
        requests = requests_of(asked.texts, _version_for(target), metadata, {})
        may_wake = partial(self._authorize, call.headers)
        responses = await _all(self._client.infer(target, request, _passed(call.headers), may_wake) for request in requests)
        return embeddings.write_embeddings(asked, responses, metadata)

    async def _generate(self, call: _Call, target: Target, asked: generation.Generation, written: Written) -> Mapping[str, Any]:
        answers = await _all(self._collected(call, target, request) for request in self._requests(target, asked))
        texts = ["".join(text_of(response, target.metadata) for response in responses) for responses in answers]
        reported = [_reporting(responses) for responses in answers]
        return written.whole(texts, [_reason(responses) for responses in answers], usage([one for one in reported if one]))

    async def _stream(self, call: _Call, target: Target, asked: generation.Generation, written: Written) -> None:
        """Nothing is sent before the model's first answer: what fails until then has a status of its own."""
        reported: list[InferResponse] = []
        try:
            for index, request in enumerate(self._requests(target, asked)):
                last: list[InferResponse] = []
                async with aclosing(self._answers(call, target, request)) as responses:
                    async for response in responses:
                        if not last:
                            await self._say(call, written.first(index))
                        last = [response] if reports(response) or not last else [*last[:1], response]
                        text = text_of(response, target.metadata)
                        if text:
                            await self._say(call, written.piece(index, text))
                await self._say(call, written.last(index, _reason(last)))
                reported += [one for one in [_reporting(last)] if one]
        except Exception as error:
            if not call.has_begun:
                raise
            call.status, form = error_form(error)
            await self._say(call, event(form))
        else:
            await self._say(call, (written.usage(usage(reported)) if asked.with_usage else b"") + DONE)
        await call.send({"type": "http.response.body", "body": b""})

    async def _say(self, call: _Call, chunk: bytes) -> None:
        if not call.has_begun:
            call.has_begun = True
            headers = [EVENTS, (b"cache-control", b"no-cache")]
            await call.send({"type": "http.response.start", "status": 200, "headers": headers})
        if chunk:
            await call.send({"type": "http.response.body", "body": chunk, "more_body": True})

    def _requests(self, target: Target, asked: generation.Generation) -> list[InferRequest]:
        metadata = target.metadata
        return [request for prompt in asked.prompts for request in requests_of([prompt], _version_for(target), metadata, asked.parameters)]

    async def _collected(self, call: _Call, target: Target, request: InferRequest) -> list[InferResponse]:
        async with aclosing(self._answers(call, target, request)) as responses:
            return [response async for response in responses]

    async def _answers(self, call: _Call, target: Target, request: InferRequest) -> AsyncGenerator[InferResponse]:
        may_wake = partial(self._authorize, call.headers)
        headers = _passed(call.headers)
        if not target.metadata.is_streaming:
            yield await self._client.infer(target, request, headers, may_wake)
            return
        async with aclosing(self._client.stream(target, request, headers, may_wake)) as responses:
            async for response in responses:
                yield response


def _version_for(target: Target) -> str:
    """What the replica is asked for; none where another version may have to answer instead."""
    return "" if target.fallback is not None else target.version


async def _all(works: Any) -> list[Any]:
    """Their results in order; if one fails, the others are cancelled, and its own error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _reporting(responses: Sequence[InferResponse]) -> InferResponse | None:
    return next((response for response in reversed(responses) if reports(response)), None)


def _reason(responses: Sequence[InferResponse]) -> str:
    """Why the text ends: as the model says in the parameter `finish_reason`, else that it had no more to say."""
    reason = responses[-1].parameters.get("finish_reason", "stop") if responses else "stop"
    return reason if isinstance(reason, str) else "stop"


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tierfabric"}


def _passed(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in headers.items() if name in _PASSED}


def _failed(error: Exception, path: str) -> Answer:
    if not isinstance(error, FabricError | ReplicaRefusal):
        log.exception("request_failed path=%s", path)
    return error_answer(error)
