"""A model's requests split among its versions by a real HAProxy: as the gateway would, changed under load, and with a version that dies."""

from __future__ import annotations

import asyncio
import collections
import http.client
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httptools
import numpy
import pytest

from serve_apps.directory.choose_version import choose_version
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, Split, VersionEntry
from serve_apps.gateway.routes import Address
from serve_apps.gateway.server import GatewayServer
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.oip.protobuf_codec import read_response, write_request
from serve_apps.server import bind
from serve_apps.tensors import InferRequest, Tensor
from tests.replica_process import echo, start

pytestmark = pytest.mark.skipif(haproxy_binary() is None, reason="no haproxy on this machine")

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}]}).encode()
INFER = "/v2/models/m/infer"


def free_port() -> int:
    with bind("127.0.0.1") as listening:
        return int(listening.getsockname()[1])


class World:
    """Versions 1, 2 and 3 of `m`, a process each, behind HAProxy and behind a gateway alone."""

    def __init__(self, folder: Path) -> None:
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.addresses: dict[str, Address] = {}
        for version in ("1", "2", "3"):
            self.processes[version], self.addresses[version] = start(version)
        self.gateway = GatewayServer()
        self.gateway.start()
        settings = HaproxySettings(
            folder, "127.0.0.1", free_port(), f"127.0.0.1:{self.gateway.rest_port}", free_port(), f"127.0.0.1:{self.gateway.grpc_port}"
        )
        self.haproxy = Haproxy(str(haproxy_binary()), settings)
        self.haproxy.start()
        self.port, self.grpc_port = settings.port, settings.grpc_port
        self.seq = 0
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", [("grpc.max_receive_message_length", 2**26)])

    def entry(self, shares: Mapping[str, int] | None) -> ModelEntry:
        versions = {
            version: VersionEntry(version, echo(version).metadata, (ReplicaAt(ReplicaId(str(address)), *address),))
            for version, address in self.addresses.items()
        }
        return ModelEntry("m", "1", versions, Split(shares, "s") if shares else None, names={"champion": "1", "challenger": "2"})

    def apply(self, shares: Mapping[str, int] | None) -> ModelEntry:
        self.seq += 1
        entry = self.entry(shares)
        table = ServingTable(self.seq, {"m": entry})
        self.haproxy.apply(table)
        self.gateway.replace(table)
        return entry

    def ask(self, port: int, path: str = INFER, body: bytes = BODY, **headers: str) -> tuple[int, str]:
        """Status, and the version that answered."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("POST", path, body, {"content-type": "application/json", **sent})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("model_version", "")
        finally:
            connection.close()

    def ask_grpc(self, version: str = "", size: int = 1, **metadata: str) -> str:
        message = b"".join(write_request(InferRequest("m", (Tensor("x", "FP32", numpy.ones(size, "<f4")),), version)))
        call = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        sent = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        return read_response(call(message, timeout=20, metadata=sent)).model_version

    def passed_gateway(self) -> float:
        lines = self.gateway.gateway.metrics_text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("fabric_gateway_requests_total"))

    def restart(self, version: str) -> None:
        self.processes[version], self.addresses[version] = start(version)

    def stop(self) -> None:
        self.channel.close()
        self.haproxy.stop()
        self.gateway.stop()
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("haproxy"))
    yield made
    made.stop()


SPLITS: list[Mapping[str, int]] = [
    {"1": 5000, "2": 5000},
    {"1": 9900, "2": 100},
    {"2": 3000, "1": 4000, "3": 3000},
    {"1": 0, "2": 10000},
]


@pytest.mark.parametrize("shares", SPLITS, ids=str)
def test_a_users_version_is_the_same_by_every_way(world: World, shares: Mapping[str, int]) -> None:
    entry = world.apply(shares)
    for i in range(60):
        user = f"user {i}, of these"
        expected = choose_version(entry, "", {b"x-user-key": user.encode()}, lambda n: 0)
        seen = {world.ask(world.port, x_user_key=user)[1], world.ask(world.gateway.rest_port, x_user_key=user)[1]}
        assert seen | {world.ask_grpc(x_user_key=user)} == {expected}


PINS: list[tuple[str, dict[str, str], str]] = [
    ("/v2/models/m/versions/1/infer", {}, "1"),
    ("/v2/models/m/versions/challenger/infer", {}, "2"),
    ("/v2/models/m/versions/3/infer", {"x_user_key": "u"}, "3"),
    (INFER, {"x_model_version": "champion"}, "1"),
    (INFER, {"x_model_version": "3", "x_user_key": "u"}, "3"),
    ("/v2/models/m/versions/2/infer", {"x_model_version": "3"}, "2"),
    (INFER, {"x_model_version": "9"}, ""),
    (INFER, {"x_model_version": "nobody"}, ""),
    ("/v2/models/m/versions/nobody/infer", {}, ""),
    ("/v2/models/m/versions/9/infer", {}, ""),
]


@pytest.mark.parametrize("shares", [None, {"1": 5000, "2": 5000}], ids=["whole", "split"])
@pytest.mark.parametrize(("path", "headers", "version"), PINS)
def test_a_version_that_is_named_answers_or_none(
    world: World, shares: Mapping[str, int] | None, path: str, headers: dict[str, str], version: str
) -> None:
    world.apply(shares)
    expected = (200, version) if version else (404, "")
    assert {world.ask(port, path, **headers) for port in (world.port, world.gateway.rest_port) for _ in range(3)} == {expected}


@pytest.mark.parametrize(
    ("named", "metadata", "version"),
    [
        ("3", {}, "3"),
        ("challenger", {}, "2"),
        ("", {"x_model_version": "challenger"}, "2"),
        ("1", {"x_model_version": "challenger"}, "1"),
        ("nobody", {}, ""),
        ("", {"x_model_version": "nobody"}, ""),
    ],
)
def test_over_grpc_too(world: World, named: str, metadata: dict[str, str], version: str) -> None:
    world.apply({"1": 5000, "2": 5000})
    before = world.passed_gateway()
    if version:
        assert {world.ask_grpc(named, **metadata) for _ in range(4)} == {version}
        assert world.passed_gateway() == before, "no second hop"
        return
    with pytest.raises(grpc.RpcError) as caught:
        world.ask_grpc(named, **metadata)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_split_requests_pass_no_gateway(world: World) -> None:
    world.apply({"1": 5000, "2": 5000})
    before = world.passed_gateway()
    assert {world.ask(world.port) for _ in range(40)} == {(200, "1"), (200, "2")}
    assert {world.ask_grpc() for _ in range(40)} == {"1", "2"}
    assert world.passed_gateway() == before


def test_large_bodies_are_split_like_small_ones(world: World) -> None:
    world.apply({"1": 0, "2": 10000})
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [10**6], "parameters": {"binary_data_size": 4 * 10**6}}]})
    body = head.encode() + numpy.ones(10**6, "<f4").tobytes()
    assert world.ask(world.port, body=body, inference_header_content_length=str(len(head))) == (200, "2")
    assert world.ask_grpc(size=10**6) == "2"


def test_nobody_from_outside_passes_for_a_shadow_copy(world: World) -> None:
    world.apply({"1": 0, "2": 10000})
    for port in (world.port, world.gateway.rest_port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", INFER, BODY, {"content-type": "application/json", "x-shadow": "1"})
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200 and answer.getheader("x-shadow-ms") is None
        connection.close()


class Client(asyncio.Protocol):
    """Keeps one request in flight until `left` are answered."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.is_waiting = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.next()

    def next(self) -> None:
        self.is_waiting = self.load.left > 0
        if not self.is_waiting:
            self.transport.close()
            return
        self.load.left -= 1
        self.body = b""
        head = f"POST {INFER} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        self.transport.write(head.encode() + BODY)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        self.load.seen[json.loads(self.body).get("model_version", "?") if status == 200 else str(status)] += 1
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_waiting:
            self.load.seen["lost"] += 1
        self.load.num_open -= 1


class Load:
    """`count` requests over 16 connections. `seen`: answers by version, or by the status of those that failed."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.left = port, count
        self.num_open = 16
        self.seen: collections.Counter[str] = collections.Counter()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.num_open):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port)
        while self.num_open:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", ["haproxy", "gateway"])
def test_a_version_that_is_killed_under_load_loses_no_split_request(world: World, way: str) -> None:
    world.apply({"1": 5000, "2": 5000})
    load = Load(world.port if way == "haproxy" else world.gateway.rest_port, 10_000)
    running = threading.Thread(target=lambda: asyncio.run(load.run()))
    running.start()
    while load.left > 7_000 and running.is_alive():
        running.join(0.01)
    world.processes["2"].kill()
    running.join(120)
    try:
        assert load.seen.total() == 10_000 and set(load.seen) == {"1", "2"}, load.seen
        assert load.seen["2"] > 1_000
        assert world.ask(world.port, x_model_version="2")[0] == 503, "who asks for it by name is told"
        assert {world.ask_grpc() for _ in range(20)} == {"1"}
    finally:
        world.restart("2")
        world.apply({"1": 5000, "2": 5000})
    assert {world.ask(world.port)[1] for _ in range(40)} == {"1", "2"}


def test_weights_that_change_under_load_lose_no_request(world: World) -> None:
    world.apply({"1": 5000, "2": 5000})
    load = Load(world.port, 10_000)
    running = threading.Thread(target=lambda: asyncio.run(load.run()))
    running.start()
    step = 0
    while running.is_alive():
        world.apply([None, {"1": 9900, "2": 100}, {"1": 5000, "3": 5000}, {"1": 0, "2": 10000}][step % 4])
        step += 1
        running.join(0.05)
    assert load.seen.total() == 10_000 and set(load.seen) <= {"1", "2", "3"}, load.seen
    assert step > 3
