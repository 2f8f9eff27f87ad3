"""What models, versions and aliases may be called, and the words that name them: `resnet`, `resnet:3`, `resnet:champion`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fabric.errors import UserError

MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ALIAS = re.compile(r"[a-z]([a-z0-9_-]{0,61}[a-z0-9])?")
LATEST = "latest"
"""The highest active number; no alias may be called so."""
MAX_NUMBER = 2**31 - 1


class Ref(NamedTuple):
    """A model, and the word for one of its versions: a number, an alias, or `latest`."""

    name: str
    word: str = LATEST


def check_name(name: str) -> str:
    """Raises: UserError (`bad_name`)."""
    if not MODEL_NAME.fullmatch(name):
        raise UserError(
            f"model name {name[:80]!r} is not made of a-z, 0-9 and -", code="bad_name", hint="1 to 63 characters, as text-classifier"
        )
    return name


def check_alias(alias: str) -> str:
    """Raises: UserError (`bad_alias`)."""
    if not ALIAS.fullmatch(alias) or alias == LATEST:
        hint = f"{LATEST} is always the highest active number" if alias == LATEST else "a-z, 0-9, - and _, from a letter on, as champion"
        raise UserError(f"{alias[:80]!r} cannot be an alias", code="bad_alias", hint=hint)
    return alias


def number_of(word: str) -> int | None:
    """The number that a word is; None: it is none, and so may be an alias."""
    return int(word) if word.isascii() and word.isdecimal() and 0 < int(word[:11]) <= MAX_NUMBER and len(word) <= 10 else None


def parse_ref(text: str) -> Ref:
    """`resnet:3`, `resnet:champion`, `resnet`. Raises: UserError (`bad_name`, `bad_version`)."""
    name, colon, word = text.partition(":")
    check_name(name)
    return Ref(name, check_word(word)) if colon else Ref(name)


def check_word(word: str) -> str:
    """A word that can name a version. Raises: UserError (`bad_version`)."""
    if word != LATEST and number_of(word) is None and not ALIAS.fullmatch(word):
        raise UserError(f"{word[:80]!r} names no version", code="bad_version", hint="a number from 1, an alias, or latest")
    return word


def parse_number(text: str) -> int:
    """A version by its number alone. Raises: UserError (`bad_version`)."""
    number = number_of(text)
    if number is None:
        raise UserError(f"{text[:80]!r} is not the number of a version", code="bad_version", hint="a whole number from 1")
    return number


def parse_aliases(words: Sequence[str]) -> dict[str, int | None]:
    """`["champion=2", "old="]` -> `{"champion": 2, "old": None}`: None takes the alias away.

    Raises: UserError (`bad_alias`, `bad_version`; `duplicate_alias` where one is named twice).
    """
    found: dict[str, int | None] = {}
    for word in words:
        alias, equals, number = word.partition("=")
        if not equals:
            raise UserError(f"{word[:80]!r} is not ALIAS=VERSION", code="bad_alias", hint="champion=2; champion= takes it away")
        if alias in found:
            raise UserError(f"alias {alias!r} is named twice", code="duplicate_alias", hint="an alias stands for one version")
        found[check_alias(alias)] = parse_number(number) if number else None
    return found
