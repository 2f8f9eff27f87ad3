"""Queries of Prometheus over declared metrics, as the dashboard asks them. Pure text.

Invariants: names come from declarations only; a label that the dashboard has a variable for is filtered by it; a gauge that one owner
tells is counted once, also while an owner that was just started anew and the one before it are both remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.metrics.metric import Metric

SESSION = "SessionName"
"""Ray's own label: which cluster, since its start."""
VARIABLES = ("tier", "queue", "model")
RATE = "$__rate_interval"


def total(metric: Metric, *by: str, **of: str) -> str:
    """A gauge, summed over what `by` leaves out; `of`: only series with these labels."""
    return _grouped("sum", by, _once(metric, of))


def mean(metric: Metric, *by: str) -> str:
    """A gauge's mean."""
    return _grouped("avg", by, _once(metric))


def most(metric: Metric, *by: str) -> str:
    """A gauge's largest value."""
    return _grouped("max", by, _once(metric))


def rate(metric: Metric, *by: str) -> str:
    """A counter's growth per second."""
    return _grouped("sum", by, f"rate({metric.exported}{_where(metric)}[{RATE}])")


def part(metric: Metric, whole: Metric, *by: str) -> str:
    """One counter's growth as a part of another's: 0 where only the other one grows."""
    of = rate(whole, *by)
    return f"({rate(metric, *by)} or 0 * {of}) / {of}"


def rise(metric: Metric, *by: str, over: str = "$__range") -> str:
    """What a counter grew by."""
    return _grouped("sum", by, f"increase({metric.exported}{_where(metric)}[{over}])")


def quantile(frac: float, metric: Metric, *by: str, over: str = RATE) -> str:
    """Of a histogram; `frac`: 0.95. `over`: longer for what happens seldom."""
    buckets = f"rate({metric.exported}_bucket{_where(metric)}[{over}])"
    return f"histogram_quantile({frac}, {_grouped('sum', ('le', *by), buckets)})"


def rays(name: str, function: str, *by: str) -> str:
    """A gauge of Ray's own."""
    return _grouped(function, by, f'{name}{{{SESSION}=~"$session"}}')


def _once(metric: Metric, of: Mapping[str, str] | None = None) -> str:
    plain = f"{metric.exported}{_where(metric, of or {})}"
    return plain if metric.is_summed else _grouped("max", (SESSION, *metric.labels), plain)


def _where(metric: Metric, of: Mapping[str, str] | None = None) -> str:
    filters = [f'{SESSION}=~"$session"', *(f'{label}=~"${label}"' for label in metric.labels if label in VARIABLES)]
    filters += [f'{label}="{value}"' for label, value in (of or {}).items()]
    return "{" + ",".join(filters) + "}"


def _grouped(function: str, by: tuple[str, ...], inner: str) -> str:
    return f"{function} by ({', '.join(by)}) ({inner})" if by else f"{function}({inner})"
