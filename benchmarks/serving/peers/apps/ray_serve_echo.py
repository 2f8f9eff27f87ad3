"""The echo on Ray Serve, in a Ray of its own: `ray_serve_echo.py HTTP_PORT GRPC_PORT`. Runs until it is terminated."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import grpc
import ray
from ray import serve
from ray.serve.config import gRPCOptions
from starlette.requests import Request
from starlette.responses import Response


class Raw:
    """Bytes that Serve takes for a protobuf message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


@serve.deployment(max_ongoing_requests=1000, logging_config={"enable_access_log": False})
class Echo:
    async def __call__(self, request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    async def ModelInfer(self, request: bytes) -> Raw:
        return Raw(request)


def add_servicer_to_server(servicer: object, server: grpc.Server) -> None:
    """A service of one method whose messages stay bytes."""
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(servicer.ModelInfer)}  # type: ignore[attr-defined]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))


def main() -> None:
    http_port, grpc_port = map(int, sys.argv[1:3])
    # The sockets in this folder have paths of at most 107 characters.
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=str(Path.cwd() / "ray"))
    serve.start(
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=["ray_serve_echo.add_servicer_to_server"]),
    )
    serve.run(Echo.bind(), name="echo", route_prefix="/echo")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
