"""Puts the metrics of many replicas into one Prometheus text, told apart by the label `replica`.

Invariant: each family is written once, with its help and type, whichever replicas have it; a text that cannot be read is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


def merged(texts: Mapping[str, bytes]) -> bytes:
    """`texts`: Prometheus' text format, by replica."""
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        try:
            for family in text_string_to_metric_families(text.decode()):
                _add(families, family, replica)
        except (ValueError, UnicodeDecodeError):
            log.warning("metrics_unreadable replica=%s", replica)
    registry = CollectorRegistry()
    registry.register(_Collected(list(families.values())))
    return generate_latest(registry)


def _add(families: dict[str, Metric], family: Metric, replica: str) -> None:
    known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
    for sample in family.samples:
        known.samples.append(sample._replace(labels={**sample.labels, "replica": replica}))


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
