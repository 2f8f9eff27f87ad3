"""OpenAI's own client against the gateway at URL, with the models of `tests/unit/gateway/text_models.py`. Runs in openai's own environment.

Usage: python openai_client.py URL
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import openai


def main(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    assert [model.id for model in client.models.list()] == ["embed", "rote"]
    assert client.models.retrieve("embed").object == "model"
    embeddings(client)
    generation(client)
    errors(client)
    asyncio.run(many(url))
    print("ok")


def embeddings(client: openai.OpenAI) -> None:
    # The client asks for base64 unless told otherwise.
    answer = client.embeddings.create(model="embed", input=["hello world", "hello there", "zebra"])
    one, near, far = (item.embedding for item in answer.data)
    assert answer.usage.prompt_tokens == 5
    assert dot(one, near) > dot(one, far) + 0.2
    as_numbers = client.embeddings.create(model="embed", input="hello world", encoding_format="float").data[0].embedding
    assert all(abs(a - b) < 1e-6 for a, b in zip(one, as_numbers, strict=True))
    assert len(client.embeddings.create(model="embed", input="hello", dimensions=8).data[0].embedding) == 8


def generation(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "one two three"}]
    whole = client.chat.completions.create(model="rote", messages=messages)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two three ", "stop")
    assert whole.usage is not None
    assert whole.usage.total_tokens == 6
    pieces = list(client.chat.completions.create(model="rote", messages=messages, stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "one two three "
    assert pieces[-1].usage is not None
    short = client.completions.create(model="rote", prompt="a b c", max_tokens=2)
    assert (short.choices[0].text, short.choices[0].finish_reason) == ("a b ", "length")
    assert "".join(piece.choices[0].text for piece in client.completions.create(model="rote", prompt="a b", stream=True)) == "a b "


def errors(client: openai.OpenAI) -> None:
    assert raised(lambda: client.embeddings.create(model="nope", input="x"), openai.NotFoundError).code == "model_not_found"
    assert raised(lambda: client.models.retrieve("nope"), openai.NotFoundError).code == "model_not_found"
    assert raised(lambda: client.embeddings.create(model="embed", input=[1, 2]), openai.BadRequestError).param == "input"
    assert raised(lambda: client.completions.create(model="embed", prompt="x"), openai.BadRequestError).code == "unsupported_model"
    raised(lambda: client.completions.create(model="rote", prompt="fail"), openai.InternalServerError)
    raised(lambda: list(client.completions.create(model="rote", prompt="one fail", stream=True)), openai.APIError)


async def many(url: str) -> None:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    answers = await asyncio.gather(*(client.embeddings.create(model="embed", input=f"text {i}") for i in range(50)))
    assert len({tuple(answer.data[0].embedding) for answer in answers}) > 40


def raised(call: Callable[[], Any], kind: type[openai.APIError]) -> Any:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main(sys.argv[1])
