"""OpenAI's embeddings and models."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy
import pytest

from fabric.errors import RejectedError
from serve_apps.gateway.gateway import Gateway
from tests.unit.gateway.in_memory import WOKEN, Waker, gateway
from tests.unit.gateway.text_models import Rote, Trigrams, embedded
from tests.unit.oip.models import Small, add
from tests.unit.oip.server import Reply, call

TEXTS = ["one", "two words", "three"]


def asked(made: Gateway, **body: Any) -> Reply:
    return asyncio.run(call(made.app, "POST", "/v1/embeddings", json.dumps({"model": "embed", **body}).encode(), {}))


def vectors(reply: Reply) -> list[Any]:
    assert reply.status == 200, reply.body
    assert [item["index"] for item in reply.json["data"]] == list(range(len(reply.json["data"])))
    return [item["embedding"] for item in reply.json["data"]]


def test_one_text_or_a_list_of_them_become_vectors_and_tokens_are_told() -> None:
    made, _ = gateway(Trigrams())
    assert numpy.allclose(vectors(asked(made, input="one")), [embedded("one")])
    reply = asked(made, input=TEXTS)
    assert numpy.allclose(vectors(reply), [embedded(text) for text in TEXTS])
    assert reply.json["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert (reply.json["object"], reply.json["model"], reply.json["data"][0]["object"]) == ("list", "embed", "embedding")


@pytest.mark.parametrize(("shape", "max_batch", "num_requests"), [("-1", 0, 1), ("-1 1", 8, 1), ("-1 1", 2, 2), ("1", 0, 3), ("", 0, 3)])
def test_texts_are_put_into_as_few_requests_as_the_model_allows(shape: str, max_batch: int, num_requests: int) -> None:
    model = Trigrams(shape=shape, max_batch_size=max_batch)
    made, _ = gateway(model)
    assert numpy.allclose(vectors(asked(made, input=TEXTS)), [embedded(text) for text in TEXTS])
    assert len(model.seen) == num_requests


def test_base64_holds_the_same_numbers() -> None:
    made, _ = gateway(Trigrams())
    (text,) = vectors(asked(made, input="one", encoding_format="base64"))
    assert numpy.array_equal(numpy.frombuffer(base64.b64decode(text), "<f4"), embedded("one"))


def test_fewer_dimensions_are_the_first_ones_at_length_one() -> None:
    made, _ = gateway(Trigrams())
    (vector,) = vectors(asked(made, input="some longer text", dimensions=8))
    expected = embedded("some longer text")[:8]
    assert numpy.allclose(vector, expected / numpy.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": [1, 2]}, "input", "tokens_not_supported"),
        ({"input": [[1], [2]]}, "input", "tokens_not_supported"),
        ({"input": ["a", None]}, "input", "invalid_value"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"input": "a", "dimensions": 0}, "dimensions", "invalid_value"),
        ({"input": "a", "dimensions": 33}, "dimensions", "invalid_value"),
        ({"input": "a", "model": "add"}, "model", "unsupported_model"),
        ({"input": "a", "model": None}, "model", "invalid_value"),
    ],
)
def test_what_is_wrong_is_named_in_openais_form(body: dict[str, Any], param: str, code: str) -> None:
    made, _ = gateway(Trigrams(), add())
    reply = asked(made, **body)
    assert reply.status == 400
    error = reply.json["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"]


def test_an_unknown_model_is_not_found() -> None:
    made, _ = gateway(Trigrams())
    for reply in (asked(made, model="embet", input="a"), asyncio.run(call(made.app, "GET", "/v1/models/embet", b"", {}))):
        assert reply.status == 404
        assert reply.json["error"]["code"] == "model_not_found"
        assert "did you mean embed?" in reply.json["error"]["message"]


def test_a_model_that_fails_is_an_error_of_the_server() -> None:
    def fail(arrays: Any) -> Any:
        raise RuntimeError("no luck")

    made, _ = gateway(Small("embed", "text BYTES -1", "v FP32 -1 4", fail, text_input="text", kind="embeddings"))
    reply = asked(made, input="a")
    assert (reply.status, reply.json["error"]["type"]) == (500, "server_error")
    assert "no luck" in reply.json["error"]["message"]


def test_a_full_queue_is_a_rate_limit_with_a_time_to_come_back() -> None:
    def full(arrays: Any) -> Any:
        raise RejectedError("full", code="queue_full", retryable=True, retry_after_s=3.0)

    made, _ = gateway(Small("embed", "text BYTES -1", "v FP32 -1 4", full, text_input="text", kind="embeddings"))
    reply = asked(made, input="a")
    assert (reply.status, reply.json["error"]["type"], reply.headers["retry-after"]) == (429, "rate_limit_error", "3")


def test_models_are_listed_and_shown() -> None:
    made, _ = gateway(Trigrams(), Rote())
    listed = asyncio.run(call(made.app, "GET", "/v1/models", b"", {})).json
    assert [model["id"] for model in listed["data"]] == ["embed", "rote"]
    assert asyncio.run(call(made.app, "GET", "/v1/models/rote", b"", {})).json == listed["data"][1]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/embeddings", 405), ("POST", "/v1/models", 405), ("GET", "/v1/files", 404)]
)
def test_other_routes_are_refused_in_openais_form(method: str, path: str, status: int) -> None:
    made, _ = gateway(Trigrams())
    reply = asyncio.run(call(made.app, method, path, b"", {}))
    assert (reply.status, "message" in reply.json["error"]) == (status, True)


def test_a_token_is_asked_for_and_passed_on() -> None:
    def check(headers: Any) -> None:
        if headers.get(b"authorization") != b"Bearer good":
            raise RejectedError("a token is needed", code="unauthenticated")

    made, pool = gateway(Trigrams(), authorize=check)
    assert asked(made, input="a").json["error"]["code"] == "invalid_api_key"
    body = json.dumps({"model": "embed", "input": "a"}).encode()
    assert asyncio.run(call(made.app, "POST", "/v1/embeddings", body, {"authorization": "Bearer good"})).status == 200
    ((request,),) = pool.seen.values()
    assert request.headers["authorization"] == "Bearer good"


def test_a_sleeping_model_is_woken() -> None:
    waker = Waker(WOKEN)
    made, _ = gateway(sleeping=[Trigrams()], waker=waker)
    assert asked(made, input="a").status == 200
    assert waker.woken == [("embed", "1")]
