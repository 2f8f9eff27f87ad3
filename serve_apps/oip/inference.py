"""The routes that run a model: infer, generate, its stream, predict, and protobuf bodies. Each reads, asks the data plane, writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve_apps.oip import generate, grpc_bodies, grpc_http1, schedule
from serve_apps.oip.answer import EVENTS, JSON, OCTETS, Answer, Receive, Stream, json_answer
from serve_apps.oip.body import compress, read_body, read_split_body, wanted_encoding
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.hooks import Limits
from serve_apps.oip.json_codec import read_request, write_response
from serve_apps.oip.predict import predict
from serve_apps.oip.protobuf_codec import read_request as read_message
from serve_apps.oip.protobuf_codec import write_response as write_message
from serve_apps.oip.raw_request import read_raw_request
from serve_apps.oip.routes import Route
from serve_apps.oip.tensor_bytes import Buffer
from serve_apps.tensors import InferRequest, InferResponse, new_request_id

if TYPE_CHECKING:
    from fabric.api.tokens import Principal

OFFLOADED_BYTES = 4 * 2**20
"""Binary bodies above this are taken apart in a thread: millions of BYTES elements take seconds."""


@dataclass(slots=True)
class Call:
    """One HTTP request on its way. `request_id`: the caller's, or empty until a request is read; `body`: its parts once it is read, without
    gRPC's frame; `is_shadow`: it is a copy, which waits behind all others."""

    route: Route
    headers: Mapping[bytes, bytes]
    receive: Receive
    principal: Principal | None = None
    request_id: str = ""
    is_shadow: bool = False
    body: list[Buffer] = field(default_factory=list)

    def own(self, request: InferRequest) -> InferRequest:
        request.principal = self.principal
        if self.is_shadow:
            # It may name the version that it was copied from.
            request.priority, request.model_version = schedule.MAX_PRIORITY, ""
        if self.request_id:
            request.request_id = self.request_id
        else:
            self.request_id = request.request_id
        return request


class Inference:
    """Handlers, by the kinds of `routes`. All raise what `DataPlane.infer` and the codecs raise."""

    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    async def infer(self, call: Call) -> Answer:
        request, is_binary = await self._read(call)
        response = await self._plane.infer(call.own(request))
        parts, json_length = write_response(response, request.outputs, binary=is_binary)
        headers = [JSON] if json_length is None else [OCTETS, (b"inference-header-content-length", b"%d" % json_length)]
        encoding = wanted_encoding(call.headers)
        if encoding:
            parts = [compress(parts, encoding)]
            headers.append((b"content-encoding", encoding))
        return Answer(200, headers, parts, self._units(request, response), response.model_version)

    async def generate(self, call: Call) -> Answer:
        metadata = self._plane.metadata(call.route.model, call.route.version)
        body = await read_body(call.receive, call.headers, self._limits, limit=self._limits.json_bytes)
        call.body = [body]
        request = call.own(generate.read_generate(metadata, call.route.version, body, call.headers))
        if metadata.is_streaming:
            responses = [response async for response in self._plane.stream(request)]
        else:
            responses = [await self._plane.infer(request)]
        answer = json_answer(generate.joined(metadata, responses))
        answer.units, answer.version = 1, responses[-1].model_version
        return answer

    async def generate_stream(self, call: Call) -> Stream:
        metadata = self._plane.metadata(call.route.model, call.route.version)
        body = await read_body(call.receive, call.headers, self._limits, limit=self._limits.json_bytes)
        request = call.own(generate.read_generate(metadata, call.route.version, body, call.headers))
        version = self._plane.model(request.model_name, request.model_version).version
        headers = [EVENTS, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return Stream(headers, generate.events(self._plane, metadata, request), version)

    async def predict(self, call: Call) -> Answer:
        call.request_id = call.request_id or new_request_id()
        body = await read_body(call.receive, call.headers, self._limits, limit=self._limits.json_bytes)
        call.body = [body]
        return await predict(self._plane, call.route.model, body, call.headers, schedule.MAX_PRIORITY if call.is_shadow else 0)

    async def grpc_infer(self, call: Call) -> Answer:
        request = call.own(await self._read_message(call))
        response = await self._plane.infer(request)
        answer = grpc_bodies.message_answer(write_message(response))
        answer.units, answer.version = self._units(request, response), response.model_version
        return answer

    async def grpc_stream(self, call: Call) -> Stream:
        request = call.own(await self._read_message(call))
        version = self._plane.model(request.model_name, request.model_version).version
        return Stream([grpc_bodies.FRAMES, (b"grpc-status", b"0")], grpc_bodies.frames(self._plane, request), version)

    async def _read(self, call: Call) -> tuple[InferRequest, bool]:
        route = call.route
        model = self._plane.model(route.model, route.version)  # before a large body is read
        head, binary, is_raw = await read_split_body(call.receive, call.headers, self._limits)
        call.body = [head, binary]
        if is_raw:
            return read_raw_request(model.metadata, route.version, binary, call.headers), True
        if len(binary) <= OFFLOADED_BYTES:
            return read_request(route.model, route.version, head, binary, call.headers)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, read_request, route.model, route.version, head, binary, call.headers)

    async def _read_message(self, call: Call) -> InferRequest:
        body: Buffer = await read_body(call.receive, call.headers, self._limits)
        if call.route.kind == grpc_http1.KIND:
            body = grpc_http1.message_in(body)
        call.body = [body]
        if len(body) > OFFLOADED_BYTES:
            request = await asyncio.get_running_loop().run_in_executor(None, read_message, body, call.headers)
        else:
            request = read_message(body, call.headers)
        call.route = Route(call.route.kind, call.route.methods, request.model_name, request.model_version)
        return request

    def _units(self, request: InferRequest, response: InferResponse) -> int:
        """Inferences, as Triton counts them: the rows of a batch."""
        shape = request.inputs[0].array.shape if request.inputs else ()
        if not shape or self._plane.model(response.model_name, response.model_version).metadata.max_batch_size <= 0:
            return 1
        return int(shape[0])
