"""Ray Serve as the directory needs it: one application for each version of a model. The one file of this package that starts Serve.

Serve keeps replicas alive, scales and replaces them. Requests do not pass through it: its own HTTP server stays off.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, ProxyLocation
from ray.serve.schema import ApplicationStatusOverview

from fabric import ray_io
from fabric.config import FabricConfig
from fabric.model_runs import gpu_percent
from fabric.ray_io import NAMESPACE
from serve_apps.autoscaling.rule import Autoscale
from serve_apps.autoscaling.serve_policy import ServePolicy, serve_options
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.requests import ACTOR, AppState
from serve_apps.ray_directory import RayDirectory, open_runs, replica_place
from serve_apps.replica import DRAIN_S, SETTLE_S, Replica
from serve_apps.replica_logs import last_log_lines
from serve_apps.replica_settings import settings_for

_NUM_CAUSE_LINES = 6
# Python's remote calls only; HTTP and gRPC requests are counted by the replica itself.
_MAX_ONGOING = 1000
# A constructor that raised twice is taken to be wrong; Serve's own default would try for minutes.
_MAX_CONSTRUCTOR_TRIES = 2
_HEALTH_S = 5.0
_starting = threading.Lock()
"""Of two that start Serve at once, one fails."""


def wake(record: DeployRecord, timeout_s: float) -> None:
    """Make Serve start a replica where it has none: its autoscaler counts the requests that wait for a handle. Returns when there is
    one. Raises: UnavailableError, RuntimeFault."""
    try:
        serve.get_app_handle(record.app).wake.remote().result(timeout_s=timeout_s)
    except Exception as error:  # whatever Serve or Ray raises
        raise ray_io.mapped(error) from error


class RayServe:
    """See `ServePort`. `is_open`: whether requests need no token."""

    def __init__(self, config: FabricConfig, *, is_open: bool, host: str) -> None:
        self._config = config
        self._is_open = is_open
        self._host = host

    def start(self, record: DeployRecord) -> None:
        with _starting:
            serve.start(proxy_location=ProxyLocation.Disabled)
        target = serve.RunTarget(target=self._application(record), name=record.app, route_prefix=None)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def state(self, record: DeployRecord) -> AppState:
        return _read(serve.status().applications.get(record.app))

    def delete(self, record: DeployRecord) -> None:
        serve.delete(record.app)

    def logs(self, record: DeployRecord, max_lines: int) -> str:
        return last_log_lines(ray_io.session_directory() / "logs" / "serve", record.app, max_lines)

    def _application(self, record: DeployRecord) -> Any:
        settings, place = record.settings, record.placement
        options: dict[str, Any] = {"num_cpus": settings["num_cpus"]}
        for key in ("label_selector", "fallback_strategy"):
            if place.get(key):
                options[key] = place[key]
        options.update(place.get("ray_options", {}))
        if settings.get("runtime_env"):
            options["runtime_env"] = settings["runtime_env"]
        amount: dict[str, Any] = {"num_replicas": settings["replicas"]}
        if settings.get("autoscale"):
            amount = {"autoscaling_config": _autoscaling(Autoscale(**settings["autoscale"]), int(settings["replicas"]))}
        decorate = serve.deployment(
            name=record.name,
            ray_actor_options=options,
            max_ongoing_requests=_MAX_ONGOING,
            max_constructor_retry_count=_MAX_CONSTRUCTOR_TRIES,
            health_check_period_s=_HEALTH_S,
            graceful_shutdown_wait_loop_s=0.2,
            graceful_shutdown_timeout_s=DRAIN_S + SETTLE_S + 5.0,
            **amount,
        )
        return decorate(Replica).bind(
            settings_for(record, self._config, is_open=self._is_open, host=self._host),
            RayDirectory(),
            replica_place,
            open_runs,
            gpu_percent,
        )


def _autoscaling(rule: Autoscale, initial: int) -> AutoscalingConfig:
    options = serve_options(rule, tell=(ACTOR, NAMESPACE, "scaled"))
    kwargs = options.pop("policy_kwargs")
    with warnings.catch_warnings():
        # Serve deprecates metrics_interval_s for an environment variable that Ray 2.60 reads but never uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = AutoscalingPolicy(policy_function=ServePolicy, policy_kwargs=kwargs)
        return AutoscalingConfig(initial_replicas=initial, policy=policy, **options)


def _read(app: ApplicationStatusOverview | None) -> AppState:
    if app is None:
        return AppState("absent")
    num_running = sum(count for part in app.deployments.values() for state, count in part.replica_states.items() if state == "RUNNING")
    state = str(app.status.value)
    if state == "RUNNING":
        return AppState("running", num_running)
    if state in ("DEPLOY_FAILED", "UNHEALTHY"):
        cause = "\n".join([app.message, *(part.message for part in app.deployments.values())])
        return AppState("failed", num_running, last_lines(cause))
    return AppState("starting", num_running)


def last_lines(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip(" ^~")]
    return "\n".join(lines[-_NUM_CAUSE_LINES:])
