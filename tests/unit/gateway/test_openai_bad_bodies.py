"""Whatever a body of OpenAI's dialect holds, it is answered, or refused in OpenAI's form: never an error of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.gateway.in_memory import gateway
from tests.unit.gateway.text_models import Rote, Trigrams
from tests.unit.oip.server import Reply, call

MADE, _ = gateway(Trigrams(), Rote())
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2**70, 1.5, -1e300, "", "a", "user", "\ud800", [], [1], ["a"], [None], [[1]], {}, {"a": 1},
    {"type": "text", "text": "a"}, [{"type": "text", "text": 1}], {"include_usage": 1}, [{"role": []}],
]  # fmt: skip
ANYTHING = st.sampled_from(ODD)
MESSAGE = st.fixed_dictionaries({}, optional={"role": st.one_of(st.just("user"), ANYTHING), "content": ANYTHING})
MEMBERS = {
    "model": st.one_of(st.sampled_from(["embed", "rote"]), ANYTHING),
    "input": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=3), ANYTHING),
    "prompt": st.one_of(st.text(max_size=3), ANYTHING),
    "messages": st.one_of(st.lists(MESSAGE, max_size=3), ANYTHING),
    **dict.fromkeys(("stop", "seed", "stream_options", "tools", "response_format", "user", "logit_bias"), ANYTHING),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "dimensions", "temperature", "top_p", "n"), ANYTHING),
    **dict.fromkeys(("encoding_format", "stream"), ANYTHING),
}
BODIES = st.one_of(st.fixed_dictionaries({}, optional=MEMBERS), ANYTHING)


def posted(path: str, content: bytes) -> Reply:
    return asyncio.run(call(MADE.app, "POST", path, content, {}))


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(["embeddings", "completions", "chat/completions"]), body=BODIES)
@example(path="chat/completions", body={"model": "rote", "messages": [{"role": []}]})
def test_every_body_is_answered_or_refused(path: str, body: Any) -> None:
    reply = posted(f"/v1/{path}", json.dumps(body).encode())
    assert reply.status < 500, reply.body
    if reply.status != 200:
        error = reply.json["error"]
        assert (type(error["message"]), type(error["type"])) == (str, str)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"model": "embed", "input": "a"} x', b'{"a": NaN}'])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    reply = posted("/v1/embeddings", content)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
