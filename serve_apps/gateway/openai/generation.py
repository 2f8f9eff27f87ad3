"""`/v1/completions` and `/v1/chat/completions`: what is asked of the model, and its text in OpenAI's form, whole or piece by piece.

A model that takes a text input `messages` gets a chat as JSON. Any other gets a chat of one message as that message, and a longer one as
lines `role: content`, ending in `assistant:`. Source: OpenAI's API reference, "Completions" and "Chat".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fabric.errors import UserError
from serve_apps.gateway.openai import fields
from serve_apps.tensors import ModelMetadata

_ROLES = ("assistant", "developer", "system", "user")
"""A tuple: what is looked for in it may be anything, unhashable too."""
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "logprobs": (False, 0), "top_logprobs": (0,), "echo": (False,), "suffix": ("",), "logit_bias": ({},),
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"), "audio": (),
    "modalities": (["text"],), "response_format": ({"type": "text"},), "web_search_options": (), "prediction": (),
}  # fmt: skip
"""Members that would change the answer, and the values that ask for nothing. Others that we do not know change nothing, and are let be."""
_NUMBERS = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "presence_penalty": (-2.0, 2.0), "frequency_penalty": (-2.0, 2.0)}


@dataclass(frozen=True, slots=True)
class Generation:
    """`prompts`: one for each choice. `with_usage`: a stream's last chunk tells the tokens."""

    model: str
    is_chat: bool
    prompts: Sequence[str]
    parameters: Mapping[str, Any]
    is_stream: bool = False
    with_usage: bool = False


def read_completion(document: fields.Document) -> Generation:
    """Raises: UserError with `param`."""
    return _read(document, fields.texts(document, "prompt", most=64), is_chat=False)


def read_chat(document: fields.Document, metadata: ModelMetadata) -> Generation:
    """Raises: UserError with `param`."""
    messages = _messages(document)
    if metadata.text_input == "messages":
        prompt = json.dumps(messages, ensure_ascii=False)
    elif len(messages) == 1:
        prompt = messages[0]["content"]
    else:
        prompt = "\n".join([*(f"{message['role']}: {message['content']}" for message in messages), "assistant:"])
    return _read(document, [prompt], is_chat=True)


def check_generates(metadata: ModelMetadata) -> None:
    """Raises: UserError (`unsupported_model`)."""
    if metadata.kind != "generate" or not metadata.text_output:
        raise UserError(f"model {metadata.name!r} generates no text", code="unsupported_model", param="model")


def _read(document: fields.Document, prompts: Sequence[str], *, is_chat: bool) -> Generation:
    for name, harmless in _REFUSED.items():
        value = document.get(name)
        if value is not None and value not in harmless:
            raise fields.wrong(name, f"{name} is not supported", code="unsupported_value")
    options = document.get("stream_options") or {}
    if not isinstance(options, dict):
        raise fields.wrong("stream_options", "stream_options is an object")
    is_stream = fields.flag(document, "stream")
    with_usage = is_stream and fields.flag(options, "include_usage")
    return Generation(fields.text(document, "model"), is_chat, prompts, _parameters(document), is_stream, with_usage)


def _parameters(document: fields.Document) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, (least, most) in _NUMBERS.items():
        value = fields.number(document, name, least, most)
        if value is not None:
            parameters[name] = value
    most_tokens = fields.count(document, "max_completion_tokens") or fields.count(document, "max_tokens")
    if most_tokens is not None:
        parameters["max_tokens"] = most_tokens
    seed = document.get("seed")
    if seed is not None:
        if type(seed) is not int or not -(2**63) <= seed < 2**63:
            raise fields.wrong("seed", "seed is a whole number of 64 bits")
        parameters["seed"] = seed
    stop = document.get("stop")
    if stop is not None:
        stops = fields.texts(document, "stop", most=16)
        parameters["stop"] = stop if isinstance(stop, str) else orjson.dumps(stops).decode()
    return parameters


def _messages(document: fields.Document) -> list[dict[str, str]]:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise fields.wrong("messages", "messages is a list of at least one message")
    return [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise fields.wrong(where, f"{where} is an object with a role of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
            raise fields.wrong(f"{where}.content", "only parts of text are supported", code="unsupported_value")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise fields.wrong(f"{where}.content", f"{where}.content is a text")
    return {"role": message["role"], "content": content}
