"""The gRPC methods that ask about the server and its models, or load and unload them, in every dialect of the protocol.

Triton, kserve and MLServer number the same fields differently. A load request of kserve has the model's name where the others have the
repository's: a request that names a repository and no model is kserve's, and is answered in its form. Source: the protocol files of
tritonclient 2.73, kserve 0.21 and MLServer 1.7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabric.errors import UserError
from serve_apps.gateway.fleet import Fleet, Form
from serve_apps.gateway.grpc_calls import Context, abort
from serve_apps.gateway.heads import as_headers
from serve_apps.oip import messages
from serve_apps.oip.descriptions import as_message
from serve_apps.oip.hooks import Authorize
from serve_apps.oip.wire import header_of

TRUE, FALSE = b"\x08\x01", b""
"""Messages whose field 1 is a bool."""

UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(
        ("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
        "this server has no shared memory regions: send tensors as raw contents",
    ),
    **dict.fromkeys(
        ("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
        "this server has no CUDA shared memory regions: send tensors as raw contents",
    ),
    "TraceSetting": "this server has no trace settings: follow `traceparent`, which it passes on",
    "LogSettings": "log settings are the fabric's: see `fabric config show`",
}

Handler = Callable[[bytes, Context], Awaitable[bytes]]


class DescribeCalls:
    """Handlers of (message, context) for `grpc.aio`, by method name in `handlers`."""

    def __init__(self, fleet: Fleet, authorize: Authorize) -> None:
        self._fleet = fleet
        self._authorize = authorize
        asked = {
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        self.repository_handlers: Mapping[str, Handler] = {
            "RepositoryIndex": self._guarded(self._index),
            "RepositoryModelLoad": self._guarded(self._load),
            "RepositoryModelUnload": self._guarded(self._unload),
        }
        self.handlers: Mapping[str, Handler] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            **{method: self._guarded(handler) for method, handler in asked.items()},
            **self.repository_handlers,
            **{method: self._guarded(_refusing(text)) for method, text in UNSUPPORTED.items()},
        }

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(message: bytes, context: Context) -> bytes:
            try:
                self._authorize(as_headers(context.invocation_metadata() or ()))
                return await handler(message, context)
            except Exception as error:
                await abort(context, error)

        return guarded

    # Health is answered to all.
    async def _live(self, message: bytes, context: Context) -> bytes:
        return TRUE

    async def _ready(self, message: bytes, context: Context) -> bytes:
        return FALSE if self._fleet.is_draining else TRUE

    async def _model_ready(self, message: bytes, context: Context) -> bytes:
        return TRUE if self._fleet.is_model_ready(*_named("ModelReadyRequest", message)) else FALSE

    async def _server_metadata(self, message: bytes, context: Context) -> bytes:
        return as_message("ServerMetadataResponse", self._fleet.server_metadata())

    async def _model_metadata(self, message: bytes, context: Context) -> bytes:
        return as_message("ModelMetadataResponse", self._fleet.model_metadata(*_named("ModelMetadataRequest", message)))

    async def _model_config(self, message: bytes, context: Context) -> bytes:
        return as_message("ModelConfigResponse", {"config": self._fleet.model_config(*_named("ModelConfigRequest", message))})

    async def _model_statistics(self, message: bytes, context: Context) -> bytes:
        headers = [item for item in as_headers(context.invocation_metadata() or ()).items() if item[0] == b"authorization"]
        form = await self._fleet.statistics(*_named("ModelStatisticsRequest", message), headers)
        return as_message("ModelStatisticsResponse", form)

    async def _index(self, message: bytes, context: Context) -> bytes:
        request = messages.parse("RepositoryIndexRequest", message)
        return as_message("RepositoryIndexResponse", {"models": await self._fleet.index(only_ready=request.ready)})

    async def _load(self, message: bytes, context: Context) -> bytes:
        return await self._loaded("RepositoryModelLoadRequest", message, self._fleet.repository.load)

    async def _unload(self, message: bytes, context: Context) -> bytes:
        return await self._loaded("RepositoryModelUnloadRequest", message, self._fleet.repository.unload)

    async def _loaded(self, name: str, message: bytes, act: Callable[[str, Form], Awaitable[None]]) -> bytes:
        request = messages.parse(name, message)
        if request.model_name:
            await act(request.model_name, {key: _value_of(value) for key, value in request.parameters.items()})
            return b""
        model: str = request.repository_name
        if not model:
            raise UserError("the request names no model", code="bad_request")
        await act(model, {})
        encoded = model.encode()
        return header_of(1, len(encoded)) + encoded + b"\x10\x01"


def _named(message_name: str, message: bytes) -> tuple[str, str]:
    request = messages.parse(message_name, message)
    return request.name, request.version


def _value_of(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _refusing(text: str) -> Handler:
    async def refusing(message: bytes, context: Context) -> bytes:
        raise UserError(text, code="unsupported")

    return refusing
