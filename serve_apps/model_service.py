"""A model as a class: constructing it captures the arguments, and only a replica (or `local()`) runs its `__init__`.

This file decides what a service is called and which `deploy` arguments are sound. It never imports Ray: `deploy` hands the captured
class and a checked plan to `serve_apps.deployment`.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from fabric.errors import UserError
from serve_apps.autoscaling.rule import Autoscale, parse_autoscale
from serve_apps.simple_json import check_arguments as check_arguments

if TYPE_CHECKING:
    from serve_apps.deployment import Live

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_NUM_CPUS = 0.1
"""Reserved per replica. Small: with CPU autoscaling a replica's CPU is measured, and several must fit on a laptop."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Capture:
    """A service class with its constructor's arguments, not yet run."""

    cls: type[ModelService]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    hints: Mapping[str, Any] | None = None
    """The annotations of `predict`, resolved where the class was defined: a copy that was carried elsewhere may not find their names."""

    def build(self) -> ModelService:
        """Run the constructor, here and now."""
        return type.__call__(self.cls, *self.args, **self.kwargs)  # type: ignore[no-any-return]

    def resolved_hints(self) -> Mapping[str, Any]:
        return predict_hints(self.cls) if self.hints is None else self.hints


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked arguments of one `deploy`. `host` and `port` are None where the caller leaves them to Serve as it runs."""

    name: str
    replicas: int
    autoscale: Autoscale | None
    num_cpus: float
    tier: str | None
    host: str | None
    port: int | None
    timeout_s: float

    def as_settings(self) -> dict[str, Any]:
        """What a replica and the directory need to know of it, as JSON."""
        scale = None if self.autoscale is None else asdict(self.autoscale)
        return {
            "replicas": self.replicas,
            "min_replicas": self.replicas if self.autoscale is None else self.autoscale.min,
            "autoscale": scale,
            "num_cpus": self.num_cpus,
            "timeout_s": self.timeout_s,
        }


class _Capturing(type):
    """Makes `SomeService(args)` capture instead of construct. What it returns is an instance whose `__init__` has not run."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        _check_predict(cls)
        try:
            inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
        except TypeError as error:
            raise UserError(f"{cls.__name__}: {error}", code="bad_arguments") from None
        service: ModelService = object.__new__(cast("type[ModelService]", cls))
        # An instance attribute hides the class's method of the same name, so `predict` keeps its signature for type checkers.
        vars(service).update(
            _capture=Capture(type(service), args, kwargs, predict_hints(cls)),
            _live=None,
            predict=functools.partial(_predict_remotely, service),
        )
        return service


class ModelService(metaclass=_Capturing):
    """Base class of served models: define `__init__` (load the model) and `predict` (one call).

    One replica runs one `predict` at a time, always in the thread that ran `__init__`: a service needs no locks. It runs in the
    directory in which `deploy` was called, where that directory exists on its machine.
    """

    _capture: Capture
    _live: Live | None

    def local(self) -> Self:
        """Build the service in this process: its `predict` then runs here."""
        return self._captured().build()  # type: ignore[return-value]

    def deploy(
        self,
        *,
        replicas: int | None = None,
        autoscale: Mapping[str, Any] | None = None,
        name: str | None = None,
        num_cpus: float = DEFAULT_NUM_CPUS,
        tier: str | None = None,
        host: str | None = None,
        port: int | None = None,
        timeout_s: float = 180.0,
        progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Start the replicas and wait until they run; deploying the same name again updates it.

        `replicas` is the number to start with (default: 1, or autoscale's `min`). `host` and `port` are those of the fabric's one
        HTTP server, and count when it is first started. `progress` receives one line per change (default: standard error).

        Raises: `UserError` for unsound arguments, `ModelError` (`constructor_failed`) where the constructor raises on a replica,
        `RuntimeFault` (`port_taken`, `deploy_timeout`).
        """
        capture = self._captured()
        plan = plan_deploy(
            capture.cls,
            replicas=replicas,
            autoscale=autoscale,
            name=name,
            num_cpus=num_cpus,
            tier=tier,
            host=host,
            port=port,
            timeout_s=timeout_s,
        )
        # Brings in Ray, which whoever only defines or tests a service does not need.
        from serve_apps import deployment

        self._live = deployment.deploy_service(capture, plan, progress or _to_stderr)
        return self

    @property
    def url(self) -> str:
        """Where the service answers: `<url>/predict` (POST), `<url>/healthz` (GET)."""
        return self._deployed().url

    def delete(self) -> None:
        """Stop all replicas. The captured arguments stay: `deploy` starts it again."""
        self._deployed().delete()
        self._live = None

    def _captured(self) -> Capture:
        capture = vars(self).get("_capture")
        if capture is None:
            raise UserError(f"this {type(self).__name__} is already built", code="already_built", hint="deploy the one you constructed")
        assert isinstance(capture, Capture)
        return capture

    def _deployed(self) -> Live:
        live = vars(self).get("_live")
        if live is None:
            raise UserError(
                f"{type(self).__name__} is not deployed",
                code="not_deployed",
                hint="call .deploy() to run it on the fabric, or .local() to run it here",
            )
        return live  # type: ignore[no-any-return]


def plan_deploy(
    cls: type[ModelService],
    *,
    replicas: int | None = None,
    autoscale: Mapping[str, Any] | None = None,
    name: str | None = None,
    num_cpus: float = DEFAULT_NUM_CPUS,
    tier: str | None = None,
    host: str | None = None,
    port: int | None = None,
    timeout_s: float = 180.0,
) -> Plan:
    """The arguments of `deploy`, checked. Raises: `UserError` with the value and the allowed range."""
    scale = None if autoscale is None else parse_autoscale(autoscale)
    if replicas is None:
        replicas = 1 if scale is None else max(1, scale.min)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
        raise UserError(f"replicas is {replicas!r}; it must be a whole number from 1", code="bad_replicas")
    if scale is not None and not scale.min <= replicas <= scale.max:
        raise UserError(
            f"replicas is {replicas}, outside autoscale's {scale.min} to {scale.max}",
            code="bad_replicas",
            hint="replicas is the number to start with",
        )
    chosen = service_name(cls) if name is None else name
    if not _NAME.fullmatch(chosen):
        raise UserError(f"service name {chosen!r} is not made of a-z, 0-9 and -", code="bad_name", hint="as in text-classifier")
    for what, value in (("num_cpus", num_cpus), ("timeout_s", timeout_s)):
        if not value > 0:
            raise UserError(f"{what} is {value!r}; it must be above 0", code=f"bad_{what}")
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"port is {port!r}; it must be 1 to 65535", code="bad_port")
    return Plan(chosen, replicas, scale, float(num_cpus), tier, host, port, timeout_s)


def service_name(cls: type[ModelService]) -> str:
    """`TextClassifier` -> `text-classifier`, `OCRModel` -> `ocr-model`."""
    return _WORD_START.sub("-", cls.__name__).replace("_", "-").strip("-").lower()


def predict_signature(cls: type[ModelService]) -> inspect.Signature:
    """The signature of `predict` without `self`."""
    return inspect.signature(getattr(object.__new__(cls), "predict"))  # noqa: B009 - the base class has no such attribute


def predict_hints(cls: type) -> dict[str, Any]:
    """The annotations of `predict` as objects, each on its own: one that cannot be resolved here is left out, which means JSON."""
    predict = inspect.unwrap(getattr(cls, "predict"))  # noqa: B009 - the base class has no such attribute
    known = getattr(predict, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in getattr(predict, "__annotations__", {}).items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, known, dict(vars(cls)))
            except Exception:  # whatever a user's annotation may raise
                continue
        found[name] = annotation
    return found


def _check_predict(cls: type) -> None:
    predict = getattr(cls, "predict", None)
    if not callable(predict):
        raise UserError(f"{cls.__name__} has no predict method", code="no_predict", hint="define `def predict(self, ...)`")
    for parameter in inspect.signature(predict).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name != "self":
            raise UserError(f"{cls.__name__}.predict takes {parameter.name!r} by position only", code="bad_predict", hint="drop the `/`")


def _predict_remotely(service: ModelService, /, *args: Any, **kwargs: Any) -> Any:
    live = service._deployed()
    signature = predict_signature(type(service))
    arguments = dict(signature.bind(*args, **kwargs).arguments)  # the same TypeError as a local call, and at once
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    return live.predict(arguments)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
