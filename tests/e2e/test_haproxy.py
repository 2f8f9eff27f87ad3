"""HAProxy for real: models and replicas come, move and go without a reload, and nothing that runs is cut off."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import RuntimeFault
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.local_door import LocalDoor
from serve_apps.server import Server, bind

pytestmark = pytest.mark.skipif(haproxy_binary() is None, reason="no haproxy on this machine")


class Backend:
    """Says who it is; `/slow` waits until it may go on. `doors`: the folder of its local door, if it has one."""

    def __init__(self, name: str, doors: Path | None) -> None:
        self.name = name
        self.may_go_on, self.has_come = threading.Event(), threading.Event()
        self.door = None if doors is None else LocalDoor(doors)
        more = () if self.door is None else (self.door.listener,)
        self.server = Server(self._app, bind("127.0.0.1"), *more).start()

    @property
    def replica(self) -> ReplicaAt:
        # Whoever has a door is reached by nothing else.
        port = self.server.port if self.door is None else 9
        return ReplicaAt(ReplicaId(self.name), "127.0.0.1", port, door="" if self.door is None else str(self.door.path))

    def stop(self) -> None:
        self.may_go_on.set()
        self.server.stop(1)
        if self.door is not None:
            self.door.close()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        size = 0
        while (message := await receive()).get("more_body"):
            size += len(message["body"])
        size += len(message.get("body", b""))
        if (b"x-slow", b"1") in scope["headers"]:
            import asyncio

            self.has_come.set()
            await asyncio.to_thread(self.may_go_on.wait, 20)
        body = f"{self.name} {size}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["ports", "doors"])
def backends(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Backend]]:
    doors = None if request.param == "ports" else tmp_path / "doors"
    made = {name: Backend(name, doors) for name in ("gateway", "a", "b")}
    yield made
    for backend in made.values():
        backend.stop()


@pytest.fixture
def haproxy(tmp_path: Path, backends: dict[str, Backend]) -> Iterator[Haproxy]:
    gateway = f"127.0.0.1:{backends['gateway'].server.port}"
    with bind("127.0.0.1") as probe:
        port = probe.getsockname()[1]
    binary = haproxy_binary()
    assert binary is not None
    made = Haproxy(binary, HaproxySettings(tmp_path / "ha", "127.0.0.1", port, gateway))
    made.start()
    yield made
    made.stop()


def table(seq: int, *replicas: ReplicaAt) -> ServingTable:
    return ServingTable(seq, {"m": ModelEntry("m", "1", {"1": VersionEntry("1", None, replicas)})})


def ask(haproxy: Haproxy, path: str = "/v2/models/m/infer", body: bytes = b"xx", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", haproxy.port, timeout=30)
    try:
        connection.request("POST", path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_inference_goes_to_replicas_and_all_else_to_the_gateway(haproxy: Haproxy, backends: dict[str, Backend]) -> None:
    assert ask(haproxy) == (200, "gateway 2"), "a model that nobody serves"
    haproxy.apply(table(1, backends["a"].replica))
    assert {ask(haproxy, path) for path in ("/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/m/predict")} == {(200, "a 2")}
    assert {ask(haproxy, path) for path in ("/v2/models/m", "/v2/models/m/versions/9/infer", "/grpc/ModelInfer")} == {(200, "gateway 2")}
    haproxy.apply(table(2, backends["a"].replica, backends["b"].replica))
    assert {ask(haproxy) for _ in range(8)} == {(200, "a 2"), (200, "b 2")}
    haproxy.apply(table(3))
    assert ask(haproxy) == (200, "gateway 2")
    assert ask(haproxy, body=b"z" * 3_000_000) == (200, "gateway 3000000")


def test_a_replica_that_leaves_finishes_what_it_has(haproxy: Haproxy, backends: dict[str, Backend]) -> None:
    haproxy.apply(table(1, backends["a"].replica))
    answers: list[tuple[int, str]] = []
    slow = threading.Thread(target=lambda: answers.append(ask(haproxy, x_slow="1")))
    slow.start()
    assert backends["a"].has_come.wait(10)
    haproxy.apply(table(2, backends["b"].replica))
    assert {ask(haproxy) for _ in range(4)} == {(200, "b 2")}
    backends["a"].may_go_on.set()
    slow.join(10)
    assert answers == [(200, "a 2")]


def test_a_replica_that_is_gone_before_anybody_said_so_costs_no_request(haproxy: Haproxy, backends: dict[str, Backend]) -> None:
    with bind("127.0.0.1") as probe:
        nobody = ReplicaAt(ReplicaId("gone"), "127.0.0.1", probe.getsockname()[1])
    haproxy.apply(table(1, nobody, backends["b"].replica))
    assert {ask(haproxy) for _ in range(6)} == {(200, "b 2")}
    haproxy.apply(table(2, nobody))
    status, body = ask(haproxy)
    assert status == 503 and "no replica" in body
    haproxy.apply(table(3, backends["a"].replica, backends["b"].replica))
    backends["a"].stop()
    assert {ask(haproxy) for _ in range(6)} == {(200, "b 2")}


def test_a_replica_that_has_left_gets_nothing_that_is_meant_for_the_next(haproxy: Haproxy, backends: dict[str, Backend]) -> None:
    for number in range(40):  # more than there are places for doors: the rest comes by its port
        name = "ab"[number % 2]
        replica = replace(backends[name].replica, id=ReplicaId(str(number)), port=backends[name].server.port)
        haproxy.apply(table(number + 1, replica))
        assert ask(haproxy) == (200, f"{name} 2")


def test_a_haproxy_that_died_is_started_anew_with_all_it_knew(haproxy: Haproxy, backends: dict[str, Backend]) -> None:
    haproxy.apply(table(1, backends["a"].replica))
    assert haproxy.pid is not None
    os.kill(haproxy.pid, signal.SIGKILL)
    haproxy.apply(table(2, backends["a"].replica, backends["b"].replica))
    assert {ask(haproxy) for _ in range(8)} == {(200, "a 2"), (200, "b 2")}


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    binary = haproxy_binary()
    assert binary is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeFault) as caught:
            Haproxy(binary, HaproxySettings(tmp_path, "127.0.0.1", port, "127.0.0.1:9")).start()
    assert caught.value.code == "port_taken"
