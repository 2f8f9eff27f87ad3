"""Ray Serve 2.60 in three settings: its Python proxy, its HAProxy, and its HAProxy with the throughput setting.

One replica that gives the body back unread, over HTTP and over gRPC: whatever an answer takes beyond that is Serve's own. In the HAProxy
settings the requests go to the replica directly (Serve's direct ingress).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from peers.recipe import Command, Place

_APP = Path(__file__).with_name("apps") / "ray_serve_echo.py"


@dataclass(frozen=True, slots=True)
class RayServe:
    name: str
    settings: dict[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()  # the product's own environment has the Ray that it is compared with

    def command(self, place: Place) -> Command:
        env = {
            **self.settings,
            # Two such servers run side by side: the ports that Serve fixes are moved apart.
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(place.metrics_port),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(place.metrics_port + 1),
            # On a busy machine its proxy needs more than the 5 s that Serve grants it.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        argv = (str(place.python), str(_APP), str(place.http_port), str(place.grpc_port))
        return Command(argv, "/echo", env=env, ready_path="/echo", with_grpc=True)


RAY_SERVE = RayServe("ray_serve")
RAY_SERVE_HAPROXY = RayServe("ray_serve_haproxy", {"RAY_SERVE_ENABLE_HA_PROXY": "1"})
RAY_SERVE_HAPROXY_THROUGHPUT = RayServe(
    "ray_serve_haproxy_throughput", {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
)
