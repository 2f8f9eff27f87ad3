"""gRPC through the gateway's real server, by a plain client, to real replicas."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy
import pytest

from fabric.errors import UserError
from serve_apps.directory.table import ServingTable
from serve_apps.gateway.routes import Address
from serve_apps.gateway.server import GatewayServer
from serve_apps.oip.messages import CLASSES, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from serve_apps.oip.protobuf_codec import read_response, write_request
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import InferRequest, Tensor
from tests.replica_server import ReplicaServer, table_of, version_of
from tests.unit.oip.models import Small, add, shout, spell

SERVICE = "inference.GRPCInferenceService"


class World:
    """One gateway before one replica with `add`, `shout`, `spell` and `slow`; `asleep` is parked, and woken to the same replica."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.models = {model.metadata.name: model for model in (add(), shout(), spell(), Small("slow", "x FP32 1", "y FP32 1", dict))}
        self.models["slow"].infer = self._slow  # type: ignore[method-assign]
        self.asleep = Small("asleep", "x FP32 1", "y FP32 1", lambda a: {"y": a["x"]})
        self.replica = ReplicaServer([*self.models.values(), self.asleep])
        self.loads: list[tuple[str, str, dict[str, Any]]] = []
        self.server = GatewayServer(
            authorize=self.authorize, waker=self, repository=lambda _: Loading(self), name="here", version="9", drain_s=5.0, held_s=5.0
        )
        self.token = b""
        self.server.start()
        self.server.replace(self.table())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}", [("grpc.max_receive_message_length", 2**26)])

    def table(self) -> ServingTable:
        living = [version_of(model, self.replica.address) for model in self.models.values()]
        return table_of(*living, version_of(self.asleep, min_replicas=0))

    def authorize(self, headers: Any) -> None:
        if self.token and headers.get(b"authorization") != self.token:
            raise UserError("no such token", code="unauthenticated")

    async def wake(self, model: str, version: str) -> Address:
        return self.replica.address

    async def _slow(self, request: InferRequest) -> Any:
        self.entered.set()
        await asyncio.sleep(30.0)

    def call(self, method: str, message: bytes, service: str = SERVICE, **options: Any) -> bytes:
        return self.channel.unary_unary(f"/{service}/{method}")(message, timeout=options.pop("timeout", 20), **options)

    def ask(self, method: str, service: str = SERVICE, **fields: Any) -> Any:
        answer = CLASSES[f"{method}Response"]()
        answer.ParseFromString(self.call(method, CLASSES[f"{method}Request"](**fields).SerializeToString(), service))
        return answer


class Loading:
    def __init__(self, world: World) -> None:
        self._world = world

    async def index(self, *, only_ready: bool) -> Any:
        return []

    async def load(self, name: str, parameters: Any) -> None:
        self._world.loads.append(("load", name, dict(parameters)))

    async def unload(self, name: str, parameters: Any) -> None:
        self._world.loads.append(("unload", name, dict(parameters)))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.channel.close()
    made.server.stop()
    made.replica.stop()


def infer_message(model: str, version: str = "", *, rows: int = 1, id: str = "") -> bytes:
    ones = numpy.ones((rows, 4), "<f4")
    return b"".join(write_request(InferRequest(model, (Tensor("a", "FP32", ones), Tensor("b", "FP32", 2 * ones)), version, id)))


def text_message(model: str, text: str, id: str = "") -> bytes:
    return b"".join(write_request(InferRequest(model, (Tensor("text", "BYTES", objects([text.encode()], (1,))),), id=id)))


def test_a_model_answers_and_names_itself(world: World) -> None:
    response = read_response(world.call("ModelInfer", infer_message("add", id="7")))
    assert (response.model_name, response.model_version, response.id) == ("add", "1", "7")
    assert response.outputs[0].array.tolist() == [[3.0, 3.0, 3.0, 3.0]]


def test_a_large_tensor_passes_both_ways(world: World) -> None:
    response = read_response(world.call("ModelInfer", infer_message("add", rows=500_000)))
    assert response.outputs[0].array.shape == (500_000, 4)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (infer_message("nobody"), grpc.StatusCode.NOT_FOUND),
        (infer_message("add", "9"), grpc.StatusCode.NOT_FOUND),
        (text_message("add", "x"), grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x7f", grpc.StatusCode.INVALID_ARGUMENT),
        (text_message("spell", "x"), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_an_error_has_its_status_and_says_why(world: World, message: bytes, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        world.call("ModelInfer", message)
    assert caught.value.code() == code
    assert caught.value.details()


def test_a_parked_model_is_woken_by_a_request(world: World) -> None:
    assert world.ask("ModelReady", name="asleep").ready
    request = InferRequest("asleep", (Tensor("x", "FP32", numpy.ones(1, "<f4")),))
    assert read_response(world.call("ModelInfer", b"".join(write_request(request)))).model_name == "asleep"


def test_a_deadline_that_passes_gives_the_request_up_at_the_replica_too(world: World) -> None:
    world.entered.clear()
    request = InferRequest("slow", (Tensor("x", "FP32", numpy.ones(1, "<f4")),))
    with pytest.raises(grpc.RpcError) as caught:
        world.call("ModelInfer", b"".join(write_request(request)), timeout=1.0)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert world.entered.is_set()
    # On the same connection, behind the cancellation.
    world.call("ModelInfer", infer_message("add"))
    assert world.server.gateway.routes.outstanding(world.replica.address) == 0


def stream(world: World, *messages: bytes) -> list[Any]:
    answers = world.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter(messages), timeout=20)
    return [ModelStreamInferResponse.FromString(answer) for answer in answers]


def test_answers_with_one_each_come_in_the_order_of_asking(world: World) -> None:
    answers = stream(world, *(infer_message("add", id=str(i)) for i in range(20)))
    assert [answer.infer_response.id for answer in answers] == [str(i) for i in range(20)]


def test_a_streaming_model_gives_many_answers_to_one_request(world: World) -> None:
    answers = stream(world, text_message("spell", "abc", "x"))
    texts = [read_response(answer.infer_response.SerializeToString()).outputs[0].array[0] for answer in answers]
    assert texts == [b"a", b"b", b"c"]


def test_an_error_within_a_stream_is_an_answer_and_the_stream_goes_on(world: World) -> None:
    failed, good = stream(world, infer_message("nobody"), infer_message("add", id="2"))
    assert "nobody" in failed.error_message
    assert good.infer_response.id == "2"


def test_the_server_tells_of_itself_and_its_models(world: World) -> None:
    assert world.ask("ServerLive").live
    assert world.ask("ServerReady").ready
    server = world.ask("ServerMetadata")
    assert (server.name, server.version) == ("here", "9")
    metadata = world.ask("ModelMetadata", name="add")
    assert [tensor.name for tensor in metadata.inputs] == ["a", "b"]
    assert world.ask("ModelConfig", name="add").config.max_batch_size == 8
    assert not world.ask("ModelReady", name="nobody").ready


def test_statistics_are_asked_of_replicas(world: World) -> None:
    world.call("ModelInfer", infer_message("add"))
    (told,) = world.ask("ModelStatistics", name="add").model_stats
    assert (told.name, told.version) == ("add", "1")
    assert told.inference_count == len(world.models["add"].seen)


@pytest.mark.parametrize("service", [SERVICE, "inference.model_repository.ModelRepositoryService"])
def test_a_model_is_loaded_in_the_dialect_of_triton_and_mlserver(world: World, service: str) -> None:
    world.loads.clear()
    request = CLASSES["RepositoryModelLoadRequest"](model_name="new")
    request.parameters["config"].string_param = "{}"
    assert world.call("RepositoryModelLoad", request.SerializeToString(), service) == b""
    assert world.loads == [("load", "new", {"config": "{}"})]


def test_a_model_is_unloaded_in_the_dialect_of_kserve(world: World) -> None:
    world.loads.clear()
    # kserve: {1: model_name}, and {1: model_name, 2: isUnloaded} back.
    assert world.call("RepositoryModelUnload", b"\x0a\x03old") == b"\x0a\x03old\x10\x01"
    assert world.loads == [("unload", "old", {})]


@pytest.mark.parametrize("method", ["SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"])
def test_what_is_not_there_says_so(world: World, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        world.call(method, b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "this server" in caught.value.details() or "fabric" in caught.value.details()


def test_a_token_is_asked_for_but_not_for_health(world: World) -> None:
    world.token = b"Bearer good"
    try:
        with pytest.raises(grpc.RpcError) as caught:
            world.call("ServerMetadata", b"")
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert world.call("ServerMetadata", b"", metadata=[("authorization", "Bearer good")])
        assert world.ask("ServerLive").live
        with pytest.raises(grpc.RpcError):
            # It would wake a model for somebody who may not ask.
            world.call("ModelInfer", infer_message("asleep"))
    finally:
        world.token = b""


@pytest.mark.parametrize(("name", "answer"), [("", b"\x08\x01"), (SERVICE, b"\x08\x01"), ("add", b"\x08\x01"), ("asleep", b"\x08\x01")])
def test_health_is_told_of_the_server_and_of_models(world: World, name: str, answer: bytes) -> None:
    request = ModelInferRequest(model_name=name).SerializeToString()
    assert world.call("Check", request, "grpc.health.v1.Health") == answer


def test_reflection_lists_the_service(world: World) -> None:
    listed = world.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(iter([b"\x3a\x00"]), timeout=20)
    assert SERVICE.encode() in next(iter(listed))


def test_a_replica_that_dies_is_passed_over(world: World) -> None:
    other = ReplicaServer([add()])
    world.server.replace(table_of(version_of(world.models["add"], world.replica.address, other.address)))
    try:
        for _ in range(10):
            world.call("ModelInfer", infer_message("add"))
        other.stop()
        answers = [ModelInferResponse.FromString(world.call("ModelInfer", infer_message("add", id=str(i)))) for i in range(20)]
        assert [answer.id for answer in answers] == [str(i) for i in range(20)]
    finally:
        world.server.replace(world.table())
