"""Counts and times what passes the gateway, for Prometheus.

Invariants: labels are names and versions from the table only, never what a caller sent; a request costs two additions.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve_apps.gateway.holding import Holding
from serve_apps.gateway.routes import Routes, Target

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
UNKNOWN = "none"


class GatewayMetrics:
    """A registry of its own, so that several gateways may live in one process."""

    def __init__(self, routes: Routes, holding: Holding) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fabric_gateway_requests", "Requests answered.", ("model", "version", "protocol", "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "fabric_gateway_request_seconds",
            "Time from a request's arrival to its last byte, the model's included.",
            ("model", "version", "protocol"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_TableCollector(routes, holding))
        # A look-up by labels takes as long as the addition itself.
        self._counted: dict[tuple[str, str, str, str], Counter] = {}
        self._timed: dict[tuple[str, str, str], Histogram] = {}

    def answered(self, target: Target | None, protocol: str, code: str, took_s: float) -> None:
        """`target` None: no model was found. `code`: the status in the protocol's own words."""
        model, version = (target.model, target.deployment) if target else (UNKNOWN, UNKNOWN)
        key = (model, version, protocol, code)
        counter = self._counted.get(key)
        if counter is None:
            counter = self._counted[key] = self._requests.labels(*key)
        counter.inc()
        timer = self._timed.get(key[:3])
        if timer is None:
            timer = self._timed[key[:3]] = self._seconds.labels(*key[:3])
        timer.observe(took_s)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _TableCollector(Collector):
    """What the table and the queues hold at the moment of asking."""

    def __init__(self, routes: Routes, holding: Holding) -> None:
        self._routes = routes
        self._holding = holding

    def collect(self) -> Iterable[Metric]:
        labels = ("model", "version")
        replicas = GaugeMetricFamily("fabric_gateway_replicas", "Replicas in the table.", labels=labels)
        ongoing = GaugeMetricFamily("fabric_gateway_ongoing_requests", "Requests of this gateway at replicas.", labels=labels)
        held = GaugeMetricFamily("fabric_gateway_held_requests", "Requests that wait for a replica to wake.", labels=labels)
        num_held = self._holding.num_held()
        for target in self._routes.targets():
            key = (target.model, target.deployment)
            replicas.add_metric(key, len(target.replicas))
            ongoing.add_metric(key, sum(map(self._routes.outstanding, target.replicas)))
            held.add_metric(key, num_held.get(key, 0))
        return (replicas, ongoing, held)
