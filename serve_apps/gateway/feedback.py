"""What users post back about answers, summed up here until the ingress takes it to the directory: one row for each metric and deployment.

Invariants: what is posted is checked; at most `MAX_ROWS` rows wait; `note` and `take` may be called from different threads.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fabric.errors import RejectedError, UserError
from serve_apps.directory.observed import Sum

MAX_ROWS = 1_000
_METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_MEMBERS = ("metric", "value", "version", "user_key")


class FeedbackRow(NamedTuple):
    """The values of one metric that were posted since the last time: how many, their sum, the sum of their squares."""

    model: str
    deployment: str
    metric: str
    num_values: int
    total: float
    squares: float


class Posted(NamedTuple):
    """One value. It is of the answer that `version` (a number or an alias) gave, or the one that `user_key` was given."""

    metric: str
    value: float
    version: str
    user_key: str


def read_feedback(document: Mapping[str, Any]) -> Posted:
    """Raises: UserError (`bad_feedback`)."""
    unknown = next((name for name in document if name not in _MEMBERS), None)
    if unknown is not None:
        raise _bad(f"{unknown[:100]!r} is no member of feedback", hint=f"it has {', '.join(_MEMBERS)}")
    metric, value = document.get("metric"), document.get("value")
    if not isinstance(metric, str) or not _METRIC.fullmatch(metric):
        raise _bad("metric is a name of letters, digits, '_', '.' and '-', at most 64")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        raise _bad("value is a number")
    version, user_key = document.get("version"), document.get("user_key")
    if (version is None) == (user_key is None):
        raise _bad("feedback names a version or a user_key", hint="the version stands in the answer, as model_version")
    given = version if user_key is None else user_key
    if not isinstance(given, str) or not 0 < len(given) <= 256:
        raise _bad("version and user_key are texts of 1 to 256 characters")
    return Posted(metric, float(value), version or "", user_key or "")


class Feedback:
    """The sums that wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str], Sum] = {}

    def note(self, model: str, deployment: str, metric: str, value: float) -> None:
        """Raises: RejectedError (`queue_full`): more different ones than can wait."""
        self._add((model, deployment, metric), Sum(1, value, value * value))

    def take(self) -> list[FeedbackRow]:
        """All that waits; it waits no longer."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return [FeedbackRow(*key, one.count, one.total, one.squares) for key, one in sums.items()]

    def put_back(self, rows: Iterable[FeedbackRow]) -> None:
        """Rows that could not be delivered wait for the next time, as far as there is room."""
        for row in rows:
            try:
                self._add((row.model, row.deployment, row.metric), Sum(row.num_values, row.total, row.squares))
            except RejectedError:
                return

    def _add(self, key: tuple[str, str, str], one: Sum) -> None:
        with self._lock:
            known = self._sums.get(key)
            if known is None and len(self._sums) >= MAX_ROWS:
                raise RejectedError("too much feedback waits", code="queue_full", retryable=True, retry_after_s=2.0)
            self._sums[key] = one if known is None else known + one


def _bad(why: str, hint: str = "") -> UserError:
    return UserError(why, code="bad_feedback", hint=hint or None)
