"""Reads amounts of memory as people write them: `20GB`, `512 MiB`, `1.5T`. The one place that does."""

from __future__ import annotations

import math
import re

from fabric.errors import UserError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)?", re.IGNORECASE)


def parse_bytes(text: str | float) -> int:
    """`20GB` -> 20,000,000,000; `20GiB` -> 21,474,836,480. A number alone is bytes.

    Raises: UserError (`bad_size`).
    """
    size = _size(text)
    if size is None or not math.isfinite(size) or not 0 <= size < 2**63:
        raise UserError(f"{text!r} is not an amount of memory", code="bad_size", hint="20GB, 512MiB or a number of bytes")
    return int(size)


def _size(text: object) -> float | None:
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return float(text)
    match = _AMOUNT.fullmatch(text.strip()) if isinstance(text, str) else None
    return None if match is None else float(match[1]) * _UNITS[(match[2] or "").lower()]
