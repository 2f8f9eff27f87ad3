"""Guards as people write them: `latency_p95<=1.2x`, `error_rate<=+0.5%`, `metric:conversion>=-2%`.

A guard compares the challenger's figure with a bound, `scale` times the champion's figure plus `shift`; an absolute bound has `scale` 0.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from fabric.errors import UnknownNameError, UserError

Kind = Literal["latency", "error_rate", "agreement", "drift", "cost_per_1000", "memory", "metric"]

METRICS = ("latency_p50", "latency_p90", "latency_p95", "latency_p99", "error_rate", "agreement", "drift", "cost_per_1000", "memory")
"""What a guard may name, beside `metric:NAME` and other percentiles of latency."""
DEFAULT_GUARDS = ("latency_p95<=1.2x", "error_rate<=+0.5%")
PLACE_GUARDS = (*DEFAULT_GUARDS, "agreement>=0.98", "cost_per_1000<=1x")
"""Of a version that is compared with itself at another place."""
COPYING: tuple[Kind, ...] = ("agreement", "drift")
"""Guards that compare answers to the same request, and so need shadow copies."""
FIGURES: tuple[Kind, ...] = ("cost_per_1000", "memory")
"""Guards that judge plain numbers, without chance in them."""

_GUARD = re.compile(r"(?P<metric>[A-Za-z_][\w.:/-]*?)\s*(?P<sense><=|>=|<|>|==?)\s*(?P<bound>\S.*)")
_BOUND = re.compile(r"(?P<sign>[+-]?)(?P<dollar>\$?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>x|%|ms|s)?", re.IGNORECASE)
_LATENCY = re.compile(r"latency_p(\d{1,2}(?:\.\d+)?)")
_USER_METRIC = re.compile(r"metric:([A-Za-z_][\w.-]{0,62})")
_AT_LEAST: tuple[Kind, ...] = ("agreement",)
_EXAMPLES: dict[Kind, str] = {
    "latency": "latency_p95<=1.2x, latency_p95<=+20ms or latency_p95<=200ms",
    "error_rate": "error_rate<=+0.5%, error_rate<=1.5x or error_rate<=1%",
    "agreement": "agreement>=0.98 or agreement>=98%",
    "drift": "drift<=0.05",
    "cost_per_1000": "cost_per_1000<=1x, cost_per_1000<=+5% or cost_per_1000<=$0.40",
    "memory": "memory<=1.5x",
    "metric": "metric:conversion>=-2%, metric:conversion>=0.98x, metric:revenue>=-0.10 or metric:rating>=4.2",
}
_UNITS: dict[Kind, tuple[str, ...]] = {
    "latency": ("x", "%", "ms", "s"),
    "error_rate": ("x", "%", ""),
    "agreement": ("%", ""),
    "drift": ("",),
    "cost_per_1000": ("x", "%", ""),
    "memory": ("x", "%"),
    "metric": ("x", "%", ""),
}


@dataclass(frozen=True, slots=True)
class Guard:
    """`text`: as it was written. Within: figure <= `scale` x champion + `shift` (`is_at_most`), or >= it. `tail`: of a latency, the part
    of the requests that may be slower (p95: 0.05). `shift`: ms for latencies, a share of 1 for rates, USD for cost, else the metric's unit.
    `name`: of a user's metric."""

    text: str
    kind: Kind
    is_at_most: bool
    scale: float
    shift: float
    tail: float = 0.0
    name: str = ""

    @property
    def is_absolute(self) -> bool:
        return self.scale == 0.0

    @property
    def is_strict(self) -> bool:
        """Whether a version exactly like the champion would stand at the bound or beyond it."""
        if self.is_absolute:
            return False
        return self.scale <= 1.0 and self.shift <= 0.0 if self.is_at_most else self.scale >= 1.0 and self.shift >= 0.0


def parse_guard(text: str) -> Guard:
    """`latency_p95<=1.2x`: at most 1.2 times the champion's. A bound with `x`, or with a sign, is relative to the champion (`+0.5%` of an
    error rate is percentage points); one without is absolute.

    Raises: UserError (`bad_guard`), UnknownNameError (`unknown_guard_metric`).
    """
    found = _GUARD.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise UserError(f"{text!r} is not a guard", code="bad_guard", hint=f"a metric, <= or >=, and a bound: {', '.join(DEFAULT_GUARDS)}")
    kind, tail, name = _metric(found["metric"])
    sense = found["sense"]
    if sense not in ("<=", ">="):
        raise _bad(text, f"{sense!r} is not a comparison of guards", "<= or >=")
    is_at_most = sense == "<="
    if kind != "metric" and is_at_most == (kind in _AT_LEAST):
        raise _bad(text, f"{found['metric']} is better the {'higher' if is_at_most else 'lower'} it is", f"as in {_EXAMPLES[kind]}")
    scale, shift = _bound(text, kind, found["bound"])
    compact = f"{found['metric']}{sense}{found['bound'].strip()}"
    return Guard(compact, kind, is_at_most, scale, shift, tail, name)


def parse_guards(texts: tuple[str, ...] | list[str]) -> tuple[Guard, ...]:
    """Distinct metrics, in the order given; the default ones where none is given."""
    guards = tuple(parse_guard(text) for text in texts or DEFAULT_GUARDS)
    metrics = [guard.text.partition("=")[0].rstrip("<>") for guard in guards]
    for guard, metric in zip(guards, metrics, strict=True):
        if metrics.count(metric) > 1:
            raise _bad(guard.text, f"there are {metrics.count(metric)} guards on {metric}", "one bound for each metric")
    return guards


def _metric(word: str) -> tuple[Kind, float, str]:
    if word.startswith("metric:"):
        user = _USER_METRIC.fullmatch(word)
        if user is None:
            raise UserError(f"{word!r} is not a metric's name", code="bad_guard", hint="metric:NAME, of letters, digits, _ . and -")
        return "metric", 0.0, user[1]
    latency = _LATENCY.fullmatch(word)
    if latency is not None and 0 < float(latency[1]) < 100:
        return "latency", round(1 - float(latency[1]) / 100, 9), ""
    for kind in ("error_rate", "agreement", "drift", "cost_per_1000", "memory"):
        if word == kind:
            return kind, 0.0, ""
    known = UnknownNameError.of("guard metric", word, METRICS)
    raise UnknownNameError(known.message, code=known.code, hint=f"{known.hint} What you post back yourself is metric:NAME", name=word)


def _bound(text: str, kind: Kind, bound: str) -> tuple[float, float]:
    """(scale, shift)."""
    found = _BOUND.fullmatch(bound.strip())
    unit = (found["unit"] or "").lower() if found else ""
    if found is None or unit not in _UNITS[kind] or (found["dollar"] and kind != "cost_per_1000"):
        raise _bad(text, f"{bound.strip()!r} is no bound for it", _EXAMPLES[kind])
    number = float(found["number"]) * (-1 if found["sign"] == "-" else 1)
    is_relative = bool(found["sign"])
    if unit == "x":
        scale, shift = number, 0.0
    elif unit == "%" and kind in ("error_rate", "agreement"):
        scale, shift = float(is_relative), number / 100
    elif unit == "%":
        scale, shift = 1 + number / 100, 0.0
        if not is_relative:
            raise _bad(text, "a percentage of the champion's figure needs a sign", _EXAMPLES[kind])
    else:
        scale, shift = float(is_relative), number * (1000.0 if unit == "s" else 1.0)
    _check(text, kind, scale, shift)
    return scale, shift


def _check(text: str, kind: Kind, scale: float, shift: float) -> None:
    is_rate = kind in ("error_rate", "agreement")
    if kind in ("agreement", "drift") and scale:
        raise _bad(text, "it is measured against the champion's answers already, so its bound has no sign", _EXAMPLES[kind])
    if scale < 0 or (scale == 0 and kind != "metric" and not shift > 0) or not math.isfinite(scale + shift):
        raise _bad(text, "no version could ever be within it", _EXAMPLES[kind])
    if is_rate and not -1 < shift < 1:
        raise _bad(text, "a rate is a share from 0 to 1, or a percentage below 100", _EXAMPLES[kind])
    if scale and shift < 0 and kind == "error_rate":
        raise _bad(text, "a rate of errors below the champion's cannot be asked for in points", "error_rate<=0.5x")


def _bad(text: str, what: str, hint: str) -> UserError:
    return UserError(f"guard {text!r}: {what}", code="bad_guard", hint=hint)
