"""Carries a service to Ray Serve: the one file of this package that imports Ray.

One service is one Serve application with one deployment, at `/<name>`. All services of a fabric share its one HTTP server, whose
address the first `deploy` chooses. Where a service runs is asked of `fabric.client.placement`, never decided here.
"""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview

from fabric import client
from fabric.errors import ModelError, RuntimeFault, UnavailableError, UserError
from fabric.types import Placement, Resources
from serve_apps import autoscale
from serve_apps.model_service import DEFAULT_HOST, DEFAULT_PORT, Capture, Plan
from serve_apps.replica import Replica

Say = Callable[[str], None]

_POLL_S = 0.25
_NUM_CAUSE_LINES = 6
# A replica takes up a few calls ahead of the one that runs, so that health checks over HTTP pass beside slow predictions.
_MAX_ONGOING = 16
# A constructor that raised twice is taken to be wrong; Serve's own default would try for minutes.
_MAX_CONSTRUCTOR_TRIES = 2
# Name and namespace of Serve's controller: only it knows the address of an HTTP server that already runs.
_CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")


@dataclass(frozen=True, slots=True)
class Live:
    """A deployed service."""

    name: str
    url: str
    handle: DeploymentHandle[Any]

    def predict(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """One remote call, waited for. What `predict` raised on the replica is raised here as itself."""
        try:
            return self.handle.predict.remote(*args, **kwargs).result()
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, Exception) and not isinstance(cause, RayError):
                raise cause from None
            # The exception could not be pickled: only its text arrived.
            raise ModelError(f"predict failed on the replica: {_last_lines(str(error))}", code="predict_failed") from None
        except RayServeException as error:
            raise RuntimeFault(f"service {self.name} cannot be reached: {error}", code="service_unreachable") from error

    def delete(self) -> None:
        serve.delete(self.name)


def deploy(capture: Capture, plan: Plan, say: Say) -> Live:
    """Start or update the service and wait until it runs; a new one that fails is removed again."""
    placement = client.placement(Resources(num_cpus=plan.num_cpus), plan.tier)
    if not ray.is_initialized():
        # Serve would start a Ray of its own, beside the fabric.
        raise UnavailableError("not connected to a fabric", hint="call fabric.connect() first")
    base_url = _serve_address(plan, placement)
    is_new = plan.name not in serve.status().applications
    twin = " (twin)" if placement.is_twin else ""
    say(f"{plan.name}: placing {plan.replicas} replica(s) on {placement.tier}{twin}, first choice {placement.flavor}")
    target = serve.RunTarget(target=_application(capture, plan, placement), name=plan.name, route_prefix=f"/{plan.name}")
    try:
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        _wait_running(plan, is_new, say)
    except BaseException:  # also a Ctrl-C: a half-started service must not stay behind unseen
        if is_new:
            # What went wrong first is what the caller must hear of.
            with contextlib.suppress(RayError, RayServeException, TimeoutError):
                serve.delete(plan.name)
        raise
    url = f"{base_url}/{plan.name}"
    say(f"{plan.name}: serving at {url}")
    return Live(plan.name, url, serve.get_app_handle(plan.name))


def _application(capture: Capture, plan: Plan, placement: Placement) -> Any:
    """The Serve application of a plan: the only place where the replica class meets Serve."""
    options: dict[str, Any] = {"num_cpus": plan.num_cpus}
    if placement.label_selector:
        options["label_selector"] = dict(placement.label_selector)
    if placement.fallback_strategy:
        options["fallback_strategy"] = [{key: dict(labels) for key, labels in choice.items()} for choice in placement.fallback_strategy]
    amount: dict[str, Any] = {"num_replicas": plan.replicas} if plan.autoscale is None else {"autoscaling_config": _autoscaling(plan)}
    decorate = serve.deployment(
        name=plan.name,
        ray_actor_options=options,
        max_ongoing_requests=_MAX_ONGOING,
        max_constructor_retry_count=_MAX_CONSTRUCTOR_TRIES,
        **amount,
    )
    return decorate(Replica).bind(capture, plan.num_cpus, str(Path.cwd()))


def _autoscaling(plan: Plan) -> AutoscalingConfig:
    scale = plan.autoscale
    assert scale is not None
    with warnings.catch_warnings():
        # Serve deprecates metrics_interval_s for an environment variable that Ray 2.60 reads but never uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=scale.min,
            initial_replicas=plan.replicas,
            max_replicas=scale.max,
            metrics_interval_s=autoscale.REPORT_EVERY_S,
            look_back_period_s=autoscale.LOOK_BACK_S,
            upscale_delay_s=autoscale.UPSCALE_DELAY_S,
            downscale_delay_s=autoscale.DOWNSCALE_DELAY_S,
            policy=AutoscalingPolicy(
                policy_function=autoscale.CpuPolicy,
                policy_kwargs={
                    "metric": scale.metric,
                    "target": scale.target,
                    "tolerance_frac": autoscale.TOLERANCE_FRAC,
                    "min_replicas": scale.min,
                    "max_replicas": scale.max,
                },
            ),
        )


def _serve_address(plan: Plan, placement: Placement) -> str:
    """The base URL of the fabric's HTTP server, started here where there is none."""
    running = _running_address()
    host, port = running or (plan.host or DEFAULT_HOST, plan.port or DEFAULT_PORT)
    if running is None:
        _start_serve(host, port, placement)
    elif plan.host not in (None, host) or plan.port not in (None, port):
        raise UserError(
            f"this fabric serves on {host}:{port}; it cannot also serve on {plan.host or host}:{plan.port or port}",
            code="serve_address_differs",
            hint="leave host= and port= out",
        )
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def _running_address() -> tuple[str, int] | None:
    name, namespace = _CONTROLLER
    try:
        controller = ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None
    options = ray.get(controller.get_http_config.remote(), timeout=30)
    return str(options.host), int(options.port)


def _start_serve(host: str, port: int, placement: Placement) -> None:
    taken = RuntimeFault(f"port {port} of {host} is taken", code="port_taken", hint="deploy(port=...) chooses another", port=port)
    # Asked first because Serve's server shares a taken port (SO_REUSEPORT) with whatever other Serve listens there.
    if not _can_bind(host, port):
        raise taken
    # One machine has one such port: its twin nodes must not each start a server, and nothing outside reaches a loopback address.
    is_one_machine = placement.is_twin or host.startswith("127.") or host in ("localhost", "::1")
    location = ProxyLocation.HeadOnly if is_one_machine else ProxyLocation.EveryNode
    try:
        serve.start(proxy_location=location, http_options={"host": host, "port": port})
    except (RayError, RuntimeError, TimeoutError) as error:
        serve.shutdown()
        if "Failed to bind" in str(error):
            raise taken from error
        raise RuntimeFault(f"Serve did not start: {_last_lines(str(error))}", code="serve_not_started") from error


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without this, connections of a server that has just ended would still count as taking the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _wait_running(plan: Plan, is_new: bool, say: Say) -> None:
    started_s, said = time.monotonic(), ""
    while True:
        app = serve.status().applications.get(plan.name)
        state, num_running = _read(app)
        waited_s = time.monotonic() - started_s
        if state == "RUNNING":
            return
        if app is not None and state in ("DEPLOY_FAILED", "UNHEALTHY"):
            cause = "\n".join([app.message, *(part.message for part in app.deployments.values())])
            raise ModelError(
                f"{plan.name} did not start on its replica:\n{_last_lines(cause)}",
                code="constructor_failed",
                hint=".local() runs the same constructor here" if is_new else "the earlier version goes on answering; delete() ends it",
            )
        if waited_s > plan.timeout_s:
            raise RuntimeFault(
                f"{plan.name}: {num_running} of {plan.replicas} replicas run after {waited_s:.0f} s",
                code="deploy_timeout",
                hint=f"are {plan.num_cpus:g} CPUs free for each? deploy(timeout_s=...) waits longer",
            )
        line = f"{plan.name}: {num_running} of {plan.replicas} replicas run"
        if line != said:
            say(f"{line} ({waited_s:.0f} s)")
            said = line
        time.sleep(_POLL_S)


def _read(app: ApplicationStatusOverview | None) -> tuple[str, int]:
    """(Serve's state of the application, how many replicas run)."""
    if app is None:
        return "NOT_STARTED", 0
    counts = [count for part in app.deployments.values() for state, count in part.replica_states.items() if state == "RUNNING"]
    return str(app.status.value), sum(counts)


def _last_lines(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip(" ^~")]
    return "\n".join(lines[-_NUM_CAUSE_LINES:])
