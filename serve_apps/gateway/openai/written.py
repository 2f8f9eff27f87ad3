"""A model's text in OpenAI's form: whole, or as the chunks of a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Written:
    """Writes the answers of one request. `created_s`: wall clock."""

    id: str
    model: str
    created_s: int
    is_chat: bool

    def whole(self, texts: Sequence[str], reasons: Sequence[str], usage: Mapping[str, int]) -> dict[str, Any]:
        """`texts`, `reasons`: of each choice."""
        choices = [self._choice(i, text, reason) for i, (text, reason) in enumerate(zip(texts, reasons, strict=True))]
        return {**self._form(""), "choices": choices, "usage": dict(usage)}

    def first(self, index: int) -> bytes:
        """What a stream of a chat begins with: who speaks. Nothing for completions."""
        return self._event([self._part(index, {"role": "assistant", "content": ""}, "", None)]) if self.is_chat else b""

    def piece(self, index: int, text: str) -> bytes:
        return self._event([self._part(index, {"content": text}, text, None)])

    def last(self, index: int, reason: str) -> bytes:
        return self._event([self._part(index, {}, "", reason)])

    def usage(self, usage: Mapping[str, int]) -> bytes:
        return self._event([], usage=dict(usage))

    def _choice(self, index: int, text: str, reason: str) -> dict[str, Any]:
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text, "refusal": None}} if self.is_chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def _part(self, index: int, delta: Mapping[str, str], text: str, reason: str | None) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": delta} if self.is_chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._form(".chunk" if self.is_chat else ""), "choices": choices, **more})

    def _form(self, ending: str) -> dict[str, Any]:
        kind = "chat.completion" if self.is_chat else "text_completion"
        return {"id": self.id, "object": kind + ending, "created": self.created_s, "model": self.model}


def event(form: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(form) + b"\n\n"
