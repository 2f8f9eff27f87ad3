"""The app around the handlers: routes, health, descriptions, who may ask, what is recorded, how errors look."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fabric.api.tokens import Principal
from fabric.errors import ModelError, RejectedError, RuntimeFault, UserError
from serve_apps.oip.hooks import IndexEntry
from tests.unit.oip import models
from tests.unit.oip.server import Server, call

X = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
INFER = "/v2/models/vector-fp32/infer"


@pytest.fixture
def server() -> Server:
    return Server([models.vector(), models.add()])


def test_health_is_answered_as_the_protocol_has_it(server: Server) -> None:
    assert (server.get("/v2/health/live").status, server.get("/v2/health/live").json) == (200, {"live": True})
    assert (server.get("/v2/health/ready").status, server.get("/v2/health/ready").json) == (200, {"ready": True})
    assert server.get("/v2/models/add/ready").json == {"name": "add", "ready": True}
    assert server.get("/add/healthz").json == {"status": "ok"}


def test_a_model_that_is_not_ready_makes_the_server_not_ready(server: Server) -> None:
    asyncio.run(server.plane.model("add").close())
    assert server.get("/v2/health/live").status == 200
    assert (server.get("/v2/health/ready").status, server.get("/v2/health/ready").json) == (400, {"ready": False})
    assert (server.get("/v2/models/add/ready").status, server.get("/v2/models/nope/ready").status) == (400, 400)
    assert server.get("/v2/models/vector-fp32/ready").status == 200
    assert server.get("/add/healthz").status == 503
    assert server.post("/v2/models/add/infer", X).status == 503


def test_a_server_that_drains_is_not_ready_and_still_answers(server: Server) -> None:
    server.plane.is_draining = True
    assert server.get("/v2/health/ready").status == 400
    assert server.post(INFER, X).status == 200


def test_the_server_and_its_models_describe_themselves(server: Server) -> None:
    assert server.get("/v2").json["name"] == "tierfabric"
    assert "binary_tensor_data" in server.get("/v2").json["extensions"]
    assert server.get("/v2/models/vector-fp32").json == {
        "name": "vector-fp32",
        "versions": ["1"],
        "platform": "python_test",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    config = server.get("/v2/models/add/versions/1/config").json
    assert (config["max_batch_size"], config["input"][0]) == (8, {"name": "a", "data_type": "TYPE_FP32", "dims": [4]})


def test_statistics_are_of_one_model_or_of_all(server: Server) -> None:
    server.post(INFER, X)
    (stats,) = server.get("/v2/models/vector-fp32/stats").json["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("vector-fp32", "1", 1)
    assert len(server.get("/v2/models/stats").json["model_stats"]) == 2
    assert server.get("/v2/models/nope/stats").status == 400


def test_head_has_the_headers_of_get_and_no_body(server: Server) -> None:
    reply = server.call("HEAD", "/v2", b"", {})
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) == len(server.get("/v2").body)


NOWHERE = [
    "/", "/v1/models", "/v2/", "//v2", "/v2/nope", "/v2/models", "/v2/models/", "/v2/models//infer", "/v2/models/add/nope",
    "/v2/models/add/versions", "/v2/models/add/versions//infer", "/v2/models/add/versions/1/infer/more", "/add", "/add/nope",
    "/v2/repository", "/v2/repository/models/add/delete", "/grpc/Nope", "/" + "a/" * 5000, "/v2/models/%00/infer",
]  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_nowhere_is_not_found(server: Server, path: str) -> None:
    assert server.call("PUT", path, b"", {}).status in (404, 405)
    assert isinstance(server.call("PUT", path, b"", {}).json["error"], str)


@pytest.mark.parametrize(
    ("path", "allowed"), [(INFER, "POST"), ("/v2", "GET, HEAD"), ("/add/predict", "POST"), ("/v2/health/live", "GET, HEAD")]
)
def test_another_method_is_refused_with_those_that_are_allowed(server: Server, path: str, allowed: str) -> None:
    reply = server.call("DELETE", path, b"", {})
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


ERRORS: list[tuple[Exception, int, str, str | None]] = [
    (ModelError("no", code="wrong_shape"), 400, "wrong_shape", None),
    (ModelError("no", code="inference_failed"), 500, "inference_failed", None),
    (ModelError("no"), 500, "model_error", None),
    (ModelError("no", code="predict_failed"), 500, "predict_failed", None),
    (UserError("no"), 400, "bad_request", None),
    (RejectedError("no", code="queue_full", retry_after_s=2.2), 429, "queue_full", "3"),
    (RejectedError("no", code="queue_full"), 429, "queue_full", "1"),
    (RejectedError("no", code="unloading", retryable=True), 503, "unloading", "1"),
    (RejectedError("no", code="deadline_exceeded"), 504, "deadline_exceeded", None),
    (RejectedError("no", code="forbidden"), 403, "forbidden", None),
    (RuntimeFault("no"), 503, "runtime_fault", "1"),
    (ValueError("no"), 500, "inference_failed", None),
]


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), ERRORS)
def test_every_error_has_its_status(error: Exception, status: int, code: str, retry_after: str | None) -> None:
    reply = Server([models.broken(error)]).post("/v2/models/broken/infer", X)
    assert (reply.status, reply.json["code"], reply.headers.get("retry-after")) == (status, code, retry_after)
    assert "no" in reply.json["error"]


class Books:
    """Who may ask, and what was recorded."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def authorize(self, headers: Any) -> Principal:
        if headers.get(b"authorization") != b"Bearer good":
            raise RejectedError("who are you?", code="unauthenticated")
        return Principal("ann", frozenset({"read"}))

    def record(self, **usage: Any) -> None:
        self.records.append(usage)


def test_nothing_but_health_is_answered_to_a_stranger() -> None:
    books = Books()
    server = Server([models.vector()], authorize=books.authorize, record=books.record)
    for path in ("/v2/health/live", "/v2/health/ready", "/vector-fp32/healthz"):
        assert server.get(path).status == 200
    for path in ("/v2", "/v2/models/vector-fp32", "/v2/models/vector-fp32/ready", "/v2/models/stats"):
        assert (server.get(path).status, server.get(path).json["code"]) == (401, "unauthenticated")
        assert server.get(path).headers["www-authenticate"] == "Bearer"
    assert server.post("/grpc/ModelInfer").headers["grpc-status"] == "16"
    assert server.post("/vector-fp32/predict", {}).json["error"]["code"] == "unauthenticated"
    assert books.records == []


def test_each_request_leaves_one_record() -> None:
    books = Books()
    model = models.add()
    server = Server([model], authorize=books.authorize, record=books.record)
    rows = [{"name": name, "datatype": "FP32", "shape": [3, 4], "data": list(range(12))} for name in ("a", "b")]
    good = {"authorization": "Bearer good"}
    assert server.post("/v2/models/add/infer", {"inputs": rows}, x_request_id="mine", **good).headers["x-request-id"] == "mine"
    server.post("/v2/models/add/infer", {"inputs": []}, **good)
    server.post("/v2/models/add/infer", b"no", **good)
    server.get("/v2/models/nope", **good)
    kept = [(record["model"], record["version"], record["units"], record["status"]) for record in books.records]
    assert kept == [("add", "1", 3, 200), ("add", "", 0, 400), ("add", "", 0, 400), ("nope", "", 0, 404)]
    assert books.records[0]["request_id"] == "mine" == model.seen[0].request_id
    assert all(record["principal"].user == "ann" and record["duration_s"] >= 0 and record["request_id"] for record in books.records)
    assert model.seen[0].principal == books.records[0]["principal"]


def test_a_caller_that_leaves_before_its_body_is_whole_is_recorded_and_not_answered() -> None:
    books = Books()
    server = Server([models.vector()], record=books.record)
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(server.app({"type": "http", "method": "POST", "path": INFER, "headers": []}, receive, send))
    assert (sent, [record["status"] for record in books.records]) == ([], [499])


class Shelf:
    """A repository that loads and unloads by adding to a list."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    async def index(self, *, only_ready: bool) -> list[IndexEntry]:
        return [IndexEntry("add", "1", "READY")] + ([] if only_ready else [IndexEntry("old", "4", "UNAVAILABLE", "unloaded")])

    async def load(self, name: str, parameters: Any) -> None:
        self.done.append(("load", name, dict(parameters)))

    async def unload(self, name: str, parameters: Any) -> None:
        self.done.append(("unload", name, dict(parameters)))


def test_the_repository_is_listed_and_changed_through_a_port() -> None:
    shelf = Shelf()
    server = Server([], repository=shelf)
    assert [entry["name"] for entry in server.post("/v2/repository/index").json] == ["add", "old"]
    assert server.post("/v2/repository/index", {"ready": True}).json == [{"name": "add", "version": "1", "state": "READY", "reason": ""}]
    assert server.post("/v2/repository/index", {"ready": 1}).status == 400
    assert server.post("/v2/repository/models/m/load", {"parameters": {"config": "{}"}}).status == 200
    assert server.post("/v2/repository/models/m/unload", {"parameters": {"unload_dependents": True}}).status == 200
    assert shelf.done == [("load", "m", {"config": "{}"}), ("unload", "m", {"unload_dependents": True})]


def test_a_replica_alone_lists_what_it_holds_and_loads_nothing_else(server: Server) -> None:
    assert [entry["name"] for entry in server.post("/v2/repository/index").json] == ["add", "vector-fp32"]
    assert [server.post(f"/v2/repository/models/{name}/load").status for name in ("add", "nope")] == [200, 404]
    assert server.post("/v2/repository/models/add/load", {"parameters": {"config": "{}"}}).status == 501
    assert [server.post(f"/v2/repository/models/{name}/unload").status for name in ("add", "nope")] == [501, 200]


def test_startup_and_shutdown_are_acknowledged(server: Server) -> None:
    stages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return stages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(server.app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_many_requests_at_once_do_not_mix() -> None:
    server = Server([models.vector()])

    async def ask(value: int) -> list[float]:
        body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[%d]}]}' % value
        return (await call(server.app, "POST", INFER, body, {})).json["outputs"][0]["data"]  # type: ignore[no-any-return]

    async def all_of_them() -> list[list[float]]:
        return await asyncio.gather(*(ask(value) for value in range(100)))

    assert asyncio.run(all_of_them()) == [[float(value)] for value in range(100)]
