"""Asks a replica on the gateway's own behalf: an InferRequest there, its answers back, as protobuf over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping

from serve_apps.gateway.forwarder import Forwarder
from serve_apps.gateway.frames import frames
from serve_apps.gateway.heads import grpc_head
from serve_apps.gateway.refusal import ReplicaRefusal, checked
from serve_apps.gateway.routes import Target
from serve_apps.oip import messages, wire
from serve_apps.oip.protobuf_codec import read_response, write_request
from serve_apps.oip.tensor_bytes import Buffer
from serve_apps.tensors import InferRequest, InferResponse

_INFER_RESPONSE = 2
"""The field of `ModelStreamInferResponse`."""


class InferClient:
    """`headers`: the caller's, of which those are passed on that a replica needs."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def infer(
        self, target: Target, request: InferRequest, headers: Mapping[bytes, bytes], may_wake: Callable[[], object] | None = None
    ) -> InferResponse:
        """Raises: ReplicaRefusal; as `Forwarder.ask`."""
        reply = await self._forwarder.ask(target, _parts("ModelInfer", request, headers), may_wake)
        return read_response(checked(reply).body)

    async def stream(
        self, target: Target, request: InferRequest, headers: Mapping[bytes, bytes], may_wake: Callable[[], object] | None = None
    ) -> AsyncGenerator[InferResponse]:
        """Raises: as `infer`, also between answers."""
        parts = _parts("ModelStreamInfer", request, headers)
        async with self._forwarder.opened(target, parts, may_wake=may_wake) as (reply, chunks):
            checked(reply)
            async for frame in frames(chunks):
                others, responses = wire.split(memoryview(frame), _INFER_RESPONSE)
                if others:
                    failed = messages.parse("ModelStreamInferResponse", frame)
                    raise ReplicaRefusal(failed.error_message or "the model failed")
                for response in responses:
                    yield read_response(response)


def _parts(method: str, request: InferRequest, headers: Mapping[bytes, bytes]) -> list[Buffer]:
    parts = write_request(request)
    passed = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.items()]
    return [grpc_head(method, sum(map(len, parts)), passed, None), *parts]
