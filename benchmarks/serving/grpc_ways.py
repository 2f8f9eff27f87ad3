"""What each way of a gRPC call costs: the same echo of 16 floats straight through HAProxy, through the gateway, and to a bare gRPC server.

One connection, one call at a time; every way in each round, one after another; medians of the rounds' medians.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy
from serial import grpc_ms, http_ms

from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry
from serve_apps.gateway.server import GatewayServer
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.protobuf_codec import write_request
from serve_apps.oip.rest import RestApp
from serve_apps.server import Server, bind
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, options, report

GOALS: dict[str, str] = {}
_WARM_UP, _REQUESTS = 200, 500
_SPEC = TensorSpec("x", "FP32", (-1,))
_MODEL = ModelMetadata("echo", ("1",), "python", (_SPEC,), (_SPEC,))


class Echo:
    """Its input again, without a queue or a thread: what is measured is the way."""

    metadata, version, is_ready = _MODEL, "1", True

    async def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse("echo", "1", request.inputs)

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        yield await self.infer(request)

    def statistics(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        pass


def replica(ready: Connection) -> None:
    plane = DataPlane()
    plane.add(Echo())
    server = Server(RestApp(plane), bind("127.0.0.1")).start()
    ready.send(server.port)
    ready.recv()


def gateway(ready: Connection, table: ServingTable) -> None:
    server = GatewayServer()
    server.start()
    server.replace(table)
    ready.send((server.rest_port, server.grpc_port))
    ready.recv()


def bare(ready: Connection) -> None:
    """grpc.aio on uvloop with a handler that gives its bytes back: the least that a gRPC server in Python takes."""
    import grpc
    import uvloop

    async def echo(message: bytes, _context: Any) -> bytes:
        return message

    async def serve() -> None:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler}),))
        ready.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await asyncio.to_thread(ready.recv)

    uvloop.run(serve())


@contextmanager
def started(work: Any, *arguments: Any) -> Iterator[Any]:
    """What a process of its own says that it listens on."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, *arguments), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(20)
        process.kill()


def main() -> None:
    args = options(__doc__ or "", rounds=7)
    binary = haproxy_binary()
    if binary is None:
        raise SystemExit("there is no haproxy on this machine")
    with started(replica) as port, started(bare) as bare_port, tempfile.TemporaryDirectory() as folder:
        version = VersionEntry("1", _MODEL, (ReplicaAt(ReplicaId("r"), "127.0.0.1", port),))
        table = ServingTable(1, {"echo": ModelEntry("echo", "1", {"1": version})})
        with started(gateway, table) as (rest_port, grpc_port), bind("127.0.0.1") as one, bind("127.0.0.1") as two:
            ports = [listener.getsockname()[1] for listener in (one, two)]
            one.close()
            two.close()
            settings = HaproxySettings(Path(folder), "127.0.0.1", ports[0], f"127.0.0.1:{rest_port}", ports[1], f"127.0.0.1:{grpc_port}")
            haproxy = Haproxy(binary, settings)
            haproxy.start()
            haproxy.apply(table)
            try:
                rounds = [measure(port, ports[1], grpc_port, bare_port) for _ in range(args.rounds)]
            finally:
                haproxy.stop()
    figures = {name: median([each[name] for each in rounds]) for name in rounds[0]}
    for way in ("haproxy", "gateway"):
        figures = {f"{way}_ratio": median([each[f"{way}_ms"] / each["bare_ms"] for each in rounds]), **figures}
    report(figures, GOALS, as_json=args.json)


def measure(replica_port: int, haproxy_port: int, gateway_port: int, bare_port: int) -> dict[str, float]:
    """Milliseconds: through HAProxy, through the gateway, to a bare server that parses nothing, and HTTP/1.1 to the replica itself."""
    message = b"".join(write_request(InferRequest("echo", (Tensor("x", "FP32", numpy.arange(16, dtype="<f4")),))))
    seen: dict[str, float] = {}
    for name, port in (("haproxy_ms", haproxy_port), ("gateway_ms", gateway_port), ("bare_ms", bare_port)):
        grpc_ms(f"127.0.0.1:{port}", message, count=_WARM_UP)
        seen[name] = median(grpc_ms(f"127.0.0.1:{port}", message, count=_REQUESTS)[0])
    url = f"http://127.0.0.1:{replica_port}/grpc/ModelInfer"
    http_ms(url, message, count=_WARM_UP)
    seen["http1_to_replica_ms"] = median(http_ms(url, message, count=_REQUESTS)[0])
    return seen


if __name__ == "__main__":
    main()
