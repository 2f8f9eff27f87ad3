"""Reads members of a JSON body, and names the one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.errors import UserError

Document = Mapping[str, Any]


def wrong(param: str, message: str, *, code: str = "invalid_value") -> UserError:
    """An error of one member of the body."""
    return UserError(message, code=code, param=param)


def text(document: Document, name: str) -> str:
    """A text that must be there and not empty. Raises: UserError."""
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise wrong(name, f"{name} is a text that is not empty")
    return value


def flag(document: Document, name: str) -> bool:
    """False where absent. Raises: UserError."""
    value = document.get(name)
    if value is None:
        return False
    if type(value) is not bool:
        raise wrong(name, f"{name} is true or false")
    return value


def count(document: Document, name: str) -> int | None:
    """A whole number from 1. Raises: UserError."""
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value < 2**31:
        raise wrong(name, f"{name} is a whole number from 1")
    return value


def number(document: Document, name: str, least: float, most: float) -> float | None:
    """Raises: UserError."""
    value = document.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not least <= value <= most:
        raise wrong(name, f"{name} is a number from {least:g} to {most:g}")
    return float(value)


def texts(document: Document, name: str, most: int = 2048) -> list[str]:
    """One text or a list of them. Token numbers, which OpenAI takes as well, are refused: only the model's tokenizer knows them.

    Raises: UserError.
    """
    value = document.get(name)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise wrong(name, f"{name} is a text or a list of texts")
    if any(isinstance(item, int | list) for item in value):
        raise wrong(name, f"{name} holds token numbers, which are not supported: send text", code="tokens_not_supported")
    if not all(isinstance(item, str) for item in value):
        raise wrong(name, f"{name} is a text or a list of texts")
    if len(value) > most:
        raise wrong(name, f"{name} holds {len(value)} texts, and at most {most} are taken")
    return value
