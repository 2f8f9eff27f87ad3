"""Served models for people: what the API answers, as tables. Needs neither Ray nor numpy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fabric.show import duration, table

_SHOWN_OPTIONS = ("max_batch_size", "latency_budget_ms", "max_queued", "cache_bytes", "max_concurrency")


def render_models(document: Mapping[str, Any]) -> str:
    """`fabric model list`."""
    models = document["models"]
    if not models:
        return "no models are served; `fabric model deploy FILE` serves one"
    rows = [_row(model) for model in models]
    return table(["model", "version", "state", "platform", "runs on", "replicas", "requests", "p95"], rows, right=(1, 5, 6, 7))


def render_model(model: Mapping[str, Any], now_s: float | None = None) -> str:
    """`fabric model show`."""
    now_s = time.time() if now_s is None else now_s
    lines = [f"{model['name']}: version {model['default'] or '-'} answers"]
    if model.get("split"):
        lines = [f"{model['name']}: " + ", ".join(f"version {key} answers {share / 100:g} %" for key, share in model["split"].items())]
    if model.get("shadow"):
        lines.append(f"{model['shadow']['share'] / 100:g} % of what {model['shadow']['of']} answers is copied to {model['shadow']['to']}")
    if model.get("aliases"):
        lines.append("also called " + ", ".join(f"{alias} ({key})" for alias, key in sorted(model["aliases"].items())))
    for version in model["versions"]:
        lines += ["", *_version_lines(version, now_s)]
    return "\n".join(lines)


def _row(model: Mapping[str, Any]) -> list[str]:
    versions = {version["deployment"]: version for version in model["versions"]}
    shown = versions.get(model["default"]) or model["versions"][0]
    replicas = shown["replicas"]
    return [
        model["name"],
        shown["version"],
        shown["state"],
        shown["platform"] or "-",
        _place(shown["placement"]),
        _num_replicas(shown),
        f"{_sum(replicas, 'ongoing_requests'):.0f}" if replicas else "-",
        _p95(replicas),
    ]


def _version_lines(version: Mapping[str, Any], now_s: float) -> list[str]:
    state = f"{version['state']}: {version['why']}" if version["why"] else version["state"]
    lines = [
        f"version {version['version']} ({state}), deployed by {version['user']} {duration(now_s - version['created_s'])} ago",
        f"  runs on   {_place(version['placement'])}{_why_there(version['placement'])}",
        f"  takes     {_tensors(version['inputs'])}",
        f"  gives     {_tensors(version['outputs'])}",
        f"  replicas  {_num_replicas(version)}{_scaling(version['settings'])}",
    ]
    options = version["settings"].get("options") or {}
    said = ", ".join(f"{name} {options[name]}" for name in _SHOWN_OPTIONS if options.get(name))
    if said:
        lines.append(f"  options   {said}")
    for replica in version["replicas"]:
        stats = replica["stats"]
        figures = ", ".join(f"{name} {value:.3g}" for name, value in sorted(stats.items()))
        bridge = ", stands in until a replica runs" if replica["is_bridge"] else ""
        lines.append(f"    {replica['id']} at {replica['address']} on {replica['flavor'] or 'this machine'}{bridge}: {figures}")
    return lines + [f"  {duration(now_s - one['at'])} ago: {one['text']}" for one in version.get("decisions", ())]


def _place(placement: Mapping[str, Any]) -> str:
    if not placement.get("flavor"):
        return "-"
    twin = " (twin)" if placement.get("is_twin") else ""
    return f"{placement.get('tier', '')}/{placement['flavor']}{twin}"


def _why_there(placement: Mapping[str, Any]) -> str:
    return f": {placement['why']}" if placement.get("why") else ""


def _tensors(specs: list[Mapping[str, Any]]) -> str:
    shown = [f"{spec['name']}: {spec['datatype']}[{', '.join('?' if size < 0 else str(size) for size in spec['shape'])}]" for spec in specs]
    return ", ".join(shown) or "-"


def _num_replicas(version: Mapping[str, Any]) -> str:
    scale = version["settings"].get("autoscale")
    running = len(version["replicas"])
    if scale:
        return f"{running} of {scale['min']} to {scale['max']}"
    return f"{running} of {version['settings'].get('replicas', 1)}"


def _scaling(settings: Mapping[str, Any]) -> str:
    scale = settings.get("autoscale")
    return f", by {scale['metric']} to {scale['target']:g}" if scale else ""


def _sum(replicas: list[Mapping[str, Any]], name: str) -> float:
    return sum(float(replica["stats"].get(name, 0.0)) for replica in replicas)


def _p95(replicas: list[Mapping[str, Any]]) -> str:
    known = [float(replica["stats"]["latency_p95_ms"]) for replica in replicas if replica["stats"].get("latency_p95_ms")]
    return duration(max(known) / 1e3) if known else "-"
