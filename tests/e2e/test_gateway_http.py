"""HTTP through the gateway's real server, to a real replica; and OpenAI's own client, where it is installed."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from serve_apps.gateway.server import GatewayServer
from serve_apps.tensors import InferRequest, InferResponse, Tensor
from tests.replica_server import ReplicaServer, table_of, version_of
from tests.unit.gateway.text_models import Rote, Trigrams
from tests.unit.oip.models import Small, vector

ROOT = Path(__file__).parents[2]
BINARY = {"content-type": "application/octet-stream"}


class Endless(Small):
    """`endless`: an answer every few milliseconds until its caller goes, which sets `left`."""

    def __init__(self) -> None:
        super().__init__("endless", "x FP32 1", "y FP32 1", dict, is_streaming=True, text_output="y")
        self.left = threading.Event()

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        try:
            while True:
                await asyncio.sleep(0.005)
                yield InferResponse(self.metadata.name, "1", (Tensor("y", "FP32", numpy.zeros(1, "<f4")),))
        finally:
            self.left.set()


class World:
    def __init__(self) -> None:
        self.endless = Endless()
        self.replica = ReplicaServer([vector(), self.endless])
        self.server = GatewayServer(drain_s=5.0)
        self.server.start()
        self.server.replace(table_of(*(version_of(model, self.replica.address) for model in (vector(), self.endless))))

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.rest_port, timeout=30)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.server.stop()
    made.replica.stop()


def infer_body(num_floats: int) -> tuple[bytes, bytes, dict[str, str]]:
    """JSON, tensor and headers of a binary request to `vector-fp32`."""
    tensor = numpy.arange(num_floats, dtype="<f4").tobytes()
    given = {"name": "x", "datatype": "FP32", "shape": [num_floats], "parameters": {"binary_data_size": len(tensor)}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return head, tensor, {**BINARY, "inference-header-content-length": str(len(head))}


def sent(world: World, body: Any, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    connection = world.connection()
    try:
        connection.request("POST", "/v2/models/vector-fp32/infer", body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("num_floats", [1, 8_000_000], ids=["small", "32 MB"])
def test_a_body_passes_both_ways_whole(world: World, num_floats: int) -> None:
    head, tensor, headers = infer_body(num_floats)
    response, body = sent(world, head + tensor, headers)
    assert response.status == 200, body[:200]
    assert body[int(response.headers["inference-header-content-length"]) :] == tensor


def test_a_body_in_chunks_passes_as_well(world: World) -> None:
    head, tensor, headers = infer_body(100_000)
    response, body = sent(world, iter([head, tensor[:1000], tensor[1000:]]), headers)
    assert response.status == 200, body[:200]
    assert body.endswith(tensor)


def test_a_body_over_the_limit_is_refused_with_the_replicas_status(world: World) -> None:
    connection = world.connection()
    connection.putrequest("POST", "/v2/models/vector-fp32/infer")
    connection.putheader("content-length", str(2**31))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_stream_comes_as_it_is_made_and_ends_when_its_caller_goes(world: World) -> None:
    connection = world.connection()
    connection.request("POST", "/v2/models/endless/generate_stream", json.dumps({"x": [1.0]}), {"content-type": "application/json"})
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    response.close()
    connection.close()
    assert world.endless.left.wait(20.0)


def test_a_replica_that_dies_mid_answer_breaks_the_answer_off(world: World) -> None:
    doomed = ReplicaServer([Endless()])
    world.server.replace(table_of(version_of(vector(), world.replica.address), version_of(world.endless, doomed.address)))
    connection = world.connection()
    connection.request("POST", "/v2/models/endless/generate_stream", json.dumps({"x": [1.0]}), {"content-type": "application/json"})
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    killer = threading.Thread(target=doomed.stop)
    killer.start()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    killer.join()
    connection.close()


def test_requests_that_run_are_finished_before_the_gateway_ends() -> None:
    class Slow(Small):
        async def infer(self, request: InferRequest) -> InferResponse:
            entered.set()
            await asyncio.sleep(0.5)
            return await super().infer(request)

    entered = threading.Event()
    model = Slow("vector-fp32", "x FP32 -1", "y FP32 -1", lambda arrays: {"y": arrays["x"]})
    replica = ReplicaServer([model])
    server = GatewayServer(drain_s=10.0)
    server.start()
    server.replace(table_of(version_of(model, replica.address)))
    answers: list[int] = []
    head, tensor, headers = infer_body(4)

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        connection.request("POST", "/v2/models/vector-fp32/infer", head + tensor, headers)
        answers.append(connection.getresponse().status)
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    assert entered.wait(20.0)
    server.stop()
    asking.join(20.0)
    replica.stop()
    assert answers == [200]


def openai_python() -> Path:
    return Path(os.environ.get("FABRIC_CLIENT_VENVS", ROOT / ".venv" / "clients")) / "openai" / "bin" / "python"


@pytest.mark.skipif(not openai_python().exists(), reason="OpenAI's client is not installed")
def test_openais_own_client_is_served() -> None:
    models = [Trigrams(), Rote()]
    replica = ReplicaServer(models)
    server = GatewayServer()
    server.start()
    server.replace(table_of(*(version_of(model, replica.address) for model in models)))
    command = [openai_python(), ROOT / "tests" / "foreign" / "openai_client.py", f"http://127.0.0.1:{server.rest_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    server.stop()
    replica.stop()
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
