"""gRPC through HAProxy for real: inference straight to the replica that the message names, all else to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy
import pytest

from fabric.errors import RejectedError
from serve_apps.directory.table import ServingTable
from serve_apps.gateway.server import GatewayServer
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.oip.messages import CLASSES, ModelStreamInferResponse
from serve_apps.oip.protobuf_codec import read_response, write_request
from serve_apps.oip.tensor_bytes import objects
from serve_apps.server import bind
from serve_apps.tensors import InferRequest, InferResponse, Tensor
from tests.replica_server import ReplicaServer, table_of, version_of
from tests.unit.oip.models import Small, add, spell

pytestmark = pytest.mark.skipif(haproxy_binary() is None, reason="no haproxy on this machine")

SERVICE = "inference.GRPCInferenceService"


def free_port() -> int:
    with bind("127.0.0.1") as listening:
        return int(listening.getsockname()[1])


class Slow(Small):
    async def infer(self, request: InferRequest) -> InferResponse:
        await asyncio.sleep(30.0)
        raise AssertionError("nobody waits so long")


class World:
    """HAProxy before two versions of `add` on replicas of their own, `spell`, `slow`, and a gateway that knows `away` besides."""

    def __init__(self, folder: Path) -> None:
        self.token = ""
        self.one, self.two = add(), add(version="2")
        self.others = [spell(), Slow("slow", "x FP32 1", "y FP32 1", dict)]
        self.away = Small("away", "x FP32 1", "y FP32 1", lambda arrays: {"y": arrays["x"]})
        self.first = ReplicaServer([self.one, *self.others, self.away], authorize=self.authorize)
        self.second = ReplicaServer([self.two], authorize=self.authorize)
        self.gateway = GatewayServer(waker=self, name="gateway")
        self.gateway.start()
        front = f"127.0.0.1:{self.gateway.rest_port}"
        settings = HaproxySettings(folder, "127.0.0.1", free_port(), front, free_port(), f"127.0.0.1:{self.gateway.grpc_port}")
        self.haproxy = Haproxy(str(haproxy_binary()), settings)
        self.haproxy.start()
        self.haproxy.apply(self.table())
        self.gateway.replace(self.table())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{settings.grpc_port}", [("grpc.max_receive_message_length", 2**26)])

    def table(self) -> ServingTable:
        others = [version_of(model, self.first.address) for model in self.others]
        both = (version_of(self.one, self.first.address), version_of(self.two, self.second.address))
        return table_of(*both, *others, version_of(self.away, min_replicas=0))

    def authorize(self, headers: Any) -> None:
        if headers.get(b"authorization", b"").decode() != self.token:
            raise RejectedError("no such token", code="unauthenticated")

    async def wake(self, model: str, version: str) -> Any:
        return self.first.address

    def infer(self, message: bytes, **options: Any) -> InferResponse:
        return read_response(self.channel.unary_unary(f"/{SERVICE}/ModelInfer")(message, **{"timeout": 20, **options}))

    def passed_gateway(self) -> float:
        """How many inferences the gateway has carried."""
        lines = self.gateway.gateway.metrics_text().decode().splitlines()
        counts = [line for line in lines if line.startswith("fabric_gateway_requests_total") and 'protocol="grpc"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in counts)

    def stop(self) -> None:
        self.channel.close()
        self.haproxy.stop()
        self.gateway.stop()
        self.first.stop()
        self.second.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("haproxy"))
    yield made
    made.stop()


def message(version: str = "", rows: int = 1, id: str = "") -> bytes:
    ones = numpy.ones((rows, 4), "<f4")
    return b"".join(write_request(InferRequest("add", (Tensor("a", "FP32", ones), Tensor("b", "FP32", ones)), version, id)))


def to(model: str) -> bytes:
    return b"".join(write_request(InferRequest(model, (Tensor("x", "FP32", numpy.ones(1, "<f4")),))))


@pytest.mark.parametrize(("version", "answers"), [("", "2"), ("1", "1"), ("2", "2")])
def test_inference_goes_straight_to_the_version_that_is_asked(world: World, version: str, answers: str) -> None:
    before = world.passed_gateway()
    response = world.infer(message(version, id="7"))
    assert (response.model_version, response.id) == (answers, "7")
    assert world.passed_gateway() == before


@pytest.mark.parametrize("rows", [1000, 5000, 500_000], ids=["32 kB", "160 kB", "16 MB"])
def test_large_messages_go_the_same_way(world: World, rows: int) -> None:
    before = world.passed_gateway()
    assert world.infer(message("1", rows)).outputs[0].array.shape == (rows, 4)
    assert world.passed_gateway() == before


def test_many_calls_at_once_on_one_connection_are_kept_apart(world: World) -> None:
    call = world.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    waiting = [call.future(message(str(1 + i % 2), rows=1 + i, id=str(i)), timeout=30) for i in range(100)]
    answers = [read_response(future.result()) for future in waiting]
    assert [(answer.id, answer.outputs[0].array.shape[0]) for answer in answers] == [(str(i), 1 + i) for i in range(100)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (to("add"), grpc.StatusCode.INVALID_ARGUMENT),
        (to("spell"), grpc.StatusCode.UNIMPLEMENTED),
        (to("nobody"), grpc.StatusCode.NOT_FOUND),
        (message("9"), grpc.StatusCode.NOT_FOUND),
        (b"\x0a\x03add\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"", grpc.StatusCode.NOT_FOUND),
    ],
)
def test_errors_have_their_status_and_say_why(world: World, sent: bytes, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        world.infer(sent)
    assert caught.value.code() == code
    assert caught.value.details()


def test_a_deadline_holds(world: World) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        world.infer(to("slow"), timeout=0.5)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_compressed_message_takes_the_way_through_the_gateway(world: World) -> None:
    before = world.passed_gateway()
    assert world.infer(message("1", 5000), compression=grpc.Compression.Gzip).outputs[0].array.shape == (5000, 4)
    assert world.passed_gateway() > before


def test_a_model_without_a_replica_is_woken_by_the_gateway(world: World) -> None:
    assert world.infer(to("away")).model_name == "away"


def test_who_asks_is_asked_by_the_replica(world: World) -> None:
    world.token = "Bearer good"
    try:
        with pytest.raises(grpc.RpcError) as caught:
            world.infer(message())
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert world.infer(message(), metadata=[("authorization", "Bearer good")]).model_name == "add"
    finally:
        world.token = ""


def test_streams_and_all_else_are_the_gateways(world: World) -> None:
    answer = CLASSES["ServerMetadataResponse"].FromString(world.channel.unary_unary(f"/{SERVICE}/ServerMetadata")(b"", timeout=20))
    assert answer.name == "gateway"
    text = InferRequest("spell", (Tensor("text", "BYTES", objects([b"abc"], (1,))),))
    answers = world.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([b"".join(write_request(text))]), timeout=20)
    assert len([ModelStreamInferResponse.FromString(answer) for answer in answers]) == 3
