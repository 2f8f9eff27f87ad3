"""Adds the statistics of a version's replicas, which each count their own requests, to those of the version.

Pure. Counts and durations add, times of a last event take the latest, `batch_stats` add by batch size; names are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Form = Mapping[str, Any]


def added(forms: Sequence[Form]) -> Form:
    """One entry of `model_stats` for those of all replicas. `forms`: at least one."""
    total: dict[str, Any] = dict(forms[0])
    for form in forms[1:]:
        total = _both(total, form)
    return total


def _both(one: Form, other: Form) -> dict[str, Any]:
    total = dict(one)
    for key, value in other.items():
        total[key] = _merged(key, total[key], value) if key in total else value
    return total


def _merged(key: str, one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _both(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return _by_batch_size(one, other)
    if isinstance(one, bool) or not isinstance(one, int | float) or not isinstance(other, int | float):
        return one
    return max(one, other) if key.startswith("last_") else one + other


def _by_batch_size(one: Sequence[Form], other: Sequence[Form]) -> list[Form]:
    sizes: dict[Any, Form] = {}
    for form in (*one, *other):
        size = form.get("batch_size")
        if size in sizes:
            sizes[size] = {**_both(sizes[size], form), "batch_size": size}
        else:
            sizes[size] = form
    return sorted(sizes.values(), key=lambda form: form.get("batch_size", 0))
