"""Reads lengths of time as people write them: `90s`, `5m`, `1h30m`, `7d`. The one place that does."""

from __future__ import annotations

import math
import re

from fabric.errors import UserError

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)"
_SPAN = re.compile(rf"(?:{_PART}\s*)+", re.IGNORECASE)
_PLAIN = re.compile(r"\d+(?:\.\d+)?")


def parse_duration(text: str | float) -> float:
    """`1h30m` -> 5400.0 seconds. A number alone, or a text that is one, is seconds. Never negative, always finite.

    Raises: UserError (`bad_duration`).
    """
    seconds = _seconds(text)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise UserError(f"{text!r} is not a length of time", code="bad_duration", hint="90s, 5m, 1h30m or 7d")
    return seconds


def _seconds(text: object) -> float | None:
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return float(text)
    if not isinstance(text, str):
        return None
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _SPAN.fullmatch(text):
        return None
    return sum(float(count) * _UNITS_S[unit.lower()] for count, unit in re.findall(_PART, text, re.IGNORECASE))
