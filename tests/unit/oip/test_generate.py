"""generate, its stream, and the plain dialect."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy
import pytest

from fabric.errors import ModelError, RejectedError, UserError
from tests.unit.oip import models
from tests.unit.oip.server import Server, call


@pytest.fixture
def server() -> Server:
    return Server(models.everything())


def events(body: bytes) -> list[Any]:
    assert body.endswith(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in body.strip().split(b"\n\n")]


def test_text_in_text_out(server: Server) -> None:
    reply = server.post("/v2/models/shout/generate", {"id": "7", "text_input": "hey"})
    assert reply.json == {"id": "7", "model_name": "shout", "model_version": "1", "text_output": "HEY"}
    assert "id" not in server.post("/v2/models/shout/versions/1/generate", {"text_input": "hey"}).json


def test_members_that_name_inputs_are_inputs_and_all_others_parameters() -> None:
    model = models.Small("m", "x FP32 -1; y INT32 1", "z FP32 -1", lambda a: {"z": a["x"] * a["y"].astype("f4")})
    reply = Server([model]).post(
        "/v2/models/m/generate", {"x": [1, 2], "temperature": 0.5, "parameters": {"y": 3, "stop": "x", "timeout": 10**9}}
    )
    assert reply.json["z"] == [3.0, 6.0]
    assert dict(model.seen[0].parameters) == {"temperature": 0.5, "stop": "x"}
    assert model.seen[0].deadline_s < math.inf


def test_each_answer_is_an_event(server: Server) -> None:
    reply = server.post("/v2/models/spell/generate_stream", {"text_input": "hé"})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [event["text_output"] for event in events(reply.body)] == ["h", "é"]
    assert len(reply.chunks) == 2


def test_a_model_of_one_answer_streams_one_event(server: Server) -> None:
    assert [event["text_output"] for event in events(server.post("/v2/models/shout/generate_stream", {"text_input": "a"}).body)] == ["A"]


def test_an_error_before_the_first_answer_has_its_status(server: Server) -> None:
    reply = server.post("/v2/models/spell/generate_stream", {"text_input": "!a"})
    assert (reply.status, reply.json["code"]) == (500, "inference_failed")
    assert server.post("/v2/models/spell/generate_stream", {}).json["code"] == "missing_input"
    assert server.post("/v2/models/nope/generate_stream", {}).status == 404


def test_an_error_after_it_is_an_event(server: Server) -> None:
    reply = server.post("/v2/models/spell/generate_stream", {"text_input": "a!"})
    assert reply.status == 200
    assert [event.get("error") for event in events(reply.body)] == [None, "no shouting"]


def test_the_texts_of_a_stream_are_joined_where_one_answer_is_asked_for(server: Server) -> None:
    assert server.post("/v2/models/spell/generate", {"text_input": "abc"}).json["text_output"] == "abc"


def test_several_answers_that_are_no_text_are_refused(server: Server) -> None:
    assert server.post("/v2/models/count/generate", {"n": 1}).json["i"] == 0
    for n in (0, 3):
        reply = server.post("/v2/models/count/generate", {"n": n})
        assert (reply.status, reply.json["code"]) == (400, "several_answers")


WRONG: list[tuple[str, Any, str]] = [
    ("shout", [], "bad_json"),
    ("shout", {"text_input": 1}, "wrong_value"),
    ("shout", {"text_input": ["a", "b"]}, "wrong_shape"),
    ("shout", {"text_input": [["a"]]}, "wrong_shape"),
    ("shout", {"text_input": []}, "wrong_shape"),
    ("shout", {"text_input": "a", "text": "b"}, "duplicate_input"),
    ("shout", {"text_input": "a", "more": {"x": 1}}, "bad_parameter"),
    ("shout", {"text_input": "a", "parameters": [1]}, "bad_parameter"),
    ("shout", {"text_input": "a", "id": 1}, "bad_request"),
    ("identity-fp16", {"x": [1.0]}, "no_json_form"),
]


@pytest.mark.parametrize(("model", "document", "code"), WRONG)
def test_a_wrong_document_is_refused(server: Server, model: str, document: Any, code: str) -> None:
    for verb in ("generate", "generate_stream"):
        reply = server.post(f"/v2/models/{model}/{verb}", document)
        assert (reply.status, reply.json["code"]) == (400, code)


def test_a_stream_ends_when_its_caller_goes_away() -> None:
    closed: list[int] = []

    class Endless(models.Small):
        async def stream(self, request: Any) -> Any:
            number = 0
            try:
                while True:
                    await asyncio.sleep(0)
                    yield self._answer(request, {"i": numpy.array([number], "<i4")})
                    number += 1
            finally:
                closed.append(number)

    server = Server([Endless("endless", "", "i INT32 1", dict, is_streaming=True)])
    reply = asyncio.run(call(server.app, "POST", "/v2/models/endless/generate_stream", b"{}", {}, leave_after=3))
    assert (len(closed), reply.status) == (1, 200)
    assert closed[0] < 10


class Service(models.Small):
    """A service that takes the arguments of `predict` as they are."""

    def __init__(self, predict: Any) -> None:
        super().__init__("service", "", "", dict)
        self.predict = predict

    async def call(self, arguments: Mapping[str, Any], *, priority: int = 0, deadline_s: float = math.inf) -> Any:
        if "who" not in arguments:
            raise UserError("predict needs 'who'", code="missing_argument", hint="it takes: who")
        return self.predict(arguments["who"])


def raising(error: Exception) -> Any:
    def predict(_who: Any) -> Any:
        raise error

    return predict


RESULTS: list[tuple[Any, Any]] = [
    ("é", "é"),
    (numpy.arange(4, dtype="<f4").reshape(2, 2), [[0.0, 1.0], [2.0, 3.0]]),
    (numpy.arange(4)[::2], [0, 2]),
    (numpy.float64(1.5), 1.5),
    ([math.nan, math.inf], [None, None]),
    ({"a": (1, None), 2: b"x"}, {"a": [1, None], "2": "x"}),
    ({1}, [1]),
]


@pytest.mark.parametrize(("result", "shown"), RESULTS)
def test_what_predict_returns_comes_back_as_json(result: Any, shown: Any) -> None:
    reply = Server([Service(lambda _: result)]).post("/service/predict", {"who": 1})
    assert (reply.status, reply.json) == (200, {"result": shown})


PLAIN_ERRORS: list[tuple[Any, Any, int, str]] = [
    (len, b"{", 400, "bad_json"),
    (len, [], 400, "bad_json"),
    (len, {}, 400, "missing_argument"),
    (raising(ValueError("x")), {"who": 1}, 500, "predict_failed"),
    (raising(ModelError("x", code="odd")), {"who": 1}, 500, "odd"),
    (raising(ModelError("x", code="wrong_shape")), {"who": 1}, 400, "wrong_shape"),
    (raising(RejectedError("x", code="queue_full")), {"who": 1}, 429, "queue_full"),
    (raising(RejectedError("x", code="deadline_exceeded")), {"who": 1}, 504, "deadline_exceeded"),
    (lambda _: object(), {"who": 1}, 500, "result_not_json"),
    (lambda _: 2**70, {"who": 1}, 500, "result_not_json"),
]


@pytest.mark.parametrize(("predict", "document", "status", "code"), PLAIN_ERRORS)
def test_the_plain_dialect_has_its_own_errors(predict: Any, document: Any, status: int, code: str) -> None:
    reply = Server([Service(predict)]).post("/service/predict", document)
    assert (reply.status, reply.json["error"]["code"], set(reply.json["error"])) == (status, code, {"code", "message", "hint"})
    assert ("retry-after" in reply.headers) == (status == 429)


def test_a_model_without_a_service_takes_its_inputs_by_name(server: Server) -> None:
    assert server.post("/add/predict", {"a": [[1, 2, 3, 4]], "b": [[1, 1, 1, 1]]}).json == {
        "result": {"sum": [[2.0, 3.0, 4.0, 5.0]], "difference": [[0.0, 1.0, 2.0, 3.0]]}
    }
    assert server.post("/shout/predict", {"text": ["hey"]}).json == {"result": ["HEY"]}
    assert server.post("/shout/predict", {"texts": ["hey"]}).json["error"]["hint"] == "did you mean text?"
    assert server.post("/nope/predict", {}).status == 404
