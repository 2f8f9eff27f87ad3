"""ModelInfer and ModelStreamInfer: serialized messages from the caller to a replica and back, unread but for the model's name.

Invariants: an answer belongs to one request, and answers to one request come in order; requests on one stream to models with one
answer each are answered in the order of asking, as Triton does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

from fabric.errors import UserError
from serve_apps.gateway.forwarder import Forwarder
from serve_apps.gateway.frames import frames
from serve_apps.gateway.grpc_calls import STATUS_CODES, Context, abort, permission, remaining_s, told_of
from serve_apps.gateway.heads import as_headers, grpc_head
from serve_apps.gateway.infer_target import infer_target
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.refusal import checked
from serve_apps.gateway.routes import Target
from serve_apps.oip.hooks import Authorize
from serve_apps.oip.messages import ModelStreamInferResponse

MAX_AT_ONCE = 64
"""Requests of one stream that are at replicas."""


class InferCalls:
    """Handlers for `grpc.aio`, with identity serializers."""

    def __init__(self, forwarder: Forwarder, authorize: Authorize, metrics: GatewayMetrics) -> None:
        self._forwarder = forwarder
        self._authorize = authorize
        self._metrics = metrics

    async def infer(self, message: bytes, context: Context) -> bytes:
        began_s = time.monotonic()
        target: Target | None = None
        code = 0
        try:
            target, parts = self._addressed("ModelInfer", message, context)
            answer = await self._forwarder.ask(target, parts, permission(self._authorize, context))
            return checked(answer).body
        except Exception as error:
            code = told_of(error)[0]
            await abort(context, error)
        finally:
            self._metrics.answered(target, "grpc", _name(code), time.monotonic() - began_s)

    async def stream(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """Each message to a replica, at most `MAX_AT_ONCE` at once. An error of one is an answer of its own, and the stream goes on."""
        slots = asyncio.Semaphore(MAX_AT_ONCE)
        sending = asyncio.Lock()
        last: asyncio.Event | None = None
        async with asyncio.TaskGroup() as answering:
            async for message in messages:
                await slots.acquire()
                before, after = (None, None) if self._may_overtake(message) else (last, asyncio.Event())
                last = after or last
                task = answering.create_task(self._answer(message, context, sending, before))
                task.add_done_callback(partial(_free, slots, after))

    async def _answer(self, message: bytes, context: Context, sending: asyncio.Lock, before: asyncio.Event | None) -> None:
        """All answers to one message. The first one waits for `before`."""
        began_s = time.monotonic()
        target: Target | None = None
        code = 0
        try:
            target, parts = self._addressed("ModelStreamInfer", message, context)
            may_wake = permission(self._authorize, context)
            async with self._forwarder.opened(target, parts, may_wake=may_wake) as (answer, chunks):
                checked(answer)
                async for frame in frames(chunks):
                    await _write(context, frame, sending, before)
        except Exception as error:
            code, text, _ = told_of(error)
            await _write(context, ModelStreamInferResponse(error_message=text).SerializeToString(), sending, before)
        finally:
            self._metrics.answered(target, "grpc_stream", _name(code), time.monotonic() - began_s)

    def _may_overtake(self, message: bytes) -> bool:
        """Whether its answers may come before those to earlier messages."""
        try:
            return self._forwarder.routes.find(*infer_target(message)).metadata.is_streaming
        except UserError:
            return False

    def _addressed(self, method: str, message: bytes, context: Context) -> tuple[Target, list[bytes]]:
        """Where a message goes, and the request's parts. Raises: UserError (`bad_protobuf`), UnknownNameError."""
        model, version = infer_target(message)
        metadata = context.invocation_metadata() or ()
        target = self._forwarder.routes.pick(model, version, as_headers(metadata))
        head = grpc_head(method, len(message), metadata, remaining_s(context))
        return target, [head, message]


def _name(code: int) -> str:
    return STATUS_CODES[code].name if code in STATUS_CODES else "UNKNOWN"


async def _write(context: Context, message: bytes, sending: asyncio.Lock, before: asyncio.Event | None) -> None:
    if before is not None:
        await before.wait()
    async with sending:
        await context.write(message)


def _free(slots: asyncio.Semaphore, after: asyncio.Event | None, _task: asyncio.Task[None]) -> None:
    slots.release()
    if after is not None:
        after.set()
