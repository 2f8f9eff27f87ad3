"""The gRPC server of the gateway: which handler has which method, and the limits of its connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from serve_apps.gateway.grpc_describe import DescribeCalls
from serve_apps.gateway.grpc_health import HealthCalls
from serve_apps.gateway.grpc_infer import InferCalls
from serve_apps.oip.messages import POOL

INFERENCE = "inference.GRPCInferenceService"
REPOSITORY = "inference.model_repository.ModelRepositoryService"
"""MLServer's second service: the same methods under another name."""
HEALTH = "grpc.health.v1.Health"

MAX_MESSAGE_BYTES = 2**30
"""One message, either way. A message is whole in memory, so that this bounds what one caller may take."""


def grpc_server(handlers: Mapping[str, grpc.RpcMethodHandler], *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Server:
    """`handlers`: by full method name, as `/inference.GRPCInferenceService/ModelInfer`. Call it on the event loop that serves."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # Clients ping as they like: tritonclient's keepalive would else be cut off as a flood.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    server.add_generic_rpc_handlers((_Handlers(handlers),))
    reflection.enable_server_reflection((INFERENCE, HEALTH, reflection.SERVICE_NAME), server, POOL)
    return server


def unary(handler: Any) -> grpc.RpcMethodHandler:
    """Of `async (message: bytes, context) -> bytes`."""
    return grpc.unary_unary_rpc_method_handler(handler)


def bidirectional(handler: Any) -> grpc.RpcMethodHandler:
    """Of `async (messages: AsyncIterator[bytes], context) -> None`."""
    return grpc.stream_stream_rpc_method_handler(handler)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._handlers = handlers

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(call.method)


def handlers_of(infer: InferCalls, describe: DescribeCalls, health: HealthCalls) -> dict[str, grpc.RpcMethodHandler]:
    """Every method of the gateway's services, by full name."""
    handlers = {f"/{INFERENCE}/{method}": unary(handler) for method, handler in describe.handlers.items()}
    handlers |= {f"/{REPOSITORY}/{method}": unary(handler) for method, handler in describe.repository_handlers.items()}
    handlers[f"/{INFERENCE}/ModelInfer"] = unary(infer.infer)
    handlers[f"/{INFERENCE}/ModelStreamInfer"] = bidirectional(infer.stream)
    handlers[f"/{HEALTH}/Check"] = unary(health.check)
    handlers[f"/{HEALTH}/Watch"] = grpc.unary_stream_rpc_method_handler(health.watch)
    return handlers
