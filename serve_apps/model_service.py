"""A model as a class: constructing it captures the arguments, and only a replica (or `local()`) runs its `__init__`.

It never imports Ray: `deploy` hands the captured class and a checked plan (`serve_apps.plan`) to `serve_apps.deployment`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from fabric.errors import UserError
from serve_apps.plan import DEFAULT_NUM_CPUS, plan_deploy
from serve_apps.plan import Plan as Plan
from serve_apps.serve_options import ServeArguments

if TYPE_CHECKING:
    from serve_apps.deployment import Live
    from serve_apps.rollout.spec import RolloutSpec


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

    def localised(self) -> Capture:
        """The same with its parts (services among the arguments) built here, each once, unless they are deployed."""
        built: dict[int, Any] = {}

        def here(argument: Any) -> Any:
            if not _is_captured(argument) or vars(argument)["_live"] is not None:
                return argument
            if id(argument) not in built:
                built[id(argument)] = argument.local()
            return built[id(argument)]

        kwargs = {key: here(argument) for key, argument in self.kwargs.items()}
        return replace(self, args=tuple(map(here, self.args)), kwargs=kwargs)

    def check_parts(self) -> None:
        """Raises: `UserError` (`part_not_deployed`): a replica reaches a part only where it is deployed."""
        for argument in (*self.args, *self.kwargs.values()):
            if _is_captured(argument) and vars(argument)["_live"] is None:
                part = type(argument).__name__
                raise UserError(
                    f"{self.cls.__name__} calls {part}, which is not deployed", code="part_not_deployed", hint="deploy it first"
                )

    def resolved_hints(self) -> Mapping[str, Any]:
        return predict_hints(self.cls) if self.hints is None else self.hints


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

    `predict` may be `def`, `async def`, or either with `yield`: it then streams. Unless `max_concurrency` says otherwise one replica runs
    one plain `predict` at a time, in the thread that ran `__init__`: a service needs no locks. Calls that are measured to take less than
    0.3 ms come to run on the server's own thread, which saves more than they take; `inline = False` in the class forbids it. An `async`
    service is built and called on an event loop of its own. It runs in the directory in which `deploy` was called, where that directory
    exists on its machine.

    `has_side_effects = True` in the class says that it does more than answer: no request is sent to it twice, and none is copied to it.

    Class attributes named as the options of `deploy` (`max_batch_size`, `max_queued`, …) are their defaults. `kind` says what a model of
    text is for: `embeddings` or `generate`.
    """

    _capture: Capture
    _live: Live | None

    def local(self) -> Self:
        """Build the service in this process: its `predict` then runs here. Services among its arguments that are not deployed, too."""
        return self._captured().localised().build()  # type: ignore[return-value]

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
        latency_target_ms: float | None = None,
        domain: str = "other",
        progress: Callable[[str], None] | None = None,
        rollout: RolloutSpec | None = None,
        **options: Unpack[ServeArguments],
    ) -> Self:
        """Start the replicas and wait until they run; deploying the same name again updates it.

        `replicas` is the number to start with (default: 1, or autoscale's `min`). `host` and `port` are those of the fabric's one
        HTTP server, and count when it is first started. `rollout`: a `Canary`; the version before goes on answering, and this one proves
        itself step by step (see `fabric rollout status`). `options`: see `ServeOptions`. `progress` receives one line per change
        (default: standard error).

        Raises: `UserError` for unsound arguments (`part_not_deployed` for a service among the constructor's arguments), `ModelError`
        (`constructor_failed`) where the constructor raises on a replica, `RuntimeFault` (`port_taken`, `deploy_timeout`).
        """
        capture = self._captured()
        capture.check_parts()
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
            latency_target_ms=latency_target_ms,
            domain=domain,
            **options,
        )
        # Brings in Ray, which whoever only defines or tests a service does not need.
        from serve_apps import deployment

        self._live = deployment.deploy_service(capture, plan, progress or _to_stderr, rollout)
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
    """As `predict` is written: an `async` one is awaited, one with `yield` iterated."""
    live = service._deployed()
    signature = predict_signature(type(service))
    arguments = dict(signature.bind(*args, **kwargs).arguments)  # the same TypeError as a local call, and at once
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    predict = getattr(type(service), "predict")  # noqa: B009 - the base class has no such attribute
    if inspect.iscoroutinefunction(predict):
        return asyncio.to_thread(live.predict, arguments)
    if inspect.isasyncgenfunction(predict):
        return _items_later(live, arguments)
    result = live.predict(arguments)
    return iter(result) if inspect.isgeneratorfunction(predict) else result


async def _items_later(live: Live, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
    for item in await asyncio.to_thread(live.predict, arguments):
        yield item


def _is_captured(argument: Any) -> bool:
    return isinstance(argument, ModelService) and "_capture" in vars(argument)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
