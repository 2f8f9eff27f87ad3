"""What guards measured, in words and units."""

from __future__ import annotations

from fabric.show import duration, gib, usd
from serve_apps.rollout.block import GuardFigures


def kind_of(guard: str) -> str:
    """`latency_p95<=1.2x` -> `latency_p95`."""
    return guard.partition("=")[0].rstrip("<>")


def value_text(guard: str, value: float | None) -> str:
    """A figure of that guard's metric: `46.2 ms`, `0.52 %`, `$0.41`."""
    if value is None:
        return "-"
    metric = kind_of(guard)
    if metric.startswith("latency_"):
        return duration(value / 1e3)
    if metric in ("error_rate", "agreement"):
        return f"{100 * value:.4g} %"
    if metric == "cost_per_1000":
        return usd(value)
    return gib(value) if metric == "memory" else f"{value:.4g}"


def violation_text(figures: GuardFigures) -> str:
    """`latency_p95<=1.2x is violated: 46.2 ms where 33.7 ms is allowed (champion: 28.1 ms), 812 samples`."""
    parts = [f"{figures.guard} is violated: {value_text(figures.guard, figures.value)}"]
    if figures.bound is not None:
        parts.append(f"where {value_text(figures.guard, figures.bound)} is allowed")
    if figures.champion is not None:
        parts.append(f"(champion: {value_text(figures.guard, figures.champion)})")
    return f"{' '.join(parts)}, {figures.num_samples} samples"
