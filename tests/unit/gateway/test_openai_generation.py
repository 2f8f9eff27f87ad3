"""OpenAI's completions and chats."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve_apps.gateway.gateway import Gateway
from tests.unit.gateway.in_memory import gateway
from tests.unit.gateway.text_models import Rote, Trigrams
from tests.unit.oip.models import shout
from tests.unit.oip.server import Reply, call

USER = {"role": "user", "content": "one two three"}


def asked(made: Gateway, path: str, **body: Any) -> Reply:
    return asyncio.run(call(made.app, "POST", f"/v1/{path}", json.dumps({"model": "rote", **body}).encode(), {}))


def events(reply: Reply) -> list[Any]:
    assert reply.headers["content-type"].startswith("text/event-stream")
    *lines, done, rest = reply.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_completion_is_whole_and_tells_its_tokens() -> None:
    made, _ = gateway(Rote())
    told = asked(made, "completions", prompt="one two", max_tokens=5).json
    assert told["object"] == "text_completion"
    assert [(choice["text"], choice["finish_reason"]) for choice in told["choices"]] == [("one two ", "stop")]
    assert told["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


def test_several_prompts_are_several_choices() -> None:
    made, _ = gateway(Rote())
    told = asked(made, "completions", prompt=["one", "two three"]).json
    assert [(choice["index"], choice["text"]) for choice in told["choices"]] == [(0, "one "), (1, "two three ")]
    assert told["usage"]["total_tokens"] == 6


def test_a_chat_is_answered_by_a_message() -> None:
    made, _ = gateway(Rote())
    told = asked(made, "chat/completions", messages=[USER], max_completion_tokens=2).json
    assert told["object"] == "chat.completion"
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": "one two ", "refusal": None}
    assert choice["finish_reason"] == "length"


def test_a_chat_streams_piece_by_piece() -> None:
    made, _ = gateway(Rote())
    first, *pieces, last, told = events(
        asked(made, "chat/completions", messages=[USER], stream=True, stream_options={"include_usage": True})
    )
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [piece["choices"][0]["delta"] for piece in pieces] == [{"content": word} for word in ("one ", "two ", "three ")]
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (told["choices"], told["usage"]["total_tokens"]) == ([], 6)
    assert {event["object"] for event in (first, *pieces, last)} == {"chat.completion.chunk"}
    assert len({event["id"] for event in (first, *pieces, last, told)}) == 1


def test_completions_stream_all_their_choices() -> None:
    made, _ = gateway(Rote())
    told = events(asked(made, "completions", prompt=["a b", "c"], stream=True))
    said = [(event["choices"][0]["index"], event["choices"][0]["text"]) for event in told]
    assert said == [(0, "a "), (0, "b "), (0, ""), (1, "c "), (1, "")]


def test_a_model_that_gives_one_answer_streams_it_as_one_piece() -> None:
    made, _ = gateway(shout())
    told = events(asked(made, "chat/completions", model="shout", messages=[{"role": "user", "content": "hi"}], stream=True))
    assert [event["choices"][0]["delta"].get("content") for event in told] == ["", "HI", None]


def test_what_fails_before_the_first_piece_has_a_status_and_later_is_an_event() -> None:
    made, _ = gateway(Rote())
    reply = asked(made, "completions", prompt="fail", stream=True)
    assert (reply.status, reply.json["error"]["message"]) == (500, "it was told to fail")
    reply = asked(made, "completions", prompt="one fail", stream=True)
    assert reply.status == 200
    assert json.loads(reply.chunks[-1].removeprefix(b"data: "))["error"]["message"] == "it was told to fail"
    assert b"[DONE]" not in reply.body


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([USER], "one two three"),
        ([{"role": "system", "content": "be"}, USER], "system: be\nuser: one two three\nassistant:"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "ab"),
    ],
)
def test_messages_become_the_models_text(messages: list[Any], prompt: str) -> None:
    model = Rote()
    made, _ = gateway(model)
    assert asked(made, "chat/completions", messages=messages).status == 200
    assert model.seen[0].inputs[0].array[0].decode() == prompt


def test_a_model_that_takes_messages_gets_them_as_json() -> None:
    model = Rote(text_input="messages")
    made, _ = gateway(model)
    asked(made, "chat/completions", messages=[USER])
    assert json.loads(model.seen[0].inputs[0].array[0]) == [USER]


def test_sampling_reaches_the_model_as_parameters() -> None:
    model = Rote()
    made, _ = gateway(model)
    asked(made, "completions", prompt="a", temperature=0.5, top_p=1, seed=7, stop=["x", "y"], max_tokens=9, user="me", unknown=1)
    assert model.seen[0].parameters == {"temperature": 0.5, "top_p": 1.0, "seed": 7, "stop": '["x","y"]', "max_tokens": 9}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0]"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [USER], "n": 2}, "n"),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [USER], "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [USER], "temperature": 3}, "temperature"),
        ({"messages": [USER], "temperature": True}, "temperature"),
        ({"messages": [USER], "max_tokens": -1}, "max_tokens"),
        ({"messages": [USER], "stream": "yes"}, "stream"),
        ({"messages": [USER], "seed": 1.5}, "seed"),
        ({"messages": [USER], "model": "embed"}, "model"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(body: dict[str, Any], param: str) -> None:
    made, _ = gateway(Rote(), Trigrams())
    reply = asked(made, "chat/completions", **body)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
