"""Reads protobuf's text format without a definition of its messages: each message is a mapping from a field's name to its values, in order.

Protobuf's own reader needs the definition: it can pass over a field that it does not know, but not over a list of messages, which nearly
every `config.pbtxt` has. Source: "Text Format Language Specification", protobuf.dev. Extensions and `Any` values are not read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

Message = dict[str, list[Any]]
MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""(?P<skip>[\s]+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[A-Za-z_][\w.]*)|"""
    r"""(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?))|(?P<mark>[{}\[\]<>:,;-])"""
)
_CLOSING = {"{": "}", "<": ">"}


def read_pbtxt(text: str) -> Message:
    """Text as `str`, numbers as `int` or `float`, enum values and booleans as their words. Raises: ValueError, with the line."""
    return _Reader(text).message("", 0)


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def message(self, end: str, depth: int) -> Message:
        """Fields until `end`; empty: until the text is over."""
        if depth > MAX_DEPTH:
            raise ValueError(f"messages nest deeper than {MAX_DEPTH}")
        found: Message = {}
        while (token := self._next())[1] != end:
            if token[0] != "word":
                raise _unexpected(token)
            found.setdefault(token[1], []).extend(self._values(depth))
            self._pass_over(",;")
        return found

    def _values(self, depth: int) -> list[Any]:
        self._pass_over(":")
        if self._peek() != "[":
            return [self._value(depth)]
        self._next()
        found: list[Any] = []
        while self._peek() != "]":
            found.append(self._value(depth))
            if self._peek() != "]" and self._next()[1] != ",":
                raise _unexpected(self._tokens[self._at - 1])
        self._next()
        return found

    def _value(self, depth: int) -> Any:
        kind, word, line = token = self._next()
        if kind == "mark" and word in _CLOSING:
            return self.message(_CLOSING[word], depth + 1)
        if kind == "text":
            parts = [word]
            while self._at < len(self._tokens) and self._tokens[self._at][0] == "text":
                parts.append(self._next()[1])
            return "".join(_unquoted(part, line) for part in parts)
        if kind == "number":
            return _number(word)
        if kind == "word":
            return word
        raise _unexpected(token)

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str, int]:
        if self._at >= len(self._tokens):
            self._at += 1
            return "end", "", 0
        self._at += 1
        return self._tokens[self._at - 1]

    def _pass_over(self, marks: str) -> None:
        if self._peek() and self._peek() in marks:
            self._at += 1


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {line}: {text[at : at + 20]!r} is not the text format")
        if match.lastgroup != "skip":
            yield str(match.lastgroup), match.group(), line
        line += match.group().count("\n")
        at = match.end()


def _number(word: str) -> int | float:
    if word.lower().removeprefix("-").startswith("0x"):
        return int(word, 16)
    plain = word.rstrip("fF")
    return int(plain) if re.fullmatch(r"-?\d+", plain) else float(plain)


def _unquoted(part: str, line: int) -> str:
    try:
        return str(ast.literal_eval(part))
    except (ValueError, SyntaxError):
        raise ValueError(f"line {line}: {part[:40]} is no text") from None


def _unexpected(token: tuple[str, str, int]) -> ValueError:
    kind, word, line = token
    return ValueError("it ends in the middle of a message" if kind == "end" else f"line {line}: {word[:40]!r} does not belong there")
