"""Registered versions for people: tables that fit a terminal. Needs neither Ray nor numpy."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fabric.fitted import fitted
from fabric.job_form import ago
from fabric.registry.version import ModelVersion, RegisteredModel

_MOST = {"version": 24, "aliases": 24, "framework": 22, "size": 9, "state": 10, "user": 12, "registered": 14}


def render_versions(versions: Sequence[ModelVersion], now_s: float | None = None) -> str:
    """One row each: what it is called, and what is said and measured of it."""
    if not versions:
        return "none; `fabric model register FILE --name NAME` registers one"
    now_s = time.time() if now_s is None else now_s
    rows = [_row(version, now_s) for version in versions]
    return fitted(
        ["version", "aliases", "framework", "size", "state", "user", "registered", "said of it"], rows, most=_MOST, right=["size"]
    )


def render_version(version: ModelVersion) -> str:
    """`resnet:3`, and what it takes and gives."""
    signature = "not known" if version.signature is None else str(version.signature)
    return f"{version.ref}  {version.framework}, {size(version.size_bytes)}: {signature}"


def render_aliases(model: RegisteredModel) -> str:
    said = ", ".join(f"{alias} is {number}" for alias, number in sorted(model.aliases.items()))
    return f"{model.name}: {said or 'no aliases'}"


def size(num_bytes: int) -> str:
    """`209 B`, `12 KB`, `97.8 MB`, `1.2 GB`."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    for limit, unit, name in ((1e6, 1e3, "KB"), (1e9, 1e6, "MB")):
        if num_bytes < limit:
            return f"{num_bytes / unit:.3g} {name}"
    return f"{num_bytes / 1e9:.3g} GB"


def _row(version: ModelVersion, now_s: float) -> list[str]:
    said = [version.why] if version.why else []
    said += [f"{name} {value:.4g}" for name, value in version.metrics.items()]
    said += [f"{key}={value}" for key, value in version.metadata.items()]
    return [
        version.ref,
        ", ".join(version.aliases),
        version.framework,
        size(version.size_bytes),
        version.state,
        version.user,
        ago(version.created_s, now_s),
        ", ".join(said),
    ]
