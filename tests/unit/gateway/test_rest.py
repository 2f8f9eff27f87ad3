"""The gateway's routes over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fabric.errors import RejectedError
from serve_apps.gateway.gateway import Gateway
from tests.unit.gateway.in_memory import WOKEN, Waker, gateway
from tests.unit.oip.models import add, shout, spell
from tests.unit.oip.server import Reply, call

INFER = {"inputs": [{"name": name, "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} for name in "ab"]}


def got(made: Gateway, path: str, **headers: str) -> Reply:
    return asyncio.run(call(made.app, "GET", path, b"", headers))


def posted(made: Gateway, path: str, body: Any = b"", **headers: str) -> Reply:
    return asyncio.run(call(made.app, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers))


def test_the_server_tells_of_itself() -> None:
    made, _ = gateway(add())
    assert got(made, "/v2").json["name"] == "here"
    assert got(made, "/v2/health/live").json == {"live": True}
    assert got(made, "/v2/health/ready").json == {"ready": True}
    made.fleet.is_draining = True
    assert got(made, "/v2/health/ready").status == 400


def test_the_index_has_all_models_and_their_states() -> None:
    made, _ = gateway(add(), sleeping=[shout()])
    index = posted(made, "/v2/repository/index").json
    assert [(entry["name"], entry["state"]) for entry in index] == [("add", "READY"), ("shout", "READY")]
    assert "wakes" in index[1]["reason"]
    assert posted(made, "/v2/repository/index", {"ready": "yes"}).status == 400


def test_loading_is_refused_where_there_is_no_repository() -> None:
    made, _ = gateway(add())
    reply = posted(made, "/v2/repository/models/add/load")
    assert reply.status == 501
    assert "fabric model deploy" in reply.json["hint"]


def test_statistics_are_summed_over_replicas() -> None:
    model = add()
    made, pool = gateway(model, num_replicas=2)
    assert posted(made, "/v2/models/add/infer", INFER).status == 200
    (told,) = got(made, "/v2/models/stats", authorization="Bearer x").json["model_stats"]
    # Both replicas hold the same model here, and each tells of its one request.
    assert told["inference_count"] == 2
    assert got(made, "/v2/models/add/stats").json["model_stats"][0]["name"] == "add"
    assert got(made, "/v2/models/nobody/stats").status == 404
    asked = [request for seen in pool.seen.values() for request in seen if request.path.endswith("/stats")]
    assert asked[0].headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("path", ["/v2/models/add/infer", "/v2/models/add/versions/1/infer"])
def test_inference_is_passed_on_with_its_headers_and_comes_back_whole(path: str) -> None:
    made, pool = gateway(add())
    reply = posted(made, path, INFER, authorization="Bearer x", x_request_id="42")
    assert reply.json["outputs"][0]["data"] == [2, 4, 6, 8]
    assert reply.headers["x-request-id"] == "42"
    ((request,),) = pool.seen.values()
    assert (request.path, request.headers["authorization"]) == (path, "Bearer x")


def test_a_large_body_is_passed_on_in_pieces() -> None:
    made, _ = gateway(add())
    rows = 20_000
    wide = {"inputs": [{"name": name, "datatype": "FP32", "shape": [rows, 4], "data": [1.5] * 4 * rows} for name in "ab"]}
    reply = posted(made, "/v2/models/add/infer", wide)
    assert reply.status == 200
    assert reply.json["outputs"][0]["shape"] == [rows, 4]


def test_the_plain_dialect_and_streams_are_passed_on() -> None:
    made, _ = gateway(spell(), shout())
    assert posted(made, "/shout/predict", {"text": ["a"]}).status == 200
    reply = posted(made, "/v2/models/spell/generate_stream", {"text_input": "abc"})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.count(b"data: ") == 3


def test_a_replicas_error_is_the_callers() -> None:
    made, _ = gateway(add())
    reply = posted(made, "/v2/models/add/infer", {"inputs": []})
    assert (reply.status, reply.json["code"]) == (400, "missing_input")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 400),
        ("GET", "/nobody/healthz", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/add/versions/9", 404),
        ("GET", "/nowhere", 404),
        ("POST", "/grpc/ModelInfer", 404),
        ("DELETE", "/v2/models/add", 405),
    ],
)
def test_what_is_not_there_is_told_in_the_protocols_form(method: str, path: str, status: int) -> None:
    made, _ = gateway(add())
    reply = asyncio.run(call(made.app, method, path, b"", {}))
    assert reply.status == status
    assert "error" in reply.json


def test_a_sleeping_model_tells_of_itself_without_being_woken() -> None:
    waker = Waker(WOKEN)
    made, _ = gateway(sleeping=[add()], waker=waker)
    assert got(made, "/v2/models/add").json["inputs"][0]["name"] == "a"
    assert got(made, "/v2/models/add/ready").json == {"name": "add", "ready": True}
    assert got(made, "/v2/models/add/config").json["max_batch_size"] == 8
    assert got(made, "/add/healthz").status == 200
    assert waker.woken == []


def test_a_request_wakes_a_sleeping_model_and_is_answered() -> None:
    waker = Waker(WOKEN)
    made, pool = gateway(sleeping=[add()], waker=waker)
    assert posted(made, "/v2/models/add/infer", INFER).status == 200
    assert waker.woken == [("add", "1")]
    assert list(pool.seen) == [WOKEN]


def test_what_cannot_be_woken_is_refused_with_a_time_to_come_back() -> None:
    made, _ = gateway(sleeping=[add()])
    reply = posted(made, "/v2/models/add/infer", INFER)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


def test_who_asks_is_asked_for_except_for_health_and_the_document() -> None:
    def nobody(headers: Any) -> None:
        raise RejectedError("a token is needed", code="unauthenticated")

    made, _ = gateway(add(), authorize=nobody)
    closed = ("/v2", "/v2/models/stats", "/metrics", "/v1/models")
    assert {path: got(made, path).status for path in closed} == dict.fromkeys(closed, 401)
    for path in ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
        assert got(made, path).status == 200


def test_metrics_are_the_gateways_and_those_of_replicas() -> None:
    made, pool = gateway(add())
    posted(made, "/v2/models/add/infer", INFER)
    posted(made, "/v2/models/nobody/infer", INFER)
    (address,) = made.routes.addresses()

    async def counts(scope: Any, receive: Any, send: Any) -> None:
        text = b"# HELP own_total Requests.\n# TYPE own_total counter\nown_total 3.0\n"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})

    pool.apps[address] = counts
    text = got(made, "/metrics").body.decode()
    assert 'fabric_gateway_requests_total{code="200",model="add",protocol="rest",version="1"} 1.0' in text
    assert 'fabric_gateway_requests_total{code="404",model="none",protocol="rest",version="none"} 1.0' in text
    assert 'fabric_gateway_replicas{model="add",version="1"} 1.0' in text
    assert f'own_total{{replica="{address}"}} 3.0' in text
    assert "nobody" not in text


def test_head_has_the_length_and_no_body() -> None:
    made, _ = gateway(add())
    for path in ("/v2", "/v2/models/add"):
        reply = asyncio.run(call(made.app, "HEAD", path, b"", {}))
        assert (reply.status, reply.body) == (200, b"")
        assert int(reply.headers["content-length"]) > 0
