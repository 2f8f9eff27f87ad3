"""The declared metrics as one form, and how they look in a terminal and on docs/metrics.md.

The form: {metrics: [{name, type, labels, help, buckets}]}; `name` is Prometheus', `buckets` of histograms are upper ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.metrics.declared import DECLARED
from fabric.show import table


def metrics_json() -> dict[str, Any]:
    """All of them, in the order of their declarations."""
    return {
        "metrics": [
            {
                "name": metric.exported,
                "type": metric.kind,
                "labels": list(metric.labels),
                "help": metric.help,
                "buckets": list(metric.bounds),
            }
            for metric in DECLARED.values()
        ]
    }


def format_metrics(document: Mapping[str, Any]) -> str:
    """The form for people."""
    return table(["metric", "type", "labels", "meaning"], [_row(one) for one in document["metrics"]])


def page_rows() -> list[str]:
    """The rows of docs/metrics.md."""
    return [
        f"| `{one['name']}` | {one['type']} | {', '.join(f'`{label}`' for label in one['labels'])} | {one['help']} |"
        for one in metrics_json()["metrics"]
    ]


def _row(one: Mapping[str, Any]) -> list[str]:
    return [one["name"], one["type"], ", ".join(one["labels"]), one["help"]]
