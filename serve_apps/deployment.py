"""Takes a version from the deployer's process to the directory, and waits until it answers. The directory carries it from there.

Where it runs is asked of `fabric.client`, never decided here.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from fabric import client, ray_io
from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.errors import ModelError, RuntimeFault, UnavailableError, UserError
from fabric.offers import ModelPrior, read_prior
from fabric.registry.version import ModelVersion
from fabric.types import Fingerprint, Placement
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.requests import ACTOR, DeployRequest, Progress
from serve_apps.ingress.settings import IngressSettings
from serve_apps.ingress.shell import ACTOR as INGRESS
from serve_apps.model_service import Capture
from serve_apps.place_model import Wish, place_model, placement_json
from serve_apps.plan import Plan
from serve_apps.registry.deploying import source_of
from serve_apps.registry.reading import word_for
from serve_apps.rollout.spec import RolloutSpec
from serve_apps.runtimes.formats import recognise
from serve_apps.serve_port import last_lines
from serve_apps.source import FileSource, ServiceSource, Source, put_source

Say = Callable[[str], None]

_POLL_S = 0.2
_APPLIED_S = 10.0
_AWAY_S = 60.0
_RESOLVED_FOR_S = 2.0
"""Shorter than an earlier version lives on."""


@dataclass(slots=True)
class Live:
    """A deployed model. `rest`: the URL of the fabric's REST server; `grpc`: the address of the other one."""

    name: str
    version: str
    rest: str
    grpc: str
    _shares: Mapping[str, int] = field(default_factory=dict)
    _handles: dict[str, DeploymentHandle[Any]] = field(default_factory=dict)
    _resolved_s: float = -math.inf

    @property
    def url(self) -> str:
        """Of the plain dialect: `<url>/predict`."""
        return f"{self.rest}/{self.name}"

    def predict(self, arguments: Mapping[str, Any]) -> Any:
        """One remote call with arguments by name, waited for, to a version that answers now. What `predict` raised on the replica is
        raised here as itself."""
        handle = self._handle()
        try:
            return handle.predict.remote(dict(arguments)).result()
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, Exception) and not isinstance(cause, RayError):
                raise cause from None
            # The exception could not be pickled: only its text arrived.
            raise ModelError(f"predict failed on the replica: {last_lines(str(error))}", code="predict_failed") from None
        except RayServeException as error:
            self._resolved_s = -math.inf
            raise RuntimeFault(f"model {self.name} cannot be reached: {error}", code="service_unreachable") from error

    def _handle(self) -> DeploymentHandle[Any]:
        """Of who answers this call, drawn by the model's split. It is asked for every few seconds, since others deploy too."""
        now_s = time.monotonic()
        if not self._shares or now_s - self._resolved_s >= _RESOLVED_FOR_S:
            with contextlib.suppress(UnavailableError):  # while it is away what was known goes on
                self._shares = ray_io.ask(ray_io.actor(ACTOR).shares.remote(self.name))
            self._handles = {app: handle for app, handle in self._handles.items() if app in self._shares}
            self._resolved_s = now_s
        apps = self._shares or {f"{self.name}.v{self.version}": 1}
        (app,) = random.choices(list(apps), list(apps.values()))
        if app not in self._handles:
            self._handles[app] = serve.get_app_handle(app)
        return self._handles[app]

    def delete(self) -> None:
        ray_io.ask(ray_io.actor(ACTOR).delete.remote(self.name))


def find(name: str) -> Live:
    """A model that is deployed. Raises: UnknownNameError (`unknown_model`), UnavailableError where this fabric serves none."""
    record: DeployRecord = _patiently(lambda: ray_io.actor(ACTOR).record.remote(name))
    settings: IngressSettings = _patiently(lambda: ray_io.actor(INGRESS).settings.remote())
    return Live(name, record.version, settings.url, settings.grpc_address)


def deploy_service(capture: Capture, plan: Plan, say: Say, rollout: RolloutSpec | None = None) -> Live:
    """A captured service. Raises: as `ModelService.deploy`."""
    source = ServiceSource.of(capture.cls, capture.args, capture.kwargs, capture.hints)
    prior = ModelPrior(fingerprint=Fingerprint(domain=plan.domain, phase="inference"))
    return _deploy(source, plan, prior, say, f"class {capture.cls.__qualname__}", rollout=rollout)


def deploy_path(path: Path, plan: Plan, say: Say, rollout: RolloutSpec | None = None) -> Live:
    """A model file or folder. Raises: ModelError (`model_not_found`), and as `ModelService.deploy`."""
    say(f"{plan.name}: storing {path.name}")
    source = FileSource.of(path.absolute(), ArtefactStore(client.current().config.storage))
    found = recognise(path)
    prior = read_prior(path) if path.is_file() else ModelPrior()
    return _deploy(source, plan, prior, say, str(path), framework=word_for(found) if found else "unknown", rollout=rollout)


def deploy_version(version: ModelVersion, plan: Plan, say: Say, rollout: RolloutSpec | None = None) -> Live:
    """A registered version, as it was registered. Raises: UserError (`artefact_not_found`), and as `ModelService.deploy`."""
    source = source_of(version, ArtefactStore(client.current().config.storage))
    return _deploy(
        source, plan, ModelPrior(), say, version.source, framework=version.framework, rollout=rollout, number=str(version.number)
    )


def _deploy(
    source: Source,
    plan: Plan,
    prior: ModelPrior,
    say: Say,
    origin: str,
    *,
    framework: str = "",
    rollout: RolloutSpec | None = None,
    number: str = "",
) -> Live:
    """Start the next version and wait until it answers; where it does not start, the version before goes on answering."""
    wish = Wish(plan.name, plan.num_cpus, plan.tier, plan.latency_target_ms, plan.replicas)
    prior = (prior or ModelPrior()).declared(plan.domain)
    choice = place_model(wish, prior)
    placement = choice.placement
    if not ray.is_initialized():
        # Serve would start a Ray of its own, beside the fabric.
        raise UnavailableError("not connected to a fabric", hint="call fabric.connect() first")
    ingress = _serving(plan, placement)
    config = client.current().config
    digest = put_source(source, ArtefactStore(config.storage))
    twin = " (twin)" if placement.is_twin else ""
    say(f"{plan.name}: placing {plan.replicas} replica(s) on {placement.tier}{twin}, first choice {choice.explain()}")
    request = DeployRequest(
        plan.name, config.user, plan.as_settings(), digest, placement_json(choice, prior), number, framework=framework, origin=origin,
        rollout=None if rollout is None else rollout.as_json(),
    )  # fmt: skip
    directory = ray_io.actor(ACTOR)
    record: DeployRecord = ray_io.ask(directory.deploy.remote(request))
    try:
        _wait_ready(directory, record, say)
    except BaseException:  # also a Ctrl-C: a half-started version must not stay behind unseen
        ray_io.ask(directory.abandon.remote(record.name, record.key))
        raise
    seq = ray_io.ask(directory.table_after.remote(-1, 0.0)).seq
    ray_io.ask(ray_io.actor(INGRESS).applied.remote(seq, _APPLIED_S))
    live = Live(plan.name, record.version, ingress.url, ingress.grpc_address)
    say(f"{plan.name}: serving at {live.url}")
    return live


def _serving(plan: Plan, placement: Placement) -> IngressSettings:
    """Where this fabric answers, started where it does not yet. Raises: UserError (`serve_address_differs`), RuntimeFault."""
    fabric = client.current()
    try:
        ingress = ray_io.actor(INGRESS)
    except UnavailableError:
        if fabric.start_serving is None:
            raise UnavailableError("a worker cannot start serving", hint="deploy from a program that called fabric.connect()") from None
        fabric.start_serving(_with_address(fabric.config, plan), placement.is_twin)
        ingress = ray_io.actor(INGRESS)
    settings: IngressSettings = _patiently(lambda: ingress.settings.remote())
    if plan.host not in (None, settings.host) or plan.port not in (None, settings.port):
        raise UserError(
            f"this fabric serves on {settings.host}:{settings.port}; it cannot also serve on "
            f"{plan.host or settings.host}:{plan.port or settings.port}",
            code="serve_address_differs",
            hint="leave host= and port= out",
        )
    return settings


def _with_address(config: FabricConfig, plan: Plan) -> FabricConfig:
    given = {key: value for key, value in (("host", plan.host), ("port", plan.port)) if value is not None}
    return config.model_copy(update={"serving": config.serving.model_copy(update=given)})


def _wait_ready(directory: Any, record: DeployRecord, say: Say) -> None:
    started_s, said = time.monotonic(), ""
    while True:
        progress: Progress = _patiently(lambda: directory.progress.remote(record.name, record.key))
        state, why = progress.record.state, progress.record.why
        if state == "failed":
            raise _failure(progress)
        line = f"{record.name}: {progress.num_running} of {progress.num_wanted} replicas run"
        if line != said:  # the last line too: a start between two looks is still told
            say(f"{line} ({time.monotonic() - started_s:.0f} s){f': {why}' if why else ''}")
            said = line
        if state == "ready":
            return
        time.sleep(_POLL_S)


def _patiently(ask: Callable[[], Any]) -> Any:
    """The answer of an actor that may be restarting. Raises: UnavailableError where it stays away."""
    deadline_s = time.monotonic() + _AWAY_S
    while True:
        try:
            return ray_io.ask(ask())
        except UnavailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


def _failure(progress: Progress) -> Exception:
    record = progress.record
    if record.why.startswith("deploy_timeout"):
        num_cpus = record.settings["num_cpus"]
        return RuntimeFault(
            f"{record.name}: {progress.num_running} of {progress.num_wanted} replicas run after {record.settings['timeout_s']:g} s",
            code="deploy_timeout",
            hint=f"are {num_cpus:g} CPUs free for each? deploy(timeout_s=...) waits longer",
        )
    return ModelError(
        f"{record.name} did not start on its replica:\n{record.why}",
        code="constructor_failed",
        hint="what answered before goes on answering" if record.key != "1" else ".local() runs the same constructor here",
    )
