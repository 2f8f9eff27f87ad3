"""`Observed` as plain JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from serve_apps.directory.observed import Observed, Sum

_COUNTS = ("latency_counts", "shadow_latency_counts")


def observed_to_json(observed: Observed) -> dict[str, Any]:
    body = asdict(observed)
    return {**body, **{key: {str(bucket): count for bucket, count in body[key].items()} for key in _COUNTS}}


def observed_from_json(body: Mapping[str, Any]) -> Observed:
    """Unknown keys, of a later release, are left out."""
    known = {key: value for key, value in body.items() if key in Observed.__slots__}
    counts = {key: {int(bucket): count for bucket, count in known.get(key, {}).items()} for key in _COUNTS}
    metrics = {name: Sum(**values) for name, values in known.get("metrics", {}).items()}
    return Observed(**{**known, **counts, "drift": Sum(**known.get("drift", {})), "metrics": metrics})


def is_behind(now: Observed, before: Observed) -> bool:
    """Whether any sum has fallen: then these are not the same sums, and their difference means nothing."""
    return (
        now.num_errors < before.num_errors
        or now.num_compared < before.num_compared
        or now.num_agreed < before.num_agreed
        or now.drift.count < before.drift.count
        or any(now.latency_counts.get(bucket, 0) < count for bucket, count in before.latency_counts.items())
        or any(now.metrics.get(name, Sum()).count < values.count for name, values in before.metrics.items())
    )
